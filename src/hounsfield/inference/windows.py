"""Where windows lie, and how much each voxel of a window counts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hounsfield.packages.manifest import WindowSpec
from hounsfield.volume import Shape

Positions = Literal["even", "stride"]

_LEAST_WEIGHT = 1e-3
_HALF_MIDDLE = 10


def starts(n: int, window: int, overlap: float, positions: Positions) -> tuple[int, ...]:
    """First voxels of the windows along an axis of ``n`` voxels (n is at least ``window``).

    ``"even"`` is nnU-Net's rule (``compute_steps_for_sliding_window``, step = 1 - overlap): as many
    windows as the step asks for, spread evenly. ``"stride"`` is MONAI's (``dense_patch_slices``):
    a fixed step, the last window moved back to the end.
    """
    step = 1 - overlap
    if positions == "even":
        count = math.ceil((n - window) / (window * step)) + 1
        if count == 1:
            return (0,)
        spread = (int(np.round((n - window) / (count - 1) * index)) for index in range(count))
        return tuple(dict.fromkeys(spread))
    interval = n if window == n else max(1, int(window * step))
    count = next(index for index in itertools.count() if index * interval + window >= n) + 1
    return tuple(min(index * interval, n - window) for index in range(count))


def importance(spec: WindowSpec) -> NDArray[np.float32]:
    """Weight of each voxel of a window, (k, j, i) float32, 1 in the middle.

    A Gaussian about the middle with standard deviation ``sigma * shape`` per axis, never below
    0.001, as MONAI weighs; all ones for constant blending. ``"gaussian-half"`` is nnU-Net's
    (``compute_gaussian``): 10 in the middle, rounded to float16, zeros raised to the smallest other value.
    """
    if spec.blending == "constant":
        return np.ones(spec.shape, np.float32)
    if spec.blending == "gaussian-half":
        return _half_gaussian(spec)
    weight = np.ones((1, 1, 1), np.float32)
    for axis, n in enumerate(spec.shape):
        at = np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2)
        line = np.exp(at**2 / np.float32(-2 * (spec.sigma * n) ** 2))
        weight = weight * line.reshape([-1 if other == axis else 1 for other in range(3)])
    least = max(float(weight.min()), _LEAST_WEIGHT)
    return np.ascontiguousarray(np.maximum(weight, np.float32(least)), dtype=np.float32)


def _half_gaussian(spec: WindowSpec) -> NDArray[np.float32]:
    from scipy.ndimage import gaussian_filter

    point = np.zeros(spec.shape)
    point[tuple(n // 2 for n in spec.shape)] = 1
    weight = gaussian_filter(point, [n * spec.sigma for n in spec.shape], mode="constant", cval=0)
    half = (weight * (_HALF_MIDDLE / weight.max())).astype(np.float16)
    half[half == 0] = half[half > 0].min()
    whole: NDArray[np.float32] = half.astype(np.float32)
    return whole


@dataclass(frozen=True)
class WindowGrid:
    """All windows over a volume, as the product of the starts along each axis.

    Parameters
    ----------
    shape
        (k, j, i) of the padded volume.
    window
        (k, j, i) of a window.
    starts
        Per axis the first voxels, increasing.
    before
        Padding in front, per axis: voxel 0 of the volume is voxel ``before`` of the grid.
    """

    shape: Shape
    window: Shape
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    before: Shape

    @classmethod
    def over(cls, volume: Shape, spec: WindowSpec) -> WindowGrid:
        """The windows that ``spec`` asks for; a small volume is padded evenly on both sides."""
        padded = tuple(max(n, w) for n, w in zip(volume, spec.shape, strict=True))
        before = tuple(max(0, w - n) // 2 for n, w in zip(volume, spec.shape, strict=True))
        lines = [starts(n, w, spec.overlap, spec.positions) for n, w in zip(padded, spec.shape, strict=True)]
        return cls(
            (padded[0], padded[1], padded[2]),
            spec.shape,
            (lines[0], lines[1], lines[2]),
            (before[0], before[1], before[2]),
        )

    @property
    def count(self) -> int:
        """Number of windows."""
        return math.prod(len(line) for line in self.starts)

    def turned(self, order: tuple[int, int, int]) -> WindowGrid:
        """The same windows with the axes in another order."""
        a, b, c = order
        return WindowGrid(
            (self.shape[a], self.shape[b], self.shape[c]),
            (self.window[a], self.window[b], self.window[c]),
            (self.starts[a], self.starts[b], self.starts[c]),
            (self.before[a], self.before[b], self.before[c]),
        )

    def layers(self, run: range) -> Iterator[tuple[int, int, int]]:
        """Indices of the windows of some layers along the first axis, the last axis fastest."""
        yield from itertools.product(run, *(range(len(line)) for line in self.starts[1:]))
