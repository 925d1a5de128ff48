"""The kept package lung-nodule-ct-small: whole, proven against the teacher that is kept, and as small as is said."""

from __future__ import annotations

import hashlib

import pytest
from safetensors import safe_open
from tests.conftest import REPOSITORY

from hounsfield.compression.student_report import evaluated
from hounsfield.packages import ModelPackage, open_package, verify
from hounsfield.packages.evidence import Evidence
from hounsfield.training.recipe_text import read_recipe

EXAMPLE = REPOSITORY / "examples" / "lung-nodule-ct"
TEACHER = EXAMPLE / "teacher" / "lung-nodule-ct-1.0.0"


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    return verify(EXAMPLE / "small" / "lung-nodule-ct-small-1.0.0")


@pytest.fixture(scope="module")
def evidence(package: ModelPackage) -> Evidence:
    found = package.evidence("fp32")
    assert found is not None
    return found


def parameters(package: ModelPackage) -> int:
    """Counted in the weights."""
    with safe_open(str(package.weights_path), framework="numpy") as weights:
        return sum(weights.get_tensor(name).size for name in weights.keys())  # noqa: SIM118


def test_it_is_proven_against_the_teacher_that_is_kept(package: ModelPackage, evidence: Evidence) -> None:
    teacher = verify(TEACHER)
    gate = evidence.gate
    assert gate is not None
    assert (gate.verdict, gate.against, gate.against_package) == ("pass", "fp32", teacher.digest)
    assert gate.against_sha256 == {"graphs/fp32.onnx": teacher.files["graphs/fp32.onnx"]}
    assert gate.rule_sha256 == hashlib.sha256((EXAMPLE / "gate-small.toml").read_bytes()).hexdigest()
    assert (
        evidence.details["data"]["split_file_sha256"]
        == hashlib.sha256((EXAMPLE / "splits.json").read_bytes()).hexdigest()
    )
    assert "fp32" in package.proven()


def test_it_has_a_fifth_of_its_teachers_parameters(package: ModelPackage, evidence: Evidence) -> None:
    own, before = parameters(package), parameters(open_package(str(TEACHER)))
    assert (own, before) == (97_652, 513_812)
    told = evidence.details["student"]
    assert (told["student"]["parameters"], told["teacher"]["parameters"]) == (own, before)
    assert told["parameters_removed"] == pytest.approx(1 - own / before, abs=1e-4)
    assert told["parameters_removed"] >= 0.8
    assert told["speed_up"] >= 5


def test_the_card_is_the_recipes_words_and_the_evidences_figures(package: ModelPackage, evidence: Evidence) -> None:
    card, table = package.card(), read_recipe(EXAMPLE / "recipe-small.toml").package
    assert table is not None
    assert card.count("Research use only.") == 1
    assert table.intended_use.strip() in card
    assert table.card.strip() in card
    assert evaluated(evidence) in card
    for one in evidence.details["gate"]["strata"]:
        figures = f"{one['mean_difference']:+.4f}|{one['bound']:+.4f}|{one['margin']:g}|pass"
        assert f"|{one['metric']}|{one['stratum']}|{one['items']}|{figures}|" in card
