"""From a package to a smaller one that it taught, under a gate: what comes out, and what never gets that far."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from hounsfield.cli.app import app
from hounsfield.errors import InputError, OutputExists, PackageInvalid, SettingsError
from hounsfield.packages import ModelPackage, open_package, verify
from hounsfield.usecases.job import Choices
from hounsfield.usecases.sessions import proven_precision
from hounsfield.usecases.student import StudentRequest, StudentResult, make_student
from hounsfield.usecases.train import TrainRequest, train
from training.phantoms import PACKAGE, RECIPE, make_cases, write_recipe

pytestmark = pytest.mark.torch
WIDE_MARGIN = """
format = 1
resamples = 1000
minimum_patients = 3
[[criteria]]
metric = "dice"
margin = 0.9
"""
STUDENT = (
    (RECIPE + PACKAGE).replace("filters = [4, 8]", "filters = [4, 4]").replace('id = "ball-mr"', 'id = "ball-mr-small"')
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ModelPackage]:
    """A folder with twelve cases of which six are for the test, and a package that learned from the first four."""
    folder = tmp_path_factory.mktemp("balls-with-test")
    table = make_cases(folder, 12)
    with table.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for number, row in enumerate(rows):
        row["split"] = "train" if number < 4 else "validation" if number < 6 else "test"
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    before = torch.get_num_threads()
    recipe = write_recipe(folder, RECIPE + PACKAGE, steps="60", every="60", learning_rate="0.02")
    trained = train(TrainRequest(recipe, folder / "teacher"))
    torch.set_num_threads(before)
    assert trained.package is not None
    return folder, open_package(trained.package)


@pytest.fixture(scope="module")
def first(scene: tuple[Path, ModelPackage]) -> StudentRequest:
    """The request of the module's one student."""
    folder, teacher = scene
    (folder / "GATE.toml").write_text(WIDE_MARGIN)
    recipe = write_recipe(folder, STUDENT, steps="30", every="30", learning_rate="0.02")
    recipe = recipe.rename(folder / "student.toml")
    return StudentRequest(
        model=teacher.root,
        recipe=recipe,
        gate=folder / "GATE.toml",
        output=folder / "out",
        choices=Choices(engine="onnxruntime", threads=1),
    )


@pytest.fixture(scope="module")
def result(first: StudentRequest) -> StudentResult:
    """The module's one student, trained and judged."""
    before = torch.get_num_threads()
    made = make_student(first)
    torch.set_num_threads(before)
    return made


@pytest.fixture
def request_of(first: StudentRequest, tmp_path: Path) -> StudentRequest:
    """The same again, to be changed."""
    return replace(first, output=tmp_path / "out")


def test_a_student_that_loses_little_becomes_a_package_with_the_proof_inside(
    result: StudentResult, first: StudentRequest, scene: tuple[Path, ModelPackage]
) -> None:
    assert result.passed
    assert result.package is not None
    made = verify(result.package.root)
    assert (made.reference, made.precisions, made.proven()) == ("ball-mr-small-0.1.0", ("fp32",), ("fp32",))
    evidence = made.evidence("fp32")
    assert evidence is not None
    assert evidence.gate is not None
    assert (evidence.gate.verdict, evidence.gate.patients) == ("pass", 6)
    assert evidence.gate.against_package == scene[1].digest
    told = evidence.details["student"]
    assert told["teacher"]["parameters"] > told["student"]["parameters"]
    assert told["parameters_removed"] == round(result.student.removed, 4)
    assert told["training"]["steps"] == 30
    assert result.student.speed_up > 0
    page = (first.output / "student.md").read_text()
    assert f"{result.student.removed:.1%} fewer" in page
    assert "Gate: ball-mr-small-0.1.0 against ball-mr-0.1.0" in (first.output / "gate" / "gate.md").read_text()
    assert "Taught by ball-mr-0.1.0" in made.card()
    with pytest.raises(OutputExists):
        make_student(first)


def test_pruning_keeps_the_packages_network_and_a_failed_gate_leaves_no_package(
    request_of: StudentRequest, tmp_path: Path, scene: tuple[Path, ModelPackage]
) -> None:
    folder, _ = scene
    strict = tmp_path / "STRICT.toml"
    strict.write_text(WIDE_MARGIN.replace("0.9", "0.000001"))
    recipe = write_recipe(folder, STUDENT, steps="1", every="1", learning_rate="0.5")
    pruned = replace(request_of, recipe=recipe, gate=strict, prune=0.3, run=tmp_path / "run")
    result = make_student(pruned)
    assert result.judged.record.outcome.verdict == "fail"
    assert result.package is None
    assert result.student.removed >= 0.3
    assert result.student.training["pruned"] == 0.3
    kept = make_student(replace(pruned, output=tmp_path / "kept", keep_failed=True))
    assert kept.package is not None
    assert kept.package.proven() == ()
    with pytest.raises(PackageInvalid, match="has a failed gate for fp32"):
        proven_precision(kept.package, Choices("fp32"))
    record = json.loads((tmp_path / "run" / "training.json").read_text())
    assert record["recipe"]["architecture"]["filters"] == list(kept.student.student.architecture["filters"])


def test_what_cannot_begin_trains_nothing(request_of: StudentRequest, tmp_path: Path) -> None:
    nameless = write_recipe(tmp_path, STUDENT.replace("ball-mr-small", "ball-mr"))
    with pytest.raises(SettingsError, match="would be called ball-mr-0\\.1\\.0 as its teacher"):
        make_student(replace(request_of, recipe=nameless))
    with pytest.raises(SettingsError, match="has no \\[package\\]"):
        make_student(replace(request_of, recipe=write_recipe(tmp_path, RECIPE)))
    with pytest.raises(SettingsError, match="is no share of the parameters"):
        make_student(replace(request_of, prune=1.5))
    with pytest.raises(InputError, match="'train' is what the model learned from"):
        make_student(replace(request_of, part="train"))
    with pytest.raises(InputError, match="trained or calibrated the model"):
        make_student(replace(request_of, part="validation"))
    assert not request_of.output.exists()
    assert not (tmp_path / "out-training").exists()


def test_the_door_asks_for_one_of_two_ways(
    result: StudentResult, request_of: StudentRequest, tmp_path: Path, scene: tuple[Path, ModelPackage]
) -> None:
    words = ["compress", str(request_of.model), "--gate", str(request_of.gate), "-o", str(tmp_path / "door")]
    neither = CliRunner().invoke(app, words)
    both = CliRunner().invoke(app, [*words, "--to", "bf16", "--student", str(request_of.recipe)])
    alone = CliRunner().invoke(app, [*words, "--to", "bf16", "--prune", "0.5"])
    assert {one.exit_code for one in (neither, both, alone)} == {2}
    again = ["--student", str(request_of.recipe), "--run", str(scene[0] / "out-training")]  # it is finished
    done = CliRunner().invoke(app, [*words, *again, "--engine", "onnxruntime", "--threads", "1", "--json", "-q"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["verdict"] == "pass"
    assert told["gate"]["candidate"]["graph_sha256"] == result.judged.record.as_dict()["candidate"]["graph_sha256"]
