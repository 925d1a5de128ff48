"""Make ``cases.csv`` and its files for the trainer from the hippocampus cases and ``splits.json``.

Images and labels are stored anew: in this data set an image and its label lie voxel on voxel, but their headers
carry offsets that do not agree, and a trainer that trusts headers rightly refuses such a pair. The label gets the
header of its image; no voxel changes.

Usage: python prepare.py ../../../shared/data/mr-hippocampus-msd OUT_FOLDER
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import nibabel
import numpy as np
from make_splits import subject_of

PARTS = {"training": "train", "validation": "validation", "test": "test"}


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    splits = json.loads(Path(__file__).with_name("splits.json").read_text())
    rows = []
    for part, split in PARTS.items():
        for name in splits[part]:
            image = nibabel.load(source / "images" / f"{name}.nii.gz")
            label = nibabel.load(source / "labels" / f"{name}.nii.gz")
            if image.shape != label.shape:
                raise SystemExit(f"{name}: image and label differ in shape")
            values = np.asarray(image.dataobj)
            nibabel.save(nibabel.Nifti1Image(values, image.affine), out / f"{name}.nii.gz")
            numbers = np.asarray(label.dataobj).astype(np.uint8)
            nibabel.save(nibabel.Nifti1Image(numbers, image.affine), out / f"{name}-label.nii.gz")
            files = {"image": f"{name}.nii.gz", "label": f"{name}-label.nii.gz"}
            depth = "8 bit" if values.dtype == np.uint8 else "16 bit or float"
            rows.append({"case_id": name, **files, "patient_id": subject_of(name), "split": split, "depth": depth})
    with (out / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
