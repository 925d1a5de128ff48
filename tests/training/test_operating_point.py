"""The threshold that is chosen on validation cases: the best of all, and the same in every engine."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hounsfield.architectures import build
from hounsfield.errors import SettingsError
from hounsfield.training.operating_point import THRESHOLDS, OperatingPoint, tune
from hounsfield.training.recipe_text import read_recipe, recipe_digest
from training.conftest import Runner
from training.phantoms import PACKAGE, RECIPE, write_recipe

pytestmark = pytest.mark.torch
NETWORK = {"name": "attention-unet", "filters": [4, 8], "channels_in": 1, "channels_out": 2}


class Shelf:
    """Cases as a cache gives them: an image whose value is the logit of the label."""

    def __init__(self, images: list[np.ndarray], labels: list[np.ndarray]) -> None:
        self.images, self.labels = images, labels

    def image(self, stored: int, box: object) -> np.ndarray:
        return self.images[stored.number]

    def label(self, stored: int, box: object) -> np.ndarray:
        return self.labels[stored.number]


class Case:
    def __init__(self, number: int) -> None:
        self.number, self.shape = number, (8, 8, 8)


class Given(nn.Module):
    """Answers the image as the logit of label 1, with a last convolution whose bias can be moved."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv3d(1, 2, 1)
        with torch.no_grad():
            self.head.weight[0], self.head.weight[1] = 0.0, 1.0
            self.head.bias.zero_()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(image)


def dice_at(threshold: float, shelf: Shelf) -> float:
    """Written anew, from probabilities."""
    values = []
    for image, label in zip(shelf.images, shelf.labels, strict=True):
        found = 1 / (1 + np.exp(-image[0].astype(np.float64))) > threshold
        values.append(2 * (found & (label == 1)).sum() / (found.sum() + (label == 1).sum()))
    return float(np.mean(values))


@pytest.mark.parametrize("bias", [-1.0, -0.3, 0.0, 0.7])
def test_the_best_threshold_is_found_and_built_in(tmp_path: Path, bias: float) -> None:
    rng = np.random.default_rng(4)
    labels = [(rng.random((8, 8, 8)) < 0.3).astype(np.uint8) for _ in range(5)]
    images = [rng.normal(2.0 * (one == 1) - 1.0 + bias, 1.0)[None].astype(np.float32) for one in labels]
    shelf, network = Shelf(images, labels), Given().eval()
    recipe = read_recipe(write_recipe(tmp_path, RECIPE))
    point = tune(network, recipe, "attention-unet", [Case(n) for n in range(5)], shelf)
    values = {one: dice_at(one, shelf) for one in THRESHOLDS}
    assert point.dice == pytest.approx(max(values.values()), abs=1e-4)
    assert values[point.threshold] == pytest.approx(max(values.values()), abs=1e-6)
    assert point.dice_at_half == pytest.approx(values[0.5], abs=1e-4)
    assert network.head.bias.tolist() == pytest.approx([0.0, math.log((1 - point.threshold) / point.threshold)])


def test_a_threshold_of_one_half_moves_nothing() -> None:
    assert OperatingPoint(0.5, 0.8, 0.8).offset == 0.0


def test_a_training_ends_with_it_and_its_weights_depend_on_nothing_else(
    balls: Path, tmp_path: Path, run_training: Runner
) -> None:
    plain = write_recipe(tmp_path, RECIPE + PACKAGE, steps="12")
    without = run_training(plain, tmp_path / "without", package=True)
    digest = recipe_digest(read_recipe(plain))
    tuned = write_recipe(tmp_path, RECIPE + PACKAGE.replace("title", "tune_threshold = true\ntitle", 1), steps="12")
    assert recipe_digest(read_recipe(tuned)) == digest
    trained = run_training(tuned, tmp_path / "tuned", package=True)
    point = json.loads((trained.folder / "training.json").read_text())["operating_point"]
    assert point["threshold"] in THRESHOLDS
    assert point["dice"] >= point["dice_at_half"]
    one, two = load_file(str(without.weights)), load_file(str(trained.weights))
    moved = [name for name in one if not torch.equal(one[name], two[name])]
    assert moved == ([] if point["threshold"] == 0.5 else ["head.bias"])
    offset = math.log((1 - point["threshold"]) / point["threshold"])
    assert (two["head.bias"] - one["head.bias"]).tolist() == pytest.approx([0.0, offset], abs=1e-6)
    assert "operating_point" not in json.loads((without.folder / "training.json").read_text())


def test_where_none_can_be_chosen_it_is_said(tmp_path: Path) -> None:
    recipe = read_recipe(write_recipe(tmp_path, RECIPE))
    with pytest.raises(SettingsError, match="there are none"):
        tune(build(NETWORK), recipe, "attention-unet", [], Shelf([], []))
    with pytest.raises(SettingsError, match="no threshold can be built into this network"):
        tune(build(NETWORK), recipe, "meshnet", [Case(0)], Shelf([], []))
    text = RECIPE.replace('task = "segmentation"', 'task = "detection"') + PACKAGE
    with pytest.raises(SettingsError, match="tune_threshold"):
        read_recipe(write_recipe(tmp_path, text.replace("title", "tune_threshold = true\ntitle", 1)))
