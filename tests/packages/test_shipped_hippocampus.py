"""The shipped package hippocampus-mr: evidence, card, split and recipe belong together."""

from __future__ import annotations

import json
import sys

import pytest
from tests.packages.test_shipped_lung_nodule import EXAMPLES, module

from hounsfield.packages import ModelPackage, open_package, verify
from hounsfield.training.recipe_text import read_recipe, recipe_digest

EXAMPLE = EXAMPLES / "hippocampus-mr"


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    return open_package("hippocampus-mr")


def test_the_evidence_is_of_the_test_part_and_of_this_recipe(package: ModelPackage) -> None:
    assert verify(package.root).digest == package.digest
    splits = json.loads((EXAMPLE / "splits.json").read_text())
    for precision in ("fp32", "bf16"):
        evidence = package.evidence(precision)
        assert (evidence.data.use, evidence.data.cases) == ("test", len(splits["test"]))
        assert evidence.details["training"]["training_cases"] == len(splits["training"])
        assert evidence.details["training"]["recipe_sha256"] == recipe_digest(read_recipe(EXAMPLE / "recipe.toml"))
        dice = {one.segment: one.value for one in evidence.scores if (one.metric, one.stratum) == ("Dice", "all")}
        assert min(dice.values()) >= 0.87
        assert sum(dice.values()) / 2 >= 0.88


def test_no_person_is_in_two_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(EXAMPLE), *sys.path])
    subject_of = module(EXAMPLE / "make_splits.py").subject_of
    splits = json.loads((EXAMPLE / "splits.json").read_text())
    persons = [{subject_of(name) for name in splits[part]} for part in ("training", "validation", "test")]
    assert sum(map(len, persons)) == len(set().union(*persons))


def test_every_figure_of_the_card_is_that_of_the_evidence(package: ModelPackage) -> None:
    evidence = {name: package.evidence(name) for name in ("fp32", "bf16")}
    card = module(EXAMPLES / "ship.py").filled((EXAMPLE / "card.md").read_text(encoding="utf-8"), evidence)
    assert card == package.card()
    assert "{{" not in card
    (dice,) = [s for s in evidence["fp32"].scores if (s.metric, s.stratum, s.segment) == ("Dice", "all", 2)]
    assert f"| fp32 | posterior | {dice.value:.3f} ({dice.low:.3f} to {dice.high:.3f}; n = 40)" in card
