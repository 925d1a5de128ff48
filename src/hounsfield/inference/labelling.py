"""Finished boxes of blended answers become labels on the scan's own grid, at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.inference.blended import Sums
from hounsfield.inference.deciding import Decider
from hounsfield.inference.host import Arrays
from hounsfield.inference.windows import WindowGrid
from hounsfield.preparing.interpolation import Taps
from hounsfield.volume import Shape


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
    arrays
        Where the sums lie.
    """

    def __init__(
        self,
        grid: WindowGrid,
        maps: tuple[AxisMap, AxisMap, AxisMap],
        decider: Decider,
        labels: NDArray[Any],
        block_voxels: int,
        arrays: Arrays,
    ) -> None:
        self._maps, self._decider, self._labels, self._voxels = maps, decider, labels, block_voxels
        self._arrays = arrays
        self._bounds = tuple(
            tuple(one.ready(done) for done in (*line[1:], n))
            for one, line, n in zip(maps, grid.starts, grid.shape, strict=True)
        )

    def finished(self, layer: int) -> int:
        """Scan voxels along the walk's first axis that are decided when this layer of windows is done."""
        return self._bounds[0][layer]

    def clear(self, layers: range) -> None:
        """Background for all that these layers of windows would decide."""
        low = self.finished(layers.start - 1) if layers.start else 0
        self._labels[low : self.finished(layers.stop - 1)] = 0

    def __call__(self, sums: Sums, first: Shape, index: tuple[int, int, int]) -> None:
        """Decide the scan voxels that became ready with the window ``index``.

        Parameters
        ----------
        sums
            Blended answers of the finished box.
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
            parts = (slices, rows, columns)
            block = sums.part(*(part for part, _ in parts))
            if self._decider.rule.soft is not None:
                block = self._arrays.softened(block, self._decider.rule.soft)
            matrices = [matrix for _, matrix in parts]
            self._labels[low:high, y0:y1, x0:x1] = self._arrays.labels(
                block, matrices, self._decider, self._labels.dtype
            )
