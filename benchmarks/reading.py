"""Reading 200 x 512 x 512 16-bit CT slices, against the readers that people use today.

    python benchmarks/reading.py [--repeats N] [--folder SERIES]

Builds one series in four transfer syntaxes: from the chest CT in ``shared/data`` beside the
checkout (its 133 slices interpolated to 200), or from a noisy phantom where that is absent. Each
reading is a fresh process, the readers take turns, and medians are given. A process first reads
three slices of the same syntax, so that imports and codec loading are not in the time; they are
given apart. Memory is the largest sum of the proportional set size (PSS) of the process and its
children, sampled every 10 ms in a run of its own. All readers must give the same voxels.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT.parent / "shared" / "data" / "ct-chest-lidc-idri-0001" / "LIDC-IDRI-0001.tar.xz"
RESULTS = Path(__file__).resolve().parent / "results"
SYNTAXES = {
    "raw": "1.2.840.10008.1.2.1",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "RLE": "1.2.840.10008.1.2.5",
}
SLICES = 200
WARM = 3


# ---- the series -------------------------------------------------------------------------------


def stored_slices() -> tuple[str, np.ndarray, list[Any]]:
    """What the series is made of, stored values (200, 512, 512) int16, and a header for each slice."""
    import pydicom

    if not SOURCE.exists():
        return "noisy phantom", *_phantom()
    import tarfile

    headers: list[Any] = []
    with tarfile.open(SOURCE) as archive:
        for member in archive:
            opened = archive.extractfile(member) if member.isreg() else None
            if opened is not None and member.name.endswith(".dcm"):
                headers.append(pydicom.dcmread(opened))
    headers.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    stack = np.stack([ds.pixel_array for ds in headers]).astype(np.float32)
    places = np.linspace(0, len(headers) - 1, SLICES)
    lower = np.minimum(places.astype(int), len(headers) - 2)
    weight = (places - lower).astype(np.float32)[:, None, None]
    array = np.rint(stack[lower] * (1 - weight) + stack[lower + 1] * weight).astype(np.int16)
    return (
        f"chest CT LIDC-IDRI-0001, {len(headers)} slices interpolated to {SLICES}",
        array,
        [headers[n] for n in lower],
    )


def _phantom() -> tuple[np.ndarray, list[Any]]:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, generate_uid

    random = np.random.default_rng(1)
    rows, columns = np.mgrid[-1:1:512j, -1:1:512j]
    body = np.where(rows**2 / 0.5 + columns**2 < 0.8, 1064, 24)
    array = np.stack([body + random.normal(0, 20, body.shape) for _ in range(SLICES)]).astype(np.int16)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.SOPClassUID, ds.Modality = CTImageStorage, "CT"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = (generate_uid() for _ in range(3))
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness, ds.RescaleSlope, ds.RescaleIntercept = [0.7, 0.7], 1.5, 1, -1024
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    return array, [ds] * SLICES


def build(folder: Path) -> str:
    """Write the series in each syntax below ``folder``; returns what it is made of."""
    about, array, headers = stored_slices()
    for name, uid in SYNTAXES.items():
        for part, count in (("warm", WARM), ("full", SLICES)):
            place = folder / name / part
            place.mkdir(parents=True)
            order = np.random.default_rng(2).permutation(count)
            for k in range(count):
                _write(place / f"{order[k]:04d}.dcm", headers[k], array[k], k, uid)
    return about


def _write(path: Path, header: Any, pixels: np.ndarray, k: int, syntax_uid: str) -> None:
    import copy

    import imagecodecs
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID

    ds = copy.deepcopy(header)
    ds.file_meta.TransferSyntaxUID = UID(syntax_uid)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.10.543.{k + 1}"
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.InstanceNumber = k + 1
    ds.ImagePositionPatient = [*ds.ImagePositionPatient[:2], round(-340.0 + k * 1.5, 4)]
    ds.SliceThickness = "1.5"
    ds.Rows, ds.Columns = pixels.shape
    pixels = pixels.astype("<i2")
    if syntax_uid == SYNTAXES["raw"]:
        ds.PixelData = pixels.tobytes()
    elif syntax_uid == SYNTAXES["RLE"]:
        ds.PixelData = encapsulate([_rle(pixels)])
        ds["PixelData"].is_undefined_length = True
    else:
        unsigned = pixels.view(np.uint16)
        if syntax_uid == SYNTAXES["JPEG-LS"]:
            data = imagecodecs.jpegls_encode(unsigned)
        else:
            data = imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True, level=0)
        ds.PixelData = encapsulate([data])
        ds["PixelData"].is_undefined_length = True
    ds["PixelData"].VR = "OW" if syntax_uid == SYNTAXES["raw"] else "OB"
    ds.save_as(path, enforce_file_format=True)


def _rle(pixels: np.ndarray) -> bytes:
    """DICOM RLE (PS3.5 annex G): the high bytes, then the low bytes, PackBits for each row."""
    import imagecodecs

    planes = (pixels.view(np.uint16) >> 8).astype(np.uint8), (pixels.view(np.uint16) & 255).astype(np.uint8)
    segments = [b"".join(imagecodecs.packbits_encode(row.tobytes()) for row in plane) for plane in planes]
    segments = [segment + b"\0" * (len(segment) % 2) for segment in segments]
    offsets = [64, 64 + len(segments[0])]
    return struct.pack("<16L", 2, *offsets, *[0] * 13) + b"".join(segments)


# ---- the readers: each gives (slices, rows, columns) of HU ------------------------------------


def hounsfield_reader(folder: Path) -> np.ndarray:
    """hounsfield, in its limited child processes as always."""
    from hounsfield.reading import read

    return read(folder).array


def pydicom_reader(folder: Path) -> np.ndarray:
    """A plain pydicom loop: read, sort by position, rescale to float32."""
    import pydicom

    slices = [pydicom.dcmread(path) for path in folder.iterdir()]
    slices.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    return np.stack(
        [ds.pixel_array.astype(np.float32) * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in slices]
    ).astype(np.float32)


def simpleitk_reader(folder: Path) -> np.ndarray:
    """SimpleITK's ImageSeriesReader with GDCM's file order."""
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return sitk.GetArrayFromImage(reader.Execute())


def monai_pydicom_reader(folder: Path) -> np.ndarray:
    """MONAI's LoadImage with its PydicomReader."""
    return _monai(folder, "PydicomReader")


def monai_itk_reader(folder: Path) -> np.ndarray:
    """MONAI's LoadImage with its ITKReader."""
    return _monai(folder, "ITKReader")


def _monai(folder: Path, reader: str) -> np.ndarray:
    from monai.transforms import LoadImage

    image = LoadImage(reader=reader, image_only=True)(folder)
    array = np.asarray(image).transpose(2, 1, 0)
    return array if float(image.affine[2, 2]) > 0 else array[::-1]


READERS: dict[str, tuple[Callable[[Path], np.ndarray], str]] = {
    "hounsfield": (hounsfield_reader, "hounsfield"),
    "SimpleITK ImageSeriesReader": (simpleitk_reader, "SimpleITK"),
    "plain pydicom loop": (pydicom_reader, "pydicom"),
    "MONAI PydicomReader": (monai_pydicom_reader, "monai"),
    "MONAI ITKReader": (monai_itk_reader, "itk"),
}


def read_once(reader: str, folder: Path) -> dict[str, Any]:
    """One reading in this (fresh) process."""
    started = time.perf_counter()
    function = READERS[reader][0]
    function(folder / "warm")
    warm = time.perf_counter()
    array = function(folder / "full")
    seconds = time.perf_counter() - warm
    digest = hashlib.sha256(np.ascontiguousarray(array, dtype=np.float32)).hexdigest()
    return {
        "seconds": seconds,
        "first_use_seconds": warm - started,
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "sha256_float32": digest,
    }


# ---- measuring --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One reader on one syntax."""

    reader: str
    syntax: str
    seconds: float
    all_seconds: list[float]
    first_use_seconds: float
    peak_mib: float
    dtype: str
    sha256_float32: str


def _run(reader: str, folder: Path, sample: bool = False) -> tuple[dict[str, Any], float]:
    command = [sys.executable, "-W", "ignore", __file__, "--one", reader, "--folder", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        peak = 0
        while sample and process.poll() is None:
            peak = max(peak, sum(_pss(pid) for pid in _tree(process.pid)))
            time.sleep(0.01)
        out, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"{reader} failed on {folder}")
    return json.loads(out), peak / 1024


def _tree(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def _pss(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)


def measure(folder: Path, repeats: int) -> tuple[list[Row], dict[str, str]]:
    """All readers on all syntaxes, in turns."""
    absent = {name: f"{module} is not installed" for name, (_, module) in READERS.items() if _missing(module)}
    present = [name for name in READERS if name not in absent]
    answers: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for number in range(repeats):
        for syntax in SYNTAXES:
            for name in present:
                answers.setdefault((name, syntax), []).append(_run(name, folder / syntax)[0])
        print(f"round {number + 1} of {repeats} done, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    rows = []
    for (name, syntax), several in answers.items():
        _, peak = _run(name, folder / syntax, sample=True)
        seconds = [one["seconds"] for one in several]
        first_use = statistics.median(one["first_use_seconds"] for one in several)
        last = several[-1]
        rows.append(
            Row(
                name,
                syntax,
                statistics.median(seconds),
                seconds,
                first_use,
                peak,
                last["dtype"],
                last["sha256_float32"],
            )
        )
    return rows, absent


def _missing(module: str) -> bool:
    return importlib.util.find_spec(module) is None


def _environment() -> dict[str, Any]:
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    names = ("hounsfield", "pydicom", "imagecodecs", "SimpleITK", "monai", "itk", "numpy", "pylibjpeg-openjpeg")
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": versions,
    }


def table(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    rows = report["rows"]
    readers = list(dict.fromkeys(row["reader"] for row in rows))
    cells = {(row["reader"], row["syntax"]): row for row in rows}
    lines = [
        "# Reading 200 x 512 x 512 16-bit CT slices",
        "",
        "Generated by `python benchmarks/reading.py`. Seconds (median) and peak MiB (PSS of the process and its",
        "children); the files are in the page cache. First use: importing and reading three slices (median).",
        "",
        f"Series: {report['series']}. Voxels equal between all readers in all syntaxes: "
        f"**{'yes' if report['voxels_equal'] else 'NO'}**.",
        "",
        "|reader|" + "|".join(SYNTAXES) + "|first use s|",
        "|---" * (len(SYNTAXES) + 2) + "|",
    ]
    for reader in readers:
        best = []
        for syntax in SYNTAXES:
            row = cells[reader, syntax]
            fastest = min(cells[other, syntax]["seconds"] for other in readers)
            seconds = f"{row['seconds']:.2f} s"
            best.append(f"{f'**{seconds}**' if row['seconds'] == fastest else seconds}; {row['peak_mib']:.0f} MiB")
        first = statistics.median(cells[reader, syntax]["first_use_seconds"] for syntax in SYNTAXES)
        lines.append(f"|{reader}|" + "|".join(best) + f"|{first:.1f}|")
    for name, reason in report["absent"].items():
        lines.append(f"|{name}|" + "|".join("–" for _ in SYNTAXES) + f"|{reason}|")
    machine = report["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    low, high = min(report["load"]), max(report["load"])
    busy = "the machine was quiet" if high < 1.5 else "**the machine was busy with other work: trust ratios only**"
    lines += [
        "",
        f"{report['repeats']} interleaved repeats. {machine['cpu']}, {machine['cores']} cores, Python "
        f"{machine['python']}. {versions}. Load average {low:.1f} before, {high:.1f} at most; {busy}.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Build, measure, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the built series is, or will be, kept")
    parser.add_argument("--one", choices=READERS, help="(used by itself) read once in this process")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(read_once(options.one, options.folder)))
        return
    with tempfile.TemporaryDirectory(prefix="hounsfield-bench-") as temporary:
        folder = options.folder or Path(temporary)
        marker = folder / "about.txt"
        if not marker.exists():
            about = build(folder)
            marker.write_text(about)
        before = os.getloadavg()[0]
        rows, absent = measure(folder, options.repeats)
        load = [before, os.getloadavg()[0]]
        report = {
            "series": marker.read_text(),
            "repeats": options.repeats,
            "load": load,
            "voxels_equal": len({row.sha256_float32 for row in rows}) == 1,
            "environment": _environment(),
            "absent": absent,
            "rows": [asdict(row) for row in rows],
        }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "reading.json").write_text(json.dumps(report, indent=2) + "\n")
    (RESULTS / "reading.md").write_text(table(report))
    print(table(report))


if __name__ == "__main__":
    main()
