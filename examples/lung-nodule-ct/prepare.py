"""Make NIfTI cases, ``cases.csv`` and ``splits.json`` from the LIDC-IDRI nodule crops.

The crops are 8-bit PNG whose slices were each stretched by their own minimum and maximum, so HU are
lost. They are recovered to about 10 %: the minimum of a slice is lung air (-1010 HU), the slope of
each slice follows from its neighbour (the same tissue should look the same), and the mean slope is
8 HU per grey level, as measured on the one case whose DICOM is at hand.

The reference label is what at least half of the nodule's readers outlined; each reader's own
outline is kept beside it. A case is what lies within 26 mm of the centre of that label in the plane
(or more, so that the longest outline keeps 5 mm of rim): the surroundings of a given point.

Slices that no reader outlined are not in the source, so a network would never see where a nodule
ends in the slice direction. Each training nodule therefore comes a second time, ``...-continued``,
with 10 mm of made-up slices at both ends: the last slice again, its outlined region filled from the
rim (Laplace's equation) with the noise of lung, and labelled as nothing. Validation and test cases
are never continued. One nodule of the source (LIDC-IDRI-0241/nodule-1) has no outline and is left out.

The split is the source's own: by a hash of the patient, no patient in two parts.

Usage: python prepare.py ../../../shared/data/lidc-nodule-crops OUT_FOLDER
"""

from __future__ import annotations

import csv
import io
import json
import sys
import zipfile
import zlib
from collections import defaultdict
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image
from scipy import ndimage

AIR_HU, MEAN_SLOPE = -1010.0, 8.0
HALF_MM, RIM_MM = 26.0, 5.0
CONTINUED_MM, NOISE_HU = 10.0, 30.0
READERS = 4
PARTS = {"train": "train", "val": "validation", "test": "test"}


def stacks(archive: zipfile.ZipFile) -> dict[str, list[str]]:
    """Slice names of each nodule, ``PATIENT/NODULE`` to ``PATIENT/NODULE/slice-KKK.png``, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in archive.namelist():
        if name.startswith("img/") and name.endswith(".png"):
            inner = name.removeprefix("img/")
            found[inner.rsplit("/", 1)[0]].append(inner)
    return {nodule: sorted(names) for nodule, names in found.items()}


def pixels(archive: zipfile.ZipFile, kind: str, names: list[str]) -> np.ndarray:
    """(slices, rows, columns) uint8."""
    return np.stack([np.asarray(Image.open(io.BytesIO(archive.read(f"{kind}/{name}")))) for name in names])


def to_hu(grey: np.ndarray) -> np.ndarray:
    """HU, by regressing each slice onto the one before it (least squares through the air)."""
    slopes = [1.0]
    for before, now in zip(grey[:-1].astype(float), grey[1:].astype(float), strict=True):
        slopes.append(slopes[-1] * float((before * now).sum() / max(1.0, (now * now).sum())))
    scale = np.asarray(slopes) * MEAN_SLOPE / np.mean(slopes)
    return (AIR_HU + grey * scale[:, None, None]).round().astype(np.int16)


def cut(label: np.ndarray, outlined: np.ndarray, pixel_mm: float) -> tuple[slice, slice, slice]:
    """The part of the 128 x 128 picture around the centre of the label."""
    centre = np.argwhere(label.any(0)).mean(0)
    reach = np.abs(np.argwhere(outlined.any(0)) - centre).max() * pixel_mm + RIM_MM
    half = max(HALF_MM, reach) / pixel_mm
    low = [max(0, round(c - half)) for c in centre]
    high = [min(n, round(c + half)) for c, n in zip(centre, label.shape[1:], strict=True)]
    return slice(None), slice(low[0], high[0]), slice(low[1], high[1])


def filled(picture: np.ndarray, hole: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(rows, columns): the hole takes the values of its rim, smoothly, and the noise of lung."""
    values = picture.astype(np.float64)
    values[hole] = np.median(picture[~hole])
    for _ in range(300):
        around = sum(np.roll(values, step, axis) for axis in (0, 1) for step in (-1, 1)) / 4
        values[hole] = around[hole]
    values[hole] += ndimage.gaussian_filter(rng.normal(0, 2 * NOISE_HU, hole.shape), 0.6)[hole]
    return values.round().astype(np.int16)


def continued(hu: np.ndarray, outlined: np.ndarray, slice_mm: float, name: str) -> tuple[np.ndarray, int]:
    """The stack with made-up slices at both ends, and how many there are at each."""
    count = round(CONTINUED_MM / slice_mm)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    ends = []
    for place in (0, -1):
        hole = ndimage.binary_dilation(outlined[place], iterations=2)
        ends.append([filled(hu[place], hole, rng) for _ in range(count)])
    return np.concatenate([np.stack(ends[0]), hu, np.stack(ends[1])]), count


def save(path: Path, array: np.ndarray, spacing_mm: tuple[float, float, float]) -> None:
    """Slices to the head, rows to the back, columns to the left (as axial CT is stored)."""
    affine = np.diag([-spacing_mm[2], -spacing_mm[1], spacing_mm[0], 1.0])
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0)), affine), path)


def write_nodule(archive: zipfile.ZipFile, names: list[str], row: dict[str, str], out: Path) -> list[dict[str, str]]:
    """The files of a nodule and its rows of the table; two of them in the training part."""
    nodule = names[0].rsplit("/", 1)[0]
    case = nodule.replace("/", "-")
    spacing = (float(row["slice_thickness_mm"]), *(float(row["pixel_spacing_mm"]),) * 2)
    bits = pixels(archive, "mask", names)
    drawn = [one for one in ((bits >> n) & 1 for n in range(READERS)) if one.any()]
    consensus = (np.mean(drawn, 0) >= 0.5).astype(np.uint8)
    box = cut(consensus, bits > 0, spacing[1])
    hu = to_hu(pixels(archive, "img", names))[box]
    facts = {
        "patient_id": row["patient_id"],
        "split": PARTS[row["split"]],
        "manufacturer": row["manufacturer"],
        "kernel": row["kernel"],
        "malignancy": row["malignancy_mean"],
        "link_cost": row["link_cost"],
        "readers": str(len(drawn)),
    }
    save(out / f"{case}.nii.gz", hu, spacing)
    save(out / f"{case}-label.nii.gz", consensus[box], spacing)
    readers = {f"annotator_{n + 1}": "" for n in range(READERS)}
    for n, one in enumerate(drawn):
        readers[f"annotator_{n + 1}"] = f"{case}-reader{n + 1}.nii.gz"
        save(out / readers[f"annotator_{n + 1}"], one[box].astype(np.uint8), spacing)
    rows = [{"case_id": case, "image": f"{case}.nii.gz", "label": f"{case}-label.nii.gz", **readers, **facts}]
    if facts["split"] == "train":
        longer, count = continued(hu, bits[box] > 0, spacing[0], case)
        save(out / f"{case}-continued.nii.gz", longer, spacing)
        save(out / f"{case}-continued-label.nii.gz", np.pad(consensus[box], ((count, count), (0, 0), (0, 0))), spacing)
        again = {"image": f"{case}-continued.nii.gz", "label": f"{case}-continued-label.nii.gz"}
        rows.append(rows[0] | {"case_id": f"{case}-continued", **again} | dict.fromkeys(readers, ""))
    return rows


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    with (source / "nodules.csv").open(encoding="utf-8") as file:
        facts = {f"{row['patient_id']}/{row['nodule']}": row for row in csv.DictReader(file)}
    rows: list[dict[str, str]] = []
    with zipfile.ZipFile(source / "volumes.zip") as archive:
        for nodule, names in sorted(stacks(archive).items()):
            if nodule in facts:  # one has no outline by anyone, and so no row of facts
                rows += write_nodule(archive, names, facts[nodule], out)
    with (out / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    splits: dict[str, list[str]] = {part: [] for part in PARTS.values()}
    for one in rows:
        splits[one["split"]].append(one["case_id"])
    text = json.dumps({part: sorted(ids) for part, ids in splits.items()}, indent=1) + "\n"
    Path(__file__).with_name("splits.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
