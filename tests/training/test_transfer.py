"""A part of a network starts from a package's weights; the rest at random."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hounsfield.architectures import weights_of
from hounsfield.errors import PackageInvalid
from hounsfield.training.network import start
from hounsfield.training.recipe_text import read_recipe
from training.conftest import Runner
from training.phantoms import PACKAGE, RECIPE, write_recipe

pytestmark = pytest.mark.torch

PLAIN = 'name = "plain-unet"\nfilters = [4, 8]\ndeep_supervision = 1'
CLASSES = 'target = ["size"]\nclasses = ["small", "large"]\n\n[input]'


@pytest.fixture
def outliner(balls: Path, tmp_path: Path, run_training: Runner) -> Path:
    text = RECIPE.replace('name = "attention-unet"\nfilters = [4, 8]', PLAIN.replace("[4, 8]", "[4, 8, 8]")) + PACKAGE
    trained = run_training(write_recipe(tmp_path, text, steps="2", every="2"), tmp_path / "outliner", package=True)
    assert trained.finished is not None
    assert trained.finished.package is not None
    return trained.finished.package.root


def classifier(package: Path, filters: str = "[4, 8, 8]", into: str = "outline") -> str:
    text = RECIPE.replace('task = "segmentation"', 'task = "classification"').replace("labels = 1\n", "")
    text = text.replace("[input]", CLASSES)
    text = text.replace('"attention-unet"\nfilters = [4, 8]', f'"outline-classifier"\nfilters = {filters}')
    return f'{text}\n[transfer]\npackage = "{package}"\ninto = "{into}"\n'


def test_the_outline_of_a_classifier_starts_from_a_package_that_outlines(
    outliner: Path, tmp_path: Path, run_training: Runner
) -> None:
    recipe = write_recipe(tmp_path, classifier(outliner), steps="4", every="4")
    given = load_file(str(outliner / "weights.safetensors"))
    own = weights_of(start(read_recipe(recipe), tmp_path))
    taken = [name for name in own if name.startswith("outline.")]
    assert taken
    assert all(torch.equal(own[name], given[name.removeprefix("outline.")]) for name in taken)
    trained = run_training(recipe, tmp_path / "run")
    assert trained.state.finished == "all steps done"


@pytest.mark.parametrize(("filters", "into"), [("[4, 8, 16]", "outline"), ("[4, 8, 8]", "contour")])
def test_weights_that_are_not_for_that_part_are_refused(
    outliner: Path, tmp_path: Path, filters: str, into: str
) -> None:
    recipe = write_recipe(tmp_path, classifier(outliner, filters, into))
    with pytest.raises(PackageInvalid, match=f"do not fit this network's {into}"):
        start(read_recipe(recipe), tmp_path)
