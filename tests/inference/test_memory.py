"""Peak memory does not grow with classes or slices: measured in fresh processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

CHILD = """
import json, sys
from pathlib import Path
import numpy as np
from hounsfield.inference import Decision, Head, RunSettings, segment
from hounsfield.packages.manifest import InputSpec
from hounsfield.preparing import prepare
from hounsfield.volume import Geometry, Volume

folder, slices, classes, spacing = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
shape, window, features = (slices, 96, 96), (32, 48, 48), 12

class Fixed:
    "A network whose answer depends on its input and costs nothing."
    precision = "fp32"
    weight = np.random.default_rng(0).normal(size=(features, 1, 1, 1)).astype(np.float32)
    answer = np.empty((1, features, *window), np.float32)

    def stream(self, batches):
        for batch in batches:
            np.multiply(batch[0], self.weight, out=self.answer[0])
            yield self.answer

source = np.memmap(folder / f"{slices}.raw", np.int16, "r", shape=shape)
table = {"channels": [{"name": "ct", "modality": "CT"}], "intensity": [{"step": "z-score"}]}
table |= {"window": {"shape": window, "overlap": 0.25}}
if spacing != 1:
    table["spacing_mm"] = (spacing, 1.0, 1.0)
prepared = prepare(Volume(source, Geometry.from_parts(shape)), InputSpec.model_validate(table), lazy=True)
rng = np.random.default_rng(1)
head = Head(rng.normal(size=(classes, features)).astype(np.float32), rng.normal(size=classes).astype(np.float32))
out = np.memmap(folder / f"labels-{slices}-{classes}.raw", np.uint8, "w+", shape=shape)
run = segment(prepared, Fixed(), InputSpec.model_validate(table).window, Decision("highest"),
              head=head, settings=RunSettings(axis=0, head_block=4096), out=out)
status = Path("/proc/self/status").read_text()
peak = int(status.split("VmHWM:")[1].split()[0])
print(json.dumps({"peak_kb": peak, "labels": len(np.unique(out[::7])), "windows": run.windows}))
"""


def peak(folder: Path, slices: int, classes: int, spacing: float = 1.0) -> dict:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, str(folder), str(slices), str(classes), str(spacing)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("scans")
    for slices in (200, 800):
        noise = np.random.default_rng(0).integers(-1000, 1000, (8, 96, 96)).astype(np.int16)
        np.tile(noise, (slices // 8, 1, 1)).tofile(made / f"{slices}.raw")
    return made


def test_flat_in_classes(folder: Path) -> None:
    """200 slices of float32 scores of 118 classes would be 0.9 GB."""
    few, many = peak(folder, 200, 3), peak(folder, 200, 118)
    assert many["labels"] > few["labels"]
    assert many["peak_kb"] <= 1.05 * few["peak_kb"]


@pytest.mark.parametrize("spacing", [1.0, 1.5])
def test_flat_in_slices(folder: Path, spacing: float) -> None:
    """Four times the slices: the scan, the scores and the labels would each be four times as large."""
    short, long = peak(folder, 200, 118, spacing), peak(folder, 800, 118, spacing)
    assert long["windows"] > 3 * short["windows"]
    assert long["peak_kb"] <= 1.05 * short["peak_kb"]
