"""Tiny data sets with known truth, and the recipes that train on them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])


def save_nifti(path: Path, array_kji: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    nibabel.save(nibabel.Nifti1Image(array_kji.transpose(2, 1, 0), affine), path)


def ball(shape: tuple[int, int, int], centre: tuple[float, ...], radius: float) -> np.ndarray:
    places = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return sum((p - c) ** 2 for p, c in zip(places, centre, strict=True)) <= radius**2


def make_cases(folder: Path, count: int = 6, shape: tuple[int, int, int] = (18, 20, 16)) -> Path:
    """Noise with a bright ball, labelled; ``cases.csv`` with a class by the ball's size."""
    rng = np.random.default_rng(7)
    rows = []
    for n in range(count):
        radius = 3.0 if n % 2 else 5.0
        inside = ball(shape, tuple(rng.uniform(6, 11, 3)), radius)
        image = rng.normal(0, 0.3, shape) + 2.0 * inside
        save_nifti(folder / f"image{n}.nii.gz", image.astype(np.float32))
        save_nifti(folder / f"label{n}.nii.gz", inside.astype(np.uint8))
        rows.append(
            {
                "case_id": f"c{n}",
                "image": f"image{n}.nii.gz",
                "label": f"label{n}.nii.gz",
                "patient_id": f"p{n}",
                "split": "train" if n < count - 2 else "validation",
                "size": "small" if n % 2 else "large",
                "age": "" if n == 0 else str(40 + n),
            }
        )
    write_table(folder / "cases.csv", rows)
    return folder / "cases.csv"


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


RECIPE = """
format = 1
task = "segmentation"
seed = 3
labels = 1

[data]
table = "cases.csv"
memory = "64MiB"

[input]
orientation = "LPS"
spacing_mm = [1.0, 1.0, 1.0]
channels = [{ name = "mr", modality = "MR" }]
window = { shape = [8, 8, 8], overlap = 0.25 }

[architecture]
name = "attention-unet"
filters = [4, 8]

[augmentation.elastic]
probability = 0.5

[optimisation]
steps = 12
batch = 2
learning_rate = 0.01
warm_up_steps = 2
ema = 0.9

[validation]
every = 6

[compute]
device = "cpu"
precision = "fp32"
recompute = "never"
memory = "8GiB"
threads = 1
checkpoint_every = 4
"""

PACKAGE = """
[package]
id = "ball-mr"
title = "Balls in noise"
intended_use = "To test the trainer on a phantom"
licence = { weights = "Apache-2.0", data = "made by a program" }

[package.domain]
modality = { allowed = ["MR"], breach = "refuse" }

[[package.output.segments]]
number = 1
label = "ball"
category = { value = "91723000", scheme = "SCT", meaning = "Anatomical structure" }
type = { value = "91723000", scheme = "SCT", meaning = "Anatomical structure" }
"""


def write_recipe(folder: Path, text: str = RECIPE, **changes: str) -> Path:
    """The recipe with some of its lines replaced: ``steps = 12`` by ``steps="30"``."""
    lines = text.splitlines()
    for key, value in changes.items():
        places = [n for n, line in enumerate(lines) if line.split("=")[0].strip() == key]
        assert len(places) == 1, key
        lines[places[0]] = f"{key} = {value}"
    path = folder / "recipe.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


MAPS = """
format = 1
task = "dynamic"
[data]
table = "cases.csv"
memory = "64MiB"
[input]
channels = [{ name = "mr", modality = "MR" }]
window = { shape = [1, 3, 3] }
times = { count = 4, baseline = 1, signal = "relative", every_voxel = true }
[architecture]
name = "cnn-lstm"
filters = [8]
hidden_size = 16
normed = false
middle = true
[augmentation]
gamma = { probability = 0.0 }
contrast = { probability = 0.0, range = [1.0, 1.0] }
brightness = { probability = 0.0, range = [0.0, 0.0] }
[optimisation]
steps = 150
batch = 32
learning_rate = 1e-2
warm_up_steps = 0
ema = 0.9
[validation]
every = 150
[compute]
device = "cpu"
precision = "fp32"
recompute = "never"
[package]
id = "slope"
title = "Slope"
intended_use = "Tests only."
licence = { weights = "CC0-1.0", data = "none" }
[package.domain]
modality = { allowed = ["MR"], breach = "refuse" }
[package.output]
activation = "none"
[[package.output.quantities]]
label = "slope"
concept = { value = "SLOPE", scheme = "99TEST", meaning = "Slope" }
unit = { value = "/s", scheme = "UCUM", meaning = "per second" }
factor = 0.5
"""
