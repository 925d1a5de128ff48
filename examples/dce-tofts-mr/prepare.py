"""Sequences of contrast medium in tissue whose constants are known, as training material.

Each case is a small 4-D NIfTI of signals and a second one with its maps of Ktrans, ve and vp. Tissue is made of
blocks, each with constants of its own; its concentration follows the extended Tofts model for the plasma
curve of the QIBA reference object (version 6), the signal the spoiled gradient echo (TR 5 ms, 25 degrees, T1 1,000
ms). Per case the bolus arrives 4 to 75 s after the start, a volume is taken every 1 to 9 s, and the noise is 0.5
to 3 % of the signal before contrast. Nothing here was measured on a person.

Usage: python prepare.py ../../../shared/data/mr-dce OUT_FOLDER
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from hounsfield.findings.perfusion import Perfusion, tofts
from hounsfield.preparing.contrast import GradientEcho

SEED, TRAINING, VALIDATION, TEST = 20261122, 48, 6, 6
SHAPE, BLOCK, LENGTH_S, FINE_S = (4, 24, 24), 4, 300.0, 0.5
ECHO = GradientEcho(5.0, 25.0, 1000.0, 4.5)
AFFINE = np.diag([-1.6, -1.6, 3.6, 1.0])
Floats = NDArray[np.float64]


def plasma(source: Path) -> Floats:
    """mmol/l every half second from the arrival of the bolus on."""
    table = loadmat(source / "phantoms" / "qiba6.mat")
    curve, start = np.maximum(table["Cp"].ravel(), 0.0), 60.0
    return np.asarray(curve[round(start / FINE_S) :], np.float64)


def constants(random: np.random.Generator, count: int) -> Perfusion:
    """Ktrans from 0.005 to 0.5 per minute, ve from 0.01 to 0.6, vp from 0.0005 to 0.15 or none."""
    ktrans = np.exp(random.uniform(np.log(0.005), np.log(0.5), count))
    ve = np.where(
        random.random(count) < 0.5,
        np.exp(random.uniform(np.log(0.01), np.log(0.6), count)),
        random.uniform(0.05, 0.6, count),
    )
    vp = np.exp(random.uniform(np.log(0.0005), np.log(0.15), count))
    return Perfusion(ktrans, ve, np.where(random.random(count) < 0.35, 0.0, vp))


def case(random: np.random.Generator, arterial: Floats) -> tuple[Floats, float, Floats]:
    """(slices, rows, columns, times) signals, seconds between them, and (slices, rows, columns, 3) maps."""
    blocks = (SHAPE[0], SHAPE[1] // BLOCK + 1, SHAPE[2] // BLOCK + 1)
    made = constants(random, int(np.prod(blocks)))
    arrival, step = random.uniform(4.0, 75.0), random.uniform(1.0, 9.0)
    times = np.arange(0.0, LENGTH_S, FINE_S)
    curve = np.interp(times - arrival, np.arange(len(arterial)) * FINE_S, arterial, left=0.0)
    chosen = np.round(np.arange(0.0, LENGTH_S - FINE_S, step) / FINE_S).astype(int)
    signal = 100.0 * ECHO.relative_signal(tofts(times, curve, made)[:, chosen])
    first = random.integers(0, BLOCK, 2)
    rows, columns = (np.arange(size) + start for size, start in zip(SHAPE[1:], first, strict=True))
    place = np.arange(len(made.ve)).reshape(blocks)[:, rows // BLOCK][:, :, columns // BLOCK]
    noise = random.uniform(0.5, 3.0)
    noisy = signal[place] + random.normal(0.0, noise, (*SHAPE, len(chosen)))
    return noisy, step, np.stack([made.ktrans_per_min[place], made.ve[place], made.vp[place]], axis=-1)


def save(path: Path, array: Floats, step_s: float) -> None:
    """(slices, rows, columns, n) as a 4-D NIfTI."""
    image = nibabel.Nifti1Image(array.transpose(2, 1, 0, 3).astype(np.float32), AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = step_s
    nibabel.save(image, path)


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    random, arterial, rows = np.random.default_rng(SEED), plasma(source), []
    parts = ["train"] * TRAINING + ["validation"] * VALIDATION + ["test"] * TEST
    for number, part in enumerate(parts):
        signal, step, maps = case(random, arterial)
        name = f"phantom-{number:02d}"
        save(out / f"{name}.nii.gz", signal, step)
        save(out / f"{name}-maps.nii.gz", maps, 1.0)
        rows.append([name, f"{name}.nii.gz", f"{name}-maps.nii.gz", name, part])
    with (out / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case_id", "image", "label", "patient_id", "split"])
        writer.writerows(rows)


if __name__ == "__main__":
    main()
