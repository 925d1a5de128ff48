"""Small data sets of two-level phantoms whose answers are known, written as NIfTI."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel
import numpy as np

GRID = (24, 32, 28)
AFFINE_RAS = np.diag([-0.8, -0.8, 1.5, 1.0])


def write_nifti(path: Path, array_kji: np.ndarray, affine: np.ndarray = AFFINE_RAS) -> Path:
    """Write a (slices, rows, columns) array."""
    nibabel.save(nibabel.Nifti1Image(array_kji.transpose(2, 1, 0), affine), path)
    return path


def ball(centre: tuple[int, int, int], radius: float) -> np.ndarray:
    """Voxels within ``radius`` voxels of the centre."""
    k, j, i = np.ogrid[: GRID[0], : GRID[1], : GRID[2]]
    return (k - centre[0]) ** 2 + (j - centre[1]) ** 2 + (i - centre[2]) ** 2 <= radius**2


def make_dataset(folder: Path, cases: int = 12, annotators: int = 0, seed: int = 0) -> Path:
    """A table of scans in which a ball of value 100 is to be found, with a reference that differs a little.

    The image is exact; the reference is the ball shifted by 0 to 2 voxels, so the scores of a
    model that finds the ball are known from the arrays alone.
    """
    random = np.random.default_rng(seed)
    rows = []
    for n in range(cases):
        centre, radius = (12, 16, 14), float(random.uniform(1.5, 8))
        image = np.where(ball(centre, radius), 100.0, 0.0) + random.normal(0, 5, GRID)
        write_nifti(folder / f"image{n:02d}.nii.gz", image.astype(np.float32))
        row = {"case_id": f"c{n:02d}", "image": f"image{n:02d}.nii.gz", "patient_id": f"p{n:02d}", "split": "test"}
        shifts = [int(random.integers(0, 3)) for _ in range(max(1, annotators))]
        masks = [ball((12, 16 + shift, 14), radius).astype(np.uint8) for shift in shifts]
        for number, mask in enumerate(masks, start=1):
            name = f"label{n:02d}_{number}.nii.gz"
            write_nifti(folder / name, mask)
            row["label" if annotators == 0 else f"annotator_{number}"] = name
        row |= {"sex": "F" if n % 2 else "M", "age_years": str(30 + 5 * n), "manufacturer": "A" if n < 8 else "B"}
        rows.append(row)
    return write_table(folder / "table.csv", rows)


def write_table(path: Path, rows: list[dict[str, str]]) -> Path:
    """Write rows of equal keys as CSV."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
