"""Images with a record: trained on phantoms where neither alone decides, run with --record, evaluated, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from class_scenes import write_table

from hounsfield.errors import DomainRefused, InputError, SettingsError
from hounsfield.evaluation.score_record import ScoreRecord
from hounsfield.usecases.evaluate import EvaluateRequest, evaluate
from hounsfield.usecases.job import Choices
from hounsfield.usecases.run import RunRequest, run_model
from hounsfield.usecases.train import TrainRequest, train

pytestmark = pytest.mark.torch

ANYTHING = Choices(allow_unproven=True)
SHAPE = (8, 10, 10)
RECIPE = """
format = 1
task = "fusion"
seed = 3
[data]
table = "cases.csv"
target = ["ill"]
classes = ["no", "yes"]
record = ["age", "marker"]
memory = "64MiB"
[input]
channels = [{ name = "mr", modality = "MR" }]
window = { shape = [8, 8, 8] }
[[input.record]]
name = "age"
title = "Age"
unit = "a"
low = 18
high = 100
breach = "refuse"
required = true
[[input.record]]
name = "marker"
title = "Marker"
[architecture]
name = "fusion"
filters = [4, 8]
hidden_size = 16
dropout = 0.0
[augmentation]
turn_probability = 0.0
scale_probability = 0.0
elastic = { probability = 0.0 }
[optimisation]
steps = 120
batch = 16
learning_rate = 1e-2
warm_up_steps = 0
ema = 0.9
[validation]
every = 60
[compute]
device = "cpu"
precision = "fp32"
threads = 1
recompute = "never"
[package]
id = "ball-and-age"
title = "Ball and age"
intended_use = "Tests only."
licence = { weights = "CC0-1.0", data = "none" }
[package.domain]
modality = { allowed = ["MR"], breach = "refuse" }
[[package.output.classes]]
label = "no"
reported = false
concept = { value = "260385009", scheme = "SCT", meaning = "Negative" }
[[package.output.classes]]
label = "yes"
concept = { value = "10828004", scheme = "SCT", meaning = "Positive" }
operating_points = [{ name = "half", threshold = 0.5 }]
"""


def write_phantom(path: Path, striped: bool, random: np.random.Generator) -> None:
    """Noise, with stripes along k or without."""
    image = random.normal(0, 0.3, SHAPE)
    if striped:
        image[::2] += 2.0
    nibabel.save(nibabel.Nifti1Image(image.transpose(2, 1, 0).astype(np.float32), np.diag([-1.0, -1, 1, 1])), path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ill are the striped ones above 60 years: image or age alone leave a third of them in doubt."""
    folder = tmp_path_factory.mktemp("fusion")
    random, rows = np.random.default_rng(1), []
    for n in range(96):
        striped, age = bool(random.random() < 0.6), float(random.uniform(30, 90))
        write_phantom(folder / f"{n}.nii.gz", striped, random)
        marker = "" if n % 7 == 0 else f"{random.normal():.3f}"
        part = ("train", "train", "validation", "test")[n % 4]
        ill = "yes" if striped and age > 60 else "no"
        rows.append(
            {
                "image": f"{n}.nii.gz",
                "patient_id": f"p{n}",
                "split": part,
                "age": f"{age:.1f}",
                "marker": marker,
                "ill": ill,
            }
        )
    write_table(folder / "cases.csv", rows)
    (folder / "recipe.toml").write_text(RECIPE)
    package = train(TrainRequest(folder / "recipe.toml", folder / "run")).package
    assert package is not None
    return package


def record(path: Path, **values: float | None) -> Path:
    path.write_text(json.dumps(values))
    return path


def test_both_arms_are_needed_and_used(trained: Path, tmp_path: Path) -> None:
    table = trained.parents[2] / "cases.csv"
    result = evaluate(EvaluateRequest(trained, table, tmp_path / "evaluation"))
    assert result.succeeded
    assert isinstance(result.record, ScoreRecord)
    (one,) = result.record.summary.classes
    assert one.auc is not None
    assert one.auc.mean > 0.95
    random, said = np.random.default_rng(9), {}
    for striped in (False, True):
        write_phantom(tmp_path / "one.nii.gz", striped, random)
        for age in (35, 85):
            out = tmp_path / f"out-{striped}-{age}"
            given = record(tmp_path / "r.json", age=age, marker=None)
            ran = run_model(RunRequest(trained, tmp_path / "one.nii.gz", out, choices=ANYTHING, record=given))
            assert ran.succeeded, ran.series
            said[striped, age] = ran.series[0].measured[1]["called"]["half"]
    assert said == {(False, 35): False, (False, 85): False, (True, 35): False, (True, 85): True}
    outputs = ran.series[0].outputs
    data = json.loads(outputs["json"].read_text(encoding="utf-8"))
    assert data["record"] == {"age": 85.0, "marker": None}
    assert any("Marker is not known" in warning for warning in data["warnings"])
    page = outputs["report"].read_text(encoding="utf-8")
    assert "The record that was read" in page
    assert "not known" in page


def test_a_record_is_demanded_checked_and_of_one_scan(trained: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    write_phantom(tmp_path / "one.nii.gz", True, random)
    scan, out = tmp_path / "one.nii.gz", tmp_path / "out"
    with pytest.raises(SettingsError, match="reads a record beside the scan, and none was given"):
        run_model(RunRequest(trained, scan, out, choices=ANYTHING))
    with pytest.raises(InputError, match="did you mean 'marker'"):
        run_model(RunRequest(trained, scan, out, choices=ANYTHING, record=record(tmp_path / "r.json", age=60, maker=1)))
    with pytest.raises(InputError, match=r"Age \(age\) is missing"):
        run_model(RunRequest(trained, scan, out, choices=ANYTHING, record=record(tmp_path / "r.json", marker=1)))
    with pytest.raises(DomainRefused, match="Age is 7 a"):
        run_model(RunRequest(trained, scan, out, choices=ANYTHING, record=record(tmp_path / "r.json", age=7)))
    with pytest.raises(SettingsError, match="no scan was given"):
        run_model(RunRequest(trained, None, out, choices=ANYTHING, record=record(tmp_path / "r.json", age=70)))
    (tmp_path / "two").mkdir()
    for name in ("a.nii.gz", "b.nii.gz"):
        write_phantom(tmp_path / "two" / name, True, random)
    with pytest.raises(SettingsError, match="a record is of one scan, and 2 series could be read"):
        run_model(
            RunRequest(trained, tmp_path / "two", out, choices=ANYTHING, record=record(tmp_path / "r.json", age=70))
        )
