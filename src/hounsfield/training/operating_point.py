"""The probability from which on a voxel belongs to a label, chosen on validation cases and built into the network.

Cross-entropy leaves a network whose best guess is right most often at one half. For the highest Dice the
threshold lies lower: at half of the Dice that can be reached (Lipton, Elkan and Naryanaswamy 2014). It
becomes a constant in the bias of the last convolution, so graphs, engines and devices know nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hounsfield.architectures import architecture
from hounsfield.errors import SettingsError
from hounsfield.training.cache import Cache, Stored
from hounsfield.training.recipe import Recipe
from hounsfield.training.validation import case_dice, mean_dice, whole_logits

THRESHOLDS: Final = tuple(round(0.2 + 0.025 * n, 3) for n in range(17))
_REMEDY = "leave package.tune_threshold out, or train one of plain-unet, nnunet-plain, nnunet-residual, attention-unet"


@dataclass(frozen=True)
class OperatingPoint:
    """The chosen threshold, and the mean Dice of the validation cases there and at one half."""

    threshold: float
    dice: float
    dice_at_half: float

    @property
    def offset(self) -> float:
        """What is added to the logits of all labels: the negative logit of the threshold."""
        return math.log((1 - self.threshold) / self.threshold)

    def as_dict(self) -> dict[str, float]:
        """For the record of a training."""
        return asdict(self)


def tune(network: nn.Module, recipe: Recipe, name: str, cases: Sequence[Stored], cache: Cache) -> OperatingPoint:
    """Choose the threshold with the highest mean Dice, and build it into the network's last bias, in place.

    Of several labels each gets the same offset against the background. On a tie the threshold
    nearest to one half is taken.

    Parameters
    ----------
    network
        In evaluation mode, float32, on the CPU.
    name
        Of its architecture.
    cases
        Validation cases; whole ones are read, as in each validation.

    Raises
    ------
    SettingsError
        If there are no cases, or the network has no bias to build it into.
    """
    bias = _bias(network, name)
    if not cases:
        raise SettingsError("a threshold is chosen on validation cases, and there are none", _REMEDY)
    tables: dict[float, list[NDArray[np.float64]]] = {one: [] for one in THRESHOLDS}
    with torch.inference_mode():
        for stored in cases:
            logits, label = whole_logits(network, recipe, stored, cache)
            for threshold, rows in tables.items():
                rows.append(case_dice(_labels(logits, threshold), label, recipe.label_count))
    values = {threshold: mean_dice(rows)[0] for threshold, rows in tables.items()}
    best = max(THRESHOLDS, key=lambda one: (round(values[one], 6), -abs(one - 0.5)))
    point = OperatingPoint(best, round(values[best], 4), round(values[0.5], 4))
    with torch.no_grad():
        bias[1:] += point.offset
    return point


def _labels(logits: NDArray[np.float32], threshold: float) -> NDArray[np.intp]:
    moved = logits.copy()
    moved[1:] += math.log((1 - threshold) / threshold)
    labels: NDArray[np.intp] = moved.argmax(0)
    return labels


def _bias(network: nn.Module, name: str) -> torch.Tensor:
    """The bias of the last convolution, one number per logit."""
    head = architecture(name).head
    modules: dict[str, Any] = dict(network.named_modules())
    several = "members.1" in modules
    bias: torch.Tensor | None = None if head is None or several else modules[head].bias
    if bias is None:
        raise SettingsError(f"no threshold can be built into this network ({name})", _REMEDY)
    return bias
