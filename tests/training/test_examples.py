"""The recipes that ship are valid, their networks exist, and their splits share no case."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from hounsfield.training.finishing import manifest_of
from hounsfield.training.network import describe
from hounsfield.training.recipe_text import read_recipe

pytestmark = pytest.mark.torch

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RECIPES = sorted(
    [*EXAMPLES.glob("*/recipe.toml"), *EXAMPLES.glob("*/recipe-small.toml"), *EXAMPLES.glob("*/recipe-nnunet.toml")]
)


@pytest.mark.parametrize("path", RECIPES, ids=["/".join(path.parts[-2:]) for path in RECIPES])
def test_a_shipped_recipe_is_valid(path: Path) -> None:
    recipe = read_recipe(path)
    description = describe(recipe)
    if recipe.package is not None:
        manifest = manifest_of(recipe, recipe.package, description)
        assert manifest.id == path.parent.name + path.stem.removeprefix("recipe")
    if recipe.data.split_file is not None:
        splits = json.loads((path.parent / recipe.data.split_file).read_text())
        assert {recipe.data.train, recipe.data.validation, "test"} <= set(splits)
        for one, other in itertools.combinations(splits.values(), 2):
            assert not set(one) & set(other)


def test_there_are_recipes() -> None:
    assert {"lung-nodule-ct", "pneumonia-cxr"} <= {path.parent.name for path in RECIPES}
