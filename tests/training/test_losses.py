"""Losses against independent implementations, and what splitting a batch does to them: nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.losses import DiceLoss, FocalLoss

from hounsfield.training.losses import dice_loss, focal, heat_map_loss, loss_of
from hounsfield.training.recipe import Optimisation
from hounsfield.training.schedules import learning_rate
from hounsfield.training.targets import heat_maps

pytestmark = pytest.mark.torch


def pair(batch: int = 3, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, classes, 4, 5, 6, generator=generator)
    return logits, torch.randint(0, classes, (batch, 4, 5, 6), generator=generator)


def test_dice_and_focal_equal_monai() -> None:
    logits, label = pair()
    dice = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, smooth_nr=1.0, smooth_dr=1.0)
    torch.testing.assert_close(dice_loss(logits, label), dice(logits, label[:, None]))
    other = FocalLoss(to_onehot_y=True, use_softmax=True, gamma=2.0)
    torch.testing.assert_close(focal(logits, label), other(logits, label[:, None]) * logits.shape[1])


@pytest.mark.parametrize("name", ["dice-ce", "dice-focal", "ce", "focal"])
def test_parts_of_a_batch_add_up(name: str) -> None:
    logits, label = pair(4)
    whole = loss_of(name, logits, label)
    parts = [loss_of(name, logits[n : n + 1], label[n : n + 1]) for n in range(4)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_deep_supervision_weighs_heads_by_halves() -> None:
    logits, label = pair()
    stacked = torch.stack([logits, 2 * logits], 1)
    expected = (loss_of("ce", logits, label) + 0.5 * loss_of("ce", 2 * logits, label)) / 1.5
    torch.testing.assert_close(loss_of("ce", stacked, label), expected)


def test_findings_and_classes() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 0.0]])
    findings = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(loss_of("bce", logits, findings), F.binary_cross_entropy_with_logits(logits, findings))
    classes = torch.tensor([0, 1])
    torch.testing.assert_close(loss_of("ce", logits, classes), F.cross_entropy(logits, classes))


def test_heat_maps_know_centre_and_size() -> None:
    label = np.zeros((16, 16, 16), np.int64)
    label[2:6, 8:12, 4:8] = 1
    label[10:12, 10:12, 10:12] = 1
    target = heat_maps(label, 1, 4).numpy()
    assert target.shape == (8, 4, 4, 4)
    cells = [tuple(int(n) for n in cell) for cell in np.argwhere(target[7] == 1)]
    assert cells == [(1, 2, 1), (2, 2, 2)]
    assert all(target[0][cell] == 1 for cell in cells)
    assert target[1:4, 1, 2, 1].tolist() == [2.0, 2.0, 2.0]  # log2 of 4 voxels
    centre = (np.array(cells[0]) + target[4:7, 1, 2, 1]) * 4 - 0.5
    assert centre.tolist() == [3.5, 9.5, 5.5]


def test_the_right_answer_costs_less() -> None:
    label = np.zeros((16, 16, 16), np.int64)
    label[2:6, 8:12, 4:8] = 1
    target = heat_maps(label, 1, 4)[None]
    right = target[:, :7].clone()
    right[:, :1] = torch.where(target[:, :1] == 1, 6.0, -6.0)
    assert float(heat_map_loss(right, target)) < 0.1 < float(heat_map_loss(torch.zeros_like(right), target))


@pytest.mark.parametrize("schedule", ["cosine", "polynomial", "constant", "one-cycle"])
def test_a_schedule_warms_up_reaches_the_top_and_never_leaves_its_bounds(schedule: str) -> None:
    settings = Optimisation(steps=100, learning_rate=0.5, warm_up_steps=10, schedule=schedule)
    rates = [learning_rate(step, settings) for step in range(100)]
    assert max(rates) == pytest.approx(0.5)
    assert min(rates) > 0
    assert rates[0] < rates[5] < rates[9]
    assert rates[-1] == pytest.approx(0.5) if schedule == "constant" else rates[-1] < 0.02
