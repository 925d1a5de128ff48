"""The QIBA digital reference objects as DICOM, read by the package, with a least-squares fit beside it.

Version 4 (extended Tofts: Ktrans, ve, vp) and version 6 (standard Tofts) have known constants by position. Each
is written as the scanners write it: every time point a series of its own, one a second, repetition time and
flip angle in the header, T1 1,000 ms. Each patch becomes 5 x 5 pixels, of which the inner 3 x 3 are compared. The fit
(Tofts, least squares) gets the object's own plasma curve and the concentrations of the same time points that the
network reads, and again of all of them.

Usage: python reference_objects.py ../../../shared/data/mr-dce PACKAGE OUT_FOLDER
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from hounsfield.findings.perfusion import Perfusion, fit_tofts
from hounsfield.preparing.contrast import GradientEcho
from hounsfield.usecases.job import Choices
from hounsfield.usecases.run import run

Floats = NDArray[np.float64]
SIDE, SLICES, LENGTH_S, STEP_S, T1_MS, RELAXIVITY = 5, 3, 288, 8, 1000.0, 4.5


@dataclass(frozen=True, eq=False)
class ReferenceObject:
    """A reference object: (times, rows, columns) signals, its plasma curve, and what is known of each patch."""

    name: str
    times_s: Floats
    plasma_mmol: Floats
    signal: Floats
    before: Floats
    repetition_time_ms: float
    flip_angle_degrees: float
    known: Perfusion


def read_object(source: Path, version: int) -> ReferenceObject:
    """The object with the constants that its makers state by position."""
    table = loadmat(source / "phantoms" / f"qiba{version}.mat")
    times, signal = table["t"].ravel(), table["DCEdata"].astype(np.float64)
    rows, columns = signal.shape[1:]
    if version == 4:
        ktrans = np.tile([0.01, 0.02, 0.05, 0.1, 0.2], rows)
        ve = np.repeat(np.tile([0.1, 0.2, 0.5], rows // 3), columns)
        vp = np.repeat([0.001, 0.005, 0.01, 0.02, 0.05, 0.1], 3 * columns)
        still = times < 5
    else:
        ktrans = np.repeat([0.01, 0.02, 0.05, 0.1, 0.2, 0.35], columns)
        ve, vp = np.tile([0.01, 0.05, 0.1, 0.2, 0.5], rows), np.zeros(rows * columns)
        still = times < 60
    return ReferenceObject(
        f"qiba{version}",
        times,
        np.maximum(table["Cp"].ravel(), 0.0),
        signal,
        signal[still].mean(axis=0),
        1000 * float(table["TR"].item()),
        float(table["DCEflip"].item()),
        Perfusion(ktrans, ve, vp),
    )


def write_dicom(given: ReferenceObject, folder: Path) -> None:
    """One time point a second, each a series of its own with three equal slices."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian

    folder.mkdir(parents=True)
    for second in range(LENGTH_S):
        frame = given.signal[int(np.argmin(np.abs(given.times_s - given.times_s[0] - second)))]
        pixels = np.kron(np.rint(frame), np.ones((SIDE, SIDE))).astype("<u2")
        for level in range(SLICES):
            one = pydicom.Dataset()
            one.file_meta = pydicom.dataset.FileMetaDataset()
            one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
            uid = f"2.25.{int.from_bytes(f'{given.name}-{second}-{level}'.encode()[-15:], 'big')}"
            one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = uid
            one.SeriesInstanceUID = f"2.25.{10**6 * int(given.name[-1]) + second}"
            one.StudyInstanceUID = one.FrameOfReferenceUID = f"2.25.{10**9 + int(given.name[-1])}"
            one.PatientName, one.PatientID, one.Modality = given.name, given.name, "MR"
            one.SeriesNumber, one.InstanceNumber = second + 1, level + 1
            one.SeriesDescription = f"reference object TT={second}s"
            hours, rest = divmod(36000 + second, 3600)
            one.AcquisitionDate = one.StudyDate = "20261122"
            one.AcquisitionTime = f"{hours:02d}{rest // 60:02d}{rest % 60:02d}"
            one.RepetitionTime, one.EchoTime = given.repetition_time_ms, 1.0
            one.FlipAngle, one.SliceThickness = given.flip_angle_degrees, 3.0
            one.PixelSpacing, one.ImageOrientationPatient = [1.0, 1.0], [1, 0, 0, 0, 1, 0]
            one.ImagePositionPatient = [0.0, 0.0, 3.0 * level]
            one.Rows, one.Columns, one.SamplesPerPixel = *pixels.shape, 1
            one.PhotometricInterpretation, one.PixelRepresentation = "MONOCHROME2", 0
            one.BitsAllocated = one.BitsStored = 16
            one.HighBit, one.PixelData = 15, pixels.tobytes()
            one.save_as(folder / f"{second:03d}-{level}.dcm", enforce_file_format=True)


def by_network(given: ReferenceObject, package: Path, out: Path) -> tuple[Perfusion, list[str]]:
    """The package's maps, as means over the inner pixels of each patch; and the warnings of the run."""
    write_dicom(given, out / f"{given.name}-dicom")
    result = run(package, out / f"{given.name}-dicom", out / f"{given.name}-run", choices=Choices(allow_unproven=True))
    (one,) = result.series
    if one.status != "done":
        raise SystemExit(f"{given.name}: {one.error}")
    rows, columns = given.signal.shape[1:]
    means = []
    for number in (1, 2, 3):
        image: Any = nibabel.load(one.outputs[f"map-{number}"])
        patches = np.asarray(image.dataobj)[:, :, 0].T.reshape(rows, SIDE, columns, SIDE)
        means.append(patches[:, 1:-1, :, 1:-1].mean(axis=(1, 3)).ravel().astype(np.float64))
    return Perfusion(*means), list(one.warnings)


def by_fit(given: ReferenceObject, step_s: float) -> Perfusion:
    """Least squares on the concentrations every ``step_s`` seconds of the same length."""
    echo = GradientEcho(given.repetition_time_ms, given.flip_angle_degrees, T1_MS, RELAXIVITY)
    stride = max(1, round(step_s / float(given.times_s[1] - given.times_s[0])))
    chosen = np.flatnonzero(given.times_s <= given.times_s[0] + LENGTH_S)[::stride]
    curves = echo.concentration(given.signal[chosen] / given.before).reshape(len(chosen), -1).T
    return fit_tofts(given.times_s[chosen], given.plasma_mmol[chosen], curves, plasma=given.name == "qiba4")


def errors(found: Perfusion, known: Perfusion) -> dict[str, dict[str, float]]:
    """Per constant: mean absolute error, the largest, and the mean error (bias)."""
    rows = {}
    for name in ("ktrans_per_min", "ve", "vp"):
        gaps = getattr(found, name) - getattr(known, name)
        rows[name] = {
            "mean_absolute_error": round(float(np.abs(gaps).mean()), 5),
            "largest": round(float(np.abs(gaps).max()), 5),
            "bias": round(float(gaps.mean()), 5),
        }
    return rows


def by_level(found: Perfusion, known: Perfusion) -> dict[str, dict[str, float]]:
    """Per constant the median that was found at each known value."""
    table = {}
    for name in ("ktrans_per_min", "ve", "vp"):
        answers, truth = getattr(found, name), getattr(known, name)
        table[name] = {f"{v:g}": round(float(np.median(answers[truth == v])), 4) for v in np.unique(truth)}
    return table


def row(found: Perfusion, known: Perfusion) -> str:
    """Mean absolute errors as cells of a table: Ktrans, ve, vp."""
    rows = errors(found, known)
    return " | ".join(f"{rows[name]['mean_absolute_error']:.4f}" for name in ("ktrans_per_min", "ve", "vp"))


def main() -> None:
    source, package, out = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {}
    for version in (4, 6):
        given = read_object(source, version)
        found, warnings = by_network(given, package, out)
        fits = {"fit, same time points": by_fit(given, STEP_S), "fit, every half second": by_fit(given, 0.5)}
        answers = {"network": found, **fits}
        report[given.name] = {
            "patches": len(given.known.ve),
            "warnings": warnings,
            "errors": {name: errors(one, given.known) for name, one in answers.items()},
            "network_median_by_known_value": by_level(found, given.known),
        }
        report |= {f"{given.name} {name}": row(one, given.known) for name, one in answers.items()}
    text = json.dumps(report, indent=1) + "\n"
    (out / "reference_objects.json").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
