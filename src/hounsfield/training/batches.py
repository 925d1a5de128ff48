"""Batches of a training: every choice is a function of the seed and the number of the item.

There is no sampler state: item ``n`` of a training is the same patch whichever process makes it,
in whatever batch, and however often the training was interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hounsfield.training.cache import Cache, Stored
from hounsfield.training.intensities import change_intensities
from hounsfield.training.recipe import Recipe
from hounsfield.training.targets import heat_maps
from hounsfield.training.warping import Warp, draw_warp, no_warp, sample, sample_label


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs and target of one forward pass.

    Parameters
    ----------
    image
        (batch, channels, k, j, i), or (batch, phases, channels, k, j, i) of a sequence.
    target
        Labels (batch, k, j, i) int64, classes (batch,) int64, findings (batch, n) float32, numbers
        (batch, n) float32 in units of their factors, or heat-maps (batch, classes + 7, ...) float32.
    record
        (batch, columns) float32, NaN where missing; ``None`` unless the network fuses.
    """

    image: Tensor
    target: Tensor
    record: Tensor | None = None

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What the network is called with."""
        return (self.image,) if self.record is None else (self.image, self.record)


class Patches:
    """Augmented training items, and the middle patch of a validation case."""

    def __init__(
        self,
        recipe: Recipe,
        cases: Sequence[Stored],
        cache: Cache,
        targets: Mapping[str, tuple[float, ...]],
        records: Mapping[str, tuple[float, ...]],
        stride: int = 1,
    ) -> None:
        self._recipe = recipe
        self._cases = list(cases)
        self._cache = cache
        self._targets = targets
        self._records = records
        self._stride = stride
        self._weights = _balanced(self._cases, targets) if recipe.data.balance and targets else None
        self._orders: dict[int, list[int]] = {}

    def batch(self, items: Sequence[int], device: torch.device) -> Batch:
        """The items with these numbers."""
        return self._join([self._item(number, device) for number in items], device)

    def middle(self, stored: Stored, device: torch.device) -> Batch:
        """The middle patch of a case, unchanged, as a batch of one."""
        centre = tuple((n - 1) / 2 for n in stored.shape)
        start = [round(c - (n - 1) / 2) for c, n in zip(centre, self._recipe.window, strict=True)]
        at = [s + (n - 1) / 2 for s, n in zip(start, self._recipe.window, strict=True)]
        return self._join([self._cut(stored, no_warp((at[0], at[1], at[2])), device)], device)

    def voxels(self, stored: Stored, most: int, device: torch.device) -> Batch:
        """The surroundings of up to so many voxels of a case whose maps are known, spread evenly."""
        rows = stored.voxels[np.linspace(0, len(stored.voxels) - 1, min(most, len(stored.voxels))).astype(int), 1:]
        return self._join([self._cut(stored, no_warp((k, j, i)), device) for k, j, i in rows.tolist()], device)

    def case_of(self, item: int) -> Stored:
        """Which case an item is taken from: each once per round, in a new order every round."""
        if self._weights is not None:
            rng = np.random.default_rng([self._recipe.seed, 1, item])
            return self._cases[int(rng.choice(len(self._cases), p=self._weights))]
        turn, place = divmod(item, len(self._cases))
        if turn not in self._orders:
            rng = np.random.default_rng([self._recipe.seed, 0, turn])
            self._orders = {turn: rng.permutation(len(self._cases)).tolist()}
        return self._cases[self._orders[turn][place]]

    def _item(self, number: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
        stored = self.case_of(number)
        rng = np.random.default_rng([self._recipe.seed, 2, number])
        settings = self._recipe.augmentation
        centre = self._centre(stored, rng)
        orientation = self._recipe.input.orientation
        warp = draw_warp(rng, settings, centre, self._recipe.window, stored.spacing_mm, orientation)
        image, target, record = self._cut(stored, warp, device)
        return (change_intensities(image, settings, rng) if stored.channels else image), target, record

    def _centre(self, stored: Stored, rng: np.random.Generator) -> tuple[float, float, float]:
        """A patch within the case where it fits; on a labelled voxel with the recipe's probability."""
        if self._recipe.maps:
            k, j, i = stored.voxels[int(rng.integers(len(stored.voxels))), 1:].tolist()
            return k, j, i
        labels = stored.labels()
        wanted = None
        if labels and rng.random() < self._recipe.data.foreground:
            rows = stored.voxels[stored.voxels[:, 0] == labels[int(rng.integers(len(labels)))]]
            wanted = rows[int(rng.integers(len(rows)))][1:]
        middle = []
        for axis, (have, want) in enumerate(zip(stored.shape, self._recipe.window, strict=True)):
            room = have - want
            if room <= 0:
                start = room // 2
            elif wanted is None:
                start = int(rng.integers(room + 1))
            else:
                start = int(np.clip(int(wanted[axis]) - int(rng.integers(want)), 0, room))
            middle.append(start + (want - 1) / 2)
        return middle[0], middle[1], middle[2]

    def _cut(self, stored: Stored, warp: Warp, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
        patch = self._recipe.window
        image = torch.zeros((0, *patch), device=device)
        if stored.channels:
            box = warp.box(patch, stored.shape)
            grid = warp.grid(patch, box, device)
            values = torch.from_numpy(self._cache.image(stored, box)).to(device)
            image = sample(values, grid, self._recipe.input.window.pad_value)
        if self._recipe.task in ("segmentation", "detection"):
            label = torch.from_numpy(self._cache.label(stored, box).astype(np.int32)).to(device)
            target = sample_label(label, grid)
            if self._recipe.task == "detection":
                target = heat_maps(target.cpu().numpy(), self._recipe.label_count, self._stride).to(device)
        elif self._recipe.quantities:
            target = self._numbers(stored, warp.centre).to(device)
        else:
            values_of = self._targets[stored.case_id]
            one_class = len(self._recipe.data.target) == 1
            target = torch.tensor(int(values_of[0]) if one_class else values_of, device=device)
        record = None
        if self._recipe.task == "fusion":
            record = torch.tensor(self._records[stored.case_id], dtype=torch.float32, device=device)
        return image, target, record

    def _numbers(self, stored: Stored, centre: tuple[float, float, float]) -> Tensor:
        """The known numbers of the case or of a voxel, in units of their factors."""
        if self._recipe.maps:
            k, j, i = (slice(round(n), round(n) + 1) for n in centre)
            known = self._cache.maps(stored, (k, j, i)).ravel().tolist()
        else:
            known = list(self._targets[stored.case_id])
        factors = [one.factor for one in self._recipe.quantities]
        return torch.tensor([value / factor for value, factor in zip(known, factors, strict=True)])

    def _join(self, items: list[tuple[Tensor, Tensor, Tensor | None]], device: torch.device) -> Batch:
        image = torch.stack([item[0] for item in items])
        if self._recipe.task == "dynamic":
            image = image[:, :, None]
        target = torch.stack([item[1] for item in items])
        records = [item[2] for item in items if item[2] is not None]
        return Batch(image, target, torch.stack(records) if records else None)


def _balanced(cases: Sequence[Stored], targets: Mapping[str, tuple[float, ...]]) -> list[float]:
    """Probabilities by which every class comes equally often."""
    values = [targets[stored.case_id] for stored in cases]
    counts = {value: values.count(value) for value in set(values)}
    return [1 / (len(counts) * counts[value]) for value in values]
