"""A recipe is checked as a whole; every mistake is one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from hounsfield.errors import HounsfieldError, PackageInvalid, SettingsError
from hounsfield.training.network import describe
from hounsfield.training.recipe_text import read_recipe, recipe_digest
from training.phantoms import MAPS, PACKAGE, RECIPE, write_recipe

CLASSES = RECIPE.replace('task = "segmentation"', 'task = "classification"').replace("labels = 1\n", "")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("learning_rate", "learning_rat", "did you mean 'learning_rate'"),
        ("[optimisation]", "[optimization]", "did you mean 'optimisation'"),
        ("probability = 0.5", "probabilty = 0.5", "did you mean 'probability'"),
        ("overlap = 0.25", "overlab = 0.25", "did you mean 'overlap'"),
        ("steps = 12", 'steps = "many"', "optimisation.steps"),
        ("steps = 12", "", "no 'optimisation.steps'"),
        ("labels = 1", "", "say how many labels"),
        ("learning_rate = 0.01", "learning_rate = -1", "greater than 0"),
        ("learning_rate = 0.01", 'loss = "bce"', "does not fit the task"),
        ('memory = "64MiB"', 'memory = "much"', "data.memory"),
        ("[data]", "[data", "not TOML"),
        ("[augmentation.elastic]", '[augmentation]\nflip = ["up"]\n[augmentation.elastic]', "left-right"),
        ("[augmentation.elastic]", "[augmentation]\nscale = [1.2, 0.8]\n[augmentation.elastic]", "smaller one first"),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert RECIPE.count(old) >= 1
    path = write_recipe(tmp_path, RECIPE.replace(old, new, 1))
    with pytest.raises(SettingsError) as caught:
        read_recipe(path)
    assert told in str(caught.value)
    assert "\n" not in caught.value.fact
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (RECIPE.replace("attention-unet", "atention-unet"), "did you mean 'attention-unet'"),
        (RECIPE.replace("attention-unet", "densenet121"), "does not fit the task"),
        (RECIPE.replace("filters = [4, 8]", "filters = [4, 8]\nchannels_out = 5"), "means 2"),
    ],
)
def test_the_network_must_fit(tmp_path: Path, text: str, told: str) -> None:
    recipe = read_recipe(write_recipe(tmp_path, text))
    with pytest.raises(HounsfieldError, match=told):
        describe(recipe)


def test_a_class_needs_a_column(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"data\.target"):
        read_recipe(write_recipe(tmp_path, CLASSES))


def test_sides_that_have_names_are_not_exchanged(tmp_path: Path) -> None:
    flip = RECIPE.replace("[augmentation.elastic]", '[augmentation]\nflip = ["left-right"]\n[augmentation.elastic]')
    assert read_recipe(write_recipe(tmp_path, flip + PACKAGE)).augmentation.flip == ("left-right",)
    sided = PACKAGE.replace('label = "ball"', 'label = "left ball"')
    with pytest.raises(SettingsError, match="has a side"):
        read_recipe(write_recipe(tmp_path, flip + sided))


def test_only_what_decides_the_weights_changes_the_digest(tmp_path: Path) -> None:
    first = recipe_digest(read_recipe(write_recipe(tmp_path)))
    assert recipe_digest(read_recipe(write_recipe(tmp_path, RECIPE + PACKAGE))) == first
    assert recipe_digest(read_recipe(write_recipe(tmp_path, checkpoint_every="5"))) == first
    assert recipe_digest(read_recipe(write_recipe(tmp_path, seed="4"))) != first


def test_phases_share_their_intensity_steps(tmp_path: Path) -> None:
    text = CLASSES.replace("classification", "dynamic").replace('"cases.csv"', '"cases.csv"\ntarget = ["size"]')
    text = text.replace('target = ["size"]', 'target = ["size"]\nclasses = ["small", "large"]')
    text = text.replace('orientation = "LPS"', 'orientation = "LPS"\nintensity = [{ step = "z-score" }]')
    with pytest.raises(SettingsError, match="only clip, scale and standardise"):
        read_recipe(write_recipe(tmp_path, text))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("gamma = { probability = 0.0 }", "gamma = { probability = 0.1 }", "it changes the numbers that are learnt"),
        ("ema = 0.9", 'ema = 0.9\nloss = "ce"', "are learnt with smooth-l1"),
        ("every_voxel = true", "every_voxel = false", "name the columns of the quantities, slope"),
        ('table = "cases.csv"', 'table = "cases.csv"\ntarget = ["slope"]', "maps are learnt from the column 'label'"),
        ("baseline = 1", "baseline = 0", "give at least 1 for a relative signal"),
        ("every_voxel", "every_vocsel", "did you mean 'every_voxel'"),
    ],
)
def test_a_recipe_of_numbers_is_checked(tmp_path: Path, old: str, new: str, told: str) -> None:
    read_recipe(write_recipe(tmp_path, MAPS))
    with pytest.raises(SettingsError, match=told):
        read_recipe(write_recipe(tmp_path, MAPS.replace(old, new)))


def test_unknown_arguments_of_the_network_are_proposed(tmp_path: Path) -> None:
    from hounsfield.architectures import build

    recipe = read_recipe(write_recipe(tmp_path, RECIPE.replace("filters =", "filter =")))
    with pytest.raises(PackageInvalid, match="did you mean 'filters'"):
        build(describe(recipe))
