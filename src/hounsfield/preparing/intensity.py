"""Intensity steps of a manifest, decided from the scan once, then applied voxel by voxel.

Statistics are those of the scan's own voxels (before any resampling, padding left out), in
float64 and in the stated order: a later step sees the values that the earlier ones made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.packages.manifest import (
    Clip,
    ClipQuantiles,
    IntensityStep,
    Scale,
    ScaleQuantiles,
    Standardise,
    ZScore,
)
from hounsfield.preparing.distribution import Distribution, Floats

_LEAST_STD = 1e-8
_TABLE_FROM_VOXELS = 65536


@dataclass(frozen=True)
class Decided:
    """``clip(x, low, high) * factor + offset``, then clipped to [to_low, to_high]; float64.

    With ``keep_zero`` a voxel of exactly 0 stays 0 (z-score of non-zero voxels).
    """

    low: float = -np.inf
    high: float = np.inf
    subtract: float = 0.0
    divide: float = 1.0
    multiply: float = 1.0
    add: float = 0.0
    to_low: float = -np.inf
    to_high: float = np.inf
    keep_zero: bool = False

    def __call__(self, values: Floats) -> Floats:
        """The step, elementwise, on a float64 array of any shape."""
        out = np.clip(values, self.low, self.high) if np.isfinite((self.low, self.high)).any() else values
        if (self.subtract, self.divide) != (0.0, 1.0):
            out = (out - self.subtract) / self.divide
        if (self.multiply, self.add) != (1.0, 0.0):
            out = out * self.multiply + self.add
        if np.isfinite((self.to_low, self.to_high)).any():
            out = np.clip(out, self.to_low, self.to_high)
        return np.where(values == 0, 0.0, out) if self.keep_zero else out


@dataclass(frozen=True)
class Chain:
    """The decided intensity steps of one channel, first to last."""

    steps: tuple[Decided, ...] = ()

    def __call__(self, values: Floats) -> Floats:
        """All steps on a float64 array of any shape."""
        for step in self.steps:
            values = step(values)
        return values

    def network_values(self, array: NDArray[Any]) -> NDArray[np.float32]:
        """All steps in float64, rounded once to float32; same shape, C order.

        Integers of at most 16 bits go through a table of all their values: the same numbers,
        several times faster.
        """
        if not self.steps:
            return np.ascontiguousarray(array, dtype=np.float32)
        kind = array.dtype
        if kind.kind in "iu" and kind.itemsize <= 2 and array.size >= _TABLE_FROM_VOXELS:
            low = int(np.iinfo(kind).min)
            every = np.arange(low, int(np.iinfo(kind).max) + 1, dtype=np.float64)
            table = np.roll(self(every).astype(np.float32), low)  # indexed by the two's complement
            return _looked_up(table, array)
        return self(array.astype(np.float64)).astype(np.float32, order="C")


def _looked_up(table: NDArray[np.float32], array: NDArray[Any]) -> NDArray[np.float32]:
    """The table's number for each voxel, some slices at a time: numpy makes 64-bit indices of what it looks up."""
    out = np.empty(array.shape, np.float32)
    bits = np.dtype(f"u{array.dtype.itemsize}")
    depth = max(1, _TABLE_FROM_VOXELS * len(array) // array.size)
    for low in range(0, len(array), depth):
        part = slice(low, low + depth)
        np.take(table, np.ascontiguousarray(array[part]).view(bits), out=out[part], mode="clip")
    return out


def decide(steps: Sequence[IntensityStep], values: Distribution) -> Chain:
    """Fix every step's numbers from the scan.

    Parameters
    ----------
    steps
        The manifest's steps, in order.
    values
        The scan's voxels without padding.
    """
    chain = Chain()
    for step in steps:
        chain = Chain((*chain.steps, _decide(step, values, chain)))
    return chain


def _decide(step: IntensityStep, values: Distribution, before: Chain) -> Decided:
    match step:
        case Clip():
            return Decided(low=step.low, high=step.high)
        case ClipQuantiles():
            low, high = values.quantiles((step.low, step.high), before)
            return Decided(low=low, high=high)
        case Scale():
            return _scale(step.low, step.high, step)
        case ScaleQuantiles():
            low, high = values.quantiles((step.low, step.high), before)
            return _scale(low, high, step)
        case ZScore():
            mean, std = values.moments(before, step.non_zero_only)
            return Decided(subtract=mean, divide=max(std, _LEAST_STD), keep_zero=step.non_zero_only)
        case Standardise():
            return Decided(subtract=step.mean, divide=step.std)


def _scale(low: float, high: float, step: Scale | ScaleQuantiles) -> Decided:
    """[low, high] to [to_low, to_high]; where both ends are the same value, all go to ``to_low``."""
    width = high - low
    bounds = sorted((step.to_low, step.to_high)) if step.clip else [-np.inf, np.inf]
    return Decided(
        subtract=low,
        divide=width if width != 0 else 1.0,
        multiply=step.to_high - step.to_low if width != 0 else 0.0,
        add=step.to_low,
        to_low=bounds[0],
        to_high=bounds[1],
    )
