"""Losses; each is the mean over the items of a batch, so that splitting a batch changes nothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_SMOOTH = 1.0
_FOCUS = 2.0
_BEND = 0.05


def loss_of(name: str, logits: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """The named loss as a scalar.

    Parameters
    ----------
    name
        ``dice-ce``, ``dice-focal``, ``ce``, ``focal``, ``bce``, ``heat-map`` or ``smooth-l1``.
    logits
        (batch, classes, ...), or (batch, heads, classes, ...) under deep supervision: each further
        head counts half of the one before.
    target
        As :class:`hounsfield.training.batches.Batch` says.
    """
    dense = target.dim() > 2 and name != "heat-map"
    if not dense or logits.dim() == target.dim() + 1:
        return _single(name, logits.float(), target, class_weights)
    weights = [0.5**head for head in range(logits.shape[1])]
    parts = [w * _single(name, logits[:, h].float(), target, class_weights) for h, w in enumerate(weights)]
    return torch.stack(parts).sum() / sum(weights)


def _single(name: str, logits: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
    if name == "dice-ce":
        return cross_entropy(logits, target, weights) + dice_loss(logits, target)
    if name == "dice-focal":
        return focal(logits, target, weights) + dice_loss(logits, target)
    if name == "ce":
        return cross_entropy(logits, target, weights)
    if name == "focal":
        return focal(logits, target, weights)
    if name == "bce":
        return _binary(logits, target, weights)
    if name == "smooth-l1":
        return F.smooth_l1_loss(logits, target, beta=_BEND)
    return heat_map_loss(logits, target)


def dice_loss(logits: Tensor, label: Tensor) -> Tensor:
    """1 - soft Dice (Milletari 2016) of the labels, background left out, item by item."""
    probability = logits.softmax(1)[:, 1:].flatten(2)
    one_hot = torch.stack([label == value for value in range(1, logits.shape[1])], 1).flatten(2)
    overlap = (probability * one_hot).sum(2)
    total = probability.sum(2) + one_hot.sum(2)
    return 1 - ((2 * overlap + _SMOOTH) / (total + _SMOOTH)).mean()


def cross_entropy(logits: Tensor, label: Tensor, weights: Tensor | None = None) -> Tensor:
    """Softmax cross-entropy, the mean over items of the mean over voxels."""
    values = F.cross_entropy(logits, label, reduction="none")
    return (values if weights is None else values * weights[label]).mean()


def focal(logits: Tensor, label: Tensor, weights: Tensor | None = None) -> Tensor:
    """Focal loss (Lin 2017) with focus 2: easy voxels count little."""
    values = F.cross_entropy(logits, label, reduction="none")
    values = (1 - torch.exp(-values)) ** _FOCUS * values
    return (values if weights is None else values * weights[label]).mean()


def _binary(logits: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
    """Sigmoid cross-entropy per finding; a class number with two logits is taken as one-hot."""
    wanted = target if target.dim() == logits.dim() else F.one_hot(target, logits.shape[1])
    values = F.binary_cross_entropy_with_logits(logits, wanted.float(), reduction="none")
    return (values if weights is None else values * weights).mean()


def heat_map_loss(output: Tensor, target: Tensor) -> Tensor:
    """Penalty-reduced focal loss of the centres plus L1 of log sizes and offsets (Law 2018, Zhou 2019).

    Parameters
    ----------
    output
        (batch, classes + 6, ...): logits of the heat-maps, log2 sizes, offsets.
    target
        (batch, classes + 7, ...): heat-maps, log2 sizes, offsets, 1 at centres.
    """
    classes = output.shape[1] - 6
    logits, maps = output[:, :classes].flatten(2), target[:, :classes].flatten(2)
    at_centre = maps >= 1
    probability = logits.sigmoid()
    found = F.logsigmoid(logits) * (1 - probability) ** 2 * at_centre
    elsewhere = F.logsigmoid(-logits) * probability**2 * (1 - maps) ** 4 * ~at_centre
    count = at_centre.sum((1, 2)).clamp(min=1)
    centre = -(found + elsewhere).sum((1, 2)) / count
    mask = target[:, -1:].flatten(2)
    numbers = (output[:, classes:].flatten(2) - target[:, classes:-1].flatten(2)).abs() * mask
    extent = numbers.sum((1, 2)) / (6 * mask.sum((1, 2)).clamp(min=1))
    return (centre + extent).mean()
