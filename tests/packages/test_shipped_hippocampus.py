"""The shipped package hippocampus-mr: evidence, card, split and recipe belong together."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from tests.packages.test_shipped_lung_nodule import EXAMPLES, module

from hounsfield.packages import ModelPackage, open_package, verify
from hounsfield.training.recipe_text import read_recipe, recipe_digest
from hounsfield.usecases.demo import demo

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


def test_nothing_is_outlined_beside_the_hippocampus_in_the_wider_boxes_of_the_demo(tmp_path: Path) -> None:
    """The average brain, whose two sides are mirror images: about 25 x 37 x 37 mm each, and alike."""
    volumes = []
    for files in demo(tmp_path / "demo").run.outputs.values():
        labels = sitk.GetArrayFromImage(sitk.ReadImage(str(files["nifti"])))
        extents = [int(np.ptp(axis)) + 1 for axis in np.nonzero(labels)]
        assert extents == pytest.approx([37, 37, 25], abs=4)
        volumes.append(np.count_nonzero(labels))
    assert len(volumes) == 2
    assert volumes[0] == pytest.approx(volumes[1], rel=0.05)
