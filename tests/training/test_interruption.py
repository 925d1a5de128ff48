"""A training that is killed without warning continues to exactly the same weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from training.conftest import Runner
from training.phantoms import RECIPE, write_recipe

pytestmark = pytest.mark.torch

DRIVER = Path(__file__).with_name("kill_driver.py")


def test_killed_ten_times_and_still_the_same_weights(
    balls: Path, prepared_cases: Path, tmp_path: Path, run_training: Runner
) -> None:
    recipe = write_recipe(balls, RECIPE, steps="60", every="20", checkpoint_every="3")
    whole = run_training(recipe, tmp_path / "whole")
    killed = tmp_path / "killed"
    words = [str(word) for word in (DRIVER, recipe, prepared_cases, killed, 10, 5)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5  # the machine decides how many of the ten hit before the end
    assert (killed / "weights.safetensors").read_bytes() == whole.weights.read_bytes()
    one, other = (json.loads((folder / "training.json").read_text()) for folder in (whole.folder, killed))
    assert one["curve"] == other["curve"]
    assert one["interruptions"] == 0
    left = {path.name for path in killed.iterdir() if path.name.endswith(".partial")}
    # A kill during a write may leave its temporary file; it is never read.
    assert all(name.startswith(".") for name in left)
