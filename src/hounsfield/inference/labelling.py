"""Finished boxes of blended answers become labels on the scan's own grid, at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.inference.deciding import Decider
from hounsfield.inference.host import along_memory
from hounsfield.inference.windows import WindowGrid
from hounsfield.preparing.interpolation import Taps, linear_taps, resample_axis
from hounsfield.volume import Shape

_SMALLEST = np.float32(1e-30)
_COVERED = np.float32(0.5)


@dataclass(frozen=True, eq=False)
class AxisMap:
    """One axis of the padded network grid and the same axis of the scan.

    Parameters
    ----------
    inner
        Voxels of the network's grid along the axis, without the padding.
    before
        Padding in front.
    outer
        Voxels of the scan.
    taps
        The neighbours of each scan voxel on the network's grid; ``None`` if the grids coincide.
    """

    inner: int
    before: int
    outer: int
    taps: Taps | None

    @classmethod
    def between(cls, inner: int, before: int, outer: int) -> AxisMap:
        """The map of an axis of ``inner`` network voxels and ``outer`` scan voxels."""
        return cls(inner, before, outer, None if inner == outer else linear_taps(inner, outer))

    @property
    def halo(self) -> int:
        """Finished voxels that must stay for their neighbour's sake."""
        return 0 if self.taps is None else 1

    def ready(self, done: int) -> int:
        """Scan voxels that can be decided when the padded voxels below ``done`` are finished."""
        known = min(max(done - self.before, 0), self.inner)
        return known if self.taps is None else self.taps.ready(known)

    def rows(self, first: int, low: int, high: int) -> tuple[slice, NDArray[np.float64] | None]:
        """What the scan voxels [low, high) need of a box that begins at padded voxel ``first``.

        Returns
        -------
        A slice of the box, and the (high - low, length) matrix that interpolates it, if any.
        """
        offset = self.before - first
        if self.taps is None:
            return slice(low + offset, high + offset), None
        lows, highs = self.taps.low[low:high], self.taps.high[low:high]
        fraction, begin, end = self.taps.fraction[low:high], int(lows[0]), int(highs[-1]) + 1
        matrix = np.zeros((high - low, end - begin))
        lines = np.arange(high - low)
        np.add.at(matrix, (lines, lows - begin), 1 - fraction)
        np.add.at(matrix, (lines, highs - begin), fraction)
        return slice(begin + offset, end + offset), matrix


class Labeller:
    """Receives finished boxes and writes labels.

    Parameters
    ----------
    grid
        The windows, axes in the order of the walk.
    maps
        One per axis, in the same order.
    decider
        What makes labels of scores.
    labels
        Writable view of the scan's labels with the axes of the walk; it may be memory-mapped.
    block_voxels
        Voxels that are decided at a time.
    """

    def __init__(
        self,
        grid: WindowGrid,
        maps: tuple[AxisMap, AxisMap, AxisMap],
        decider: Decider,
        labels: NDArray[Any],
        block_voxels: int,
    ) -> None:
        self._maps, self._decider, self._labels, self._voxels = maps, decider, labels, block_voxels
        self._bounds = tuple(
            tuple(one.ready(done) for done in (*line[1:], n))
            for one, line, n in zip(maps, grid.starts, grid.shape, strict=True)
        )

    def finished(self, layer: int) -> int:
        """Scan voxels along the walk's first axis that are decided when this layer of windows is done."""
        return self._bounds[0][layer]

    def __call__(self, sums: Any, first: Shape, index: tuple[int, int, int]) -> None:
        """Decide the scan voxels that became ready with the window ``index``.

        Parameters
        ----------
        sums
            (channels + 1, z, y, x) float32 sums, the last channel the weights.
        first
            The box's first voxel on the padded grid.
        """
        box = []
        for bounds, i in zip(self._bounds, index, strict=True):
            box.append((bounds[i - 1] if i else 0, bounds[i]))
        if any(low >= high for low, high in box):
            return
        (z0, z1), (y0, y1), (x0, x1) = box
        rows, columns = (one.rows(at, *part) for one, at, part in zip(self._maps[1:], first[1:], box[1:], strict=True))
        depth = max(1, self._voxels // ((y1 - y0) * (x1 - x0)))
        for low in range(z0, z1, depth):
            high = min(z1, low + depth)
            slices = self._maps[0].rows(first[0], low, high)
            self._labels[low:high, y0:y1, x0:x1] = self._decide(sums, slices, rows, columns)

    def _decide(self, sums: NDArray[Any], *parts: tuple[slice, NDArray[np.float64] | None]) -> NDArray[Any]:
        part = sums[(slice(None), *(each for each, _ in parts))]
        if any(matrix is not None for _, matrix in parts):
            part = _interpolated(part, [matrix for _, matrix in parts])
        order = along_memory(part)
        part = part.transpose(0, *(1 + axis for axis in order))
        flat = np.ascontiguousarray(part).reshape(part.shape[0], -1)
        labels = self._decider.labels(flat, self._labels.dtype).reshape(part.shape[1:])
        return labels.transpose([order.index(axis) for axis in range(3)])


def _interpolated(sums: NDArray[Any], matrices: list[NDArray[np.float64] | None]) -> NDArray[np.float32]:
    """Means, then linear interpolation; the last channel says how much of a voxel was covered.

    A voxel of which less than half was covered by windows that ran counts as not covered.
    """
    covered = sums[-1] > 0
    means: NDArray[np.float32] = sums * (1 / np.maximum(sums[-1], _SMALLEST))
    means[-1] = covered
    axes = [axis for axis, matrix in enumerate(matrices) if matrix is not None]
    for axis in sorted(axes, key=lambda axis: matrices[axis].shape[0] / matrices[axis].shape[1]):  # type: ignore[union-attr]
        means = resample_axis(means, axis + 1, matrices[axis])  # type: ignore[arg-type]
    means[-1][means[-1] < _COVERED] = 0
    return means
