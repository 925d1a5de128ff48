"""Make NIfTI cases, ``cases.csv`` and ``splits.json`` from the LIDC-IDRI nodule crops.

The crops are 8-bit PNG whose slices were each stretched by their own minimum and maximum, so HU are
lost. They are recovered to about 10 %: the minimum of a slice is lung air (-1010 HU), the slope of
each slice follows from its neighbour (the same tissue should look the same), and the mean slope is
8 HU per grey level, as measured on the one case whose DICOM is at hand.

The reference label is what at least half of the nodule's readers outlined; each reader's own
outline is kept beside it. Slices that no reader outlined are not in the source, so a network
never sees where a nodule ends in the slice direction: the card must say so.

The split is the source's own: by a hash of the patient, no patient in two parts.

Usage: python prepare.py ../../../shared/data/lidc-nodule-crops OUT_FOLDER
"""

from __future__ import annotations

import csv
import io
import json
import sys
import zipfile
from collections import defaultdict
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

AIR_HU, MEAN_SLOPE = -1010.0, 8.0
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


def save(path: Path, array: np.ndarray, spacing_mm: tuple[float, float, float]) -> None:
    """Slices to the head, rows to the back, columns to the left (as axial CT is stored)."""
    affine = np.diag([-spacing_mm[2], -spacing_mm[1], spacing_mm[0], 1.0])
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0)), affine), path)


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    with (source / "nodules.csv").open(encoding="utf-8") as file:
        facts = {f"{row['patient_id']}/{row['nodule']}": row for row in csv.DictReader(file)}
    rows, splits = [], {part: [] for part in PARTS.values()}
    with zipfile.ZipFile(source / "volumes.zip") as archive:
        for nodule, names in sorted(stacks(archive).items()):
            if nodule not in facts:  # slices without a row of facts have no spacing
                continue
            row, case = facts[nodule], nodule.replace("/", "-")
            spacing = (float(row["slice_thickness_mm"]), *(float(row["pixel_spacing_mm"]),) * 2)
            bits = pixels(archive, "mask", names)
            drawn = [one for one in ((bits >> n) & 1 for n in range(READERS)) if one.any()]
            consensus = (np.mean(drawn, 0) >= 0.5).astype(np.uint8)
            save(out / f"{case}.nii.gz", to_hu(pixels(archive, "img", names)), spacing)
            save(out / f"{case}-label.nii.gz", consensus, spacing)
            readers = {f"annotator_{n + 1}": "" for n in range(READERS)}
            for n, one in enumerate(drawn):
                readers[f"annotator_{n + 1}"] = f"{case}-reader{n + 1}.nii.gz"
                save(out / readers[f"annotator_{n + 1}"], one.astype(np.uint8), spacing)
            part = PARTS[row["split"]]
            splits[part].append(case)
            rows.append(
                {
                    "case_id": case,
                    "image": f"{case}.nii.gz",
                    "label": f"{case}-label.nii.gz",
                    **readers,
                    "patient_id": row["patient_id"],
                    "split": part,
                    "manufacturer": row["manufacturer"],
                    "kernel": row["kernel"],
                    "malignancy": row["malignancy_mean"],
                    "link_cost": row["link_cost"],
                    "readers": str(len(drawn)),
                }
            )
    with (out / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    text = json.dumps({part: sorted(ids) for part, ids in splits.items()}, indent=1) + "\n"
    Path(__file__).with_name("splits.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
