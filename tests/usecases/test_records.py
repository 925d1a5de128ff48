"""A package that reads a record alone: trained on a table without images, run, evaluated, and bad records."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from class_scenes import write_table

from hounsfield.errors import DomainRefused, InputError, NotReadable, SettingsError
from hounsfield.packages.answers import ColumnSpec
from hounsfield.usecases.evaluate import EvaluateRequest, evaluate
from hounsfield.usecases.job import Choices
from hounsfield.usecases.records import checked_record, read_record
from hounsfield.usecases.run import RunRequest, run_model
from hounsfield.usecases.train import TrainRequest, train

RECIPE = """
format = 1
task = "fusion"
[data]
table = "cases.csv"
target = ["ill"]
classes = ["no", "yes"]
record = ["a", "b"]
[input]
channels = []
window = { shape = [1, 1, 1] }
[architecture]
name = "fusion"
hidden_size = 16
dropout = 0.0
[optimisation]
steps = 200
batch = 32
learning_rate = 1e-2
warm_up_steps = 0
ema = 0.9
[validation]
every = 100
[compute]
device = "cpu"
precision = "fp32"
threads = 1
recompute = "never"
[package]
id = "two-numbers"
title = "Two numbers"
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
COLUMNS = (
    ColumnSpec(name="age", title="Age", unit="a", low=18, high=100, breach="refuse", required=True),
    ColumnSpec(name="psa", title="PSA", unit="ng/ml", low=0, high=100),
)


@pytest.mark.torch
def test_a_table_without_images_becomes_a_package_that_runs(tmp_path: Path) -> None:
    """Whoever has a > b is ill; a missing b is allowed."""
    random = np.random.default_rng(0)
    rows = []
    for n in range(180):
        a, b = random.normal(size=2)
        part = "test" if n % 3 == 0 else "validation" if n % 3 == 1 else "train"
        cell = "" if n == 5 else f"{b:.4f}"
        rows.append({"patient_id": f"p{n}", "split": part, "a": f"{a:.4f}", "b": cell, "ill": "yes" if a > b else "no"})
    table = write_table(tmp_path / "cases.csv", rows)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    trained = train(TrainRequest(tmp_path / "recipe.toml", tmp_path / "run"))
    assert trained.package is not None
    result = evaluate(EvaluateRequest(trained.package, table, tmp_path / "evaluation"))
    (one,) = result.record.summary.classes  # type: ignore[union-attr]
    assert one.auc is not None
    assert one.auc.mean > 0.9
    record = tmp_path / "one.json"
    record.write_text('{"a": 2.0, "b": -2.0}')
    ran = run_model(
        RunRequest(trained.package, None, tmp_path / "out", choices=Choices(allow_unproven=True), record=record)
    )
    assert ran.series[0].measured[1]["called"] == {"half": True}
    written = json.loads(ran.series[0].outputs["json"].read_text(encoding="utf-8"))
    assert written["record"] == {"a": 2.0, "b": -2.0}
    assert "Research use only" in ran.series[0].outputs["report"].read_text(encoding="utf-8")
    with pytest.raises(SettingsError, match="reads a record, and none was given"):
        run_model(RunRequest(trained.package, None, tmp_path / "out2", choices=Choices(allow_unproven=True)))


def test_missing_numbers_are_told_and_required_ones_demanded() -> None:
    values, warnings = checked_record({"age": 60, "psa": None}, COLUMNS)
    assert values[0, 0] == 60
    assert np.isnan(values[0, 1])
    assert warnings == ("PSA is not known and was filled in with the mean of the training data",)
    with pytest.raises(InputError, match=r"Age \(age\) is missing"):
        checked_record({"psa": 3}, COLUMNS)


def test_numbers_outside_the_domain_warn_or_refuse() -> None:
    assert checked_record({"age": 60, "psa": 200}, COLUMNS)[1] == (
        "PSA is 200 ng/ml, the model wants at most 100 ng/ml",
    )
    with pytest.raises(DomainRefused, match="Age is 7 a, the model wants at least 18 a"):
        checked_record({"age": 7}, COLUMNS)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"age": 60, "pas": 1}, "reads no 'pas'"),
        ({"age": "old"}, "age is not a number"),
        ({"age": True}, "age is not a number"),
        ({"age": [60]}, "age is not a number"),
        ({"age": 1e999}, "not a finite number"),
    ],
)
def test_a_record_with_a_mistake_names_it(data: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        checked_record(data, COLUMNS)


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", "\xff"])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(NotReadable):
        read_record(tmp_path / "record.json")
    with pytest.raises(NotReadable, match="cannot be read"):
        read_record(tmp_path / "nowhere.json")
