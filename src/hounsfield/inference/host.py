"""The arithmetic of blending on the host, in NumPy, blocked to stay in the processor's caches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import EngineError
from hounsfield.inference.deciding import Decider
from hounsfield.inference.halves import GROW, SHRINK, from_half, to_half
from hounsfield.preparing.interpolation import resample_axis

_SMALLEST = np.float32(1e-30)
_COVERED = np.float32(0.5)
_BLOCK_VOXELS = 1 << 16

Matrices = Sequence[NDArray[np.float64] | None]


class Arrays(Protocol):
    """What blending needs of arrays; one implementation per place where they lie.

    Contract: every array is (channels, k, j, i) and can be sliced; sums are float32 and their last
    channel is the sum of the weights. It exists so that an engine on an accelerator can
    blend and decide there and send labels only: such a session has one as ``arrays``.
    """

    def zeros(self, shape: tuple[int, ...], half: bool) -> Any:
        """A new array of zeros: float32, or float16 for keeping means."""
        ...

    def turned(self, array: Any, order: tuple[int, int, int]) -> Any:
        """A view of (channels, k, j, i) with its last three axes in another order."""
        ...

    def weigh(self, sums: Any, values: Any, weight: NDArray[np.float32], fresh: bool) -> None:
        """``sums (+)= values * weight`` and the same for the weight channel; replaces if fresh."""
        ...

    def move(self, target: Any, source: Any) -> None:
        """Copy sums; into float16 as means and their weight, out of it as sums again."""
        ...

    def labels(self, sums: Any, matrices: Matrices, decider: Decider, dtype: Any) -> NDArray[Any]:
        """Labels (k, j, i) on the host of blended sums, interpolated along each axis that has a matrix."""
        ...


class HostArrays:
    """See :class:`Arrays`."""

    def zeros(self, shape: tuple[int, ...], half: bool) -> NDArray[Any]:
        """Untouched pages cost no memory until they are written."""
        return np.zeros(shape, np.float16 if half else np.float32)

    def turned(self, array: NDArray[Any], order: tuple[int, int, int]) -> NDArray[Any]:
        """A view."""
        return array.transpose(0, *(1 + axis for axis in order))

    def weigh(self, sums: NDArray[Any], values: NDArray[Any], weight: NDArray[np.float32], fresh: bool) -> None:
        """Channel by channel in blocks of slices, so that each product stays in the cache."""
        if weight.size == 0:
            return
        order = along_memory(sums)
        sums, values, weight = self.turned(sums, order), self.turned(values, order), weight.transpose(order)
        depth = max(1, _BLOCK_VOXELS // (weight.shape[1] * weight.shape[2]))
        scratch = np.empty((min(depth, weight.shape[0]), *weight.shape[1:]), np.float32)
        for low in range(0, weight.shape[0], depth):
            part = slice(low, min(low + depth, weight.shape[0]))
            w = weight[part]
            product = scratch[: w.shape[0]]
            for channel in range(values.shape[0]):
                if fresh:
                    np.multiply(values[channel, part], w, out=sums[channel, part])
                else:
                    np.multiply(values[channel, part], w, out=product)
                    sums[channel, part] += product
            if fresh:
                sums[-1, part] = w
            else:
                sums[-1, part] += w

    def move(self, target: NDArray[Any], source: NDArray[Any]) -> None:
        """Sums as they are, or to and from float16 means, which keep 11 bits whatever the weight."""
        if target.size == 0:
            return
        order = along_memory(source)
        target, source = self.turned(target, order), self.turned(source, order)
        if target.dtype == source.dtype:
            for channel in range(source.shape[0]):
                target[channel] = source[channel]
        elif target.dtype == np.float16:
            _keep(target, source)
        else:
            weight = source[-1].astype(np.float32)
            grown = weight * GROW
            for channel in range(source.shape[0] - 1):
                np.multiply(from_half(source[channel]), grown, out=target[channel])
            target[-1] = weight

    def labels(self, sums: NDArray[Any], matrices: Matrices, decider: Decider, dtype: Any) -> NDArray[Any]:
        """Flattened along memory, so that it is copied once, in long runs."""
        if any(matrix is not None for matrix in matrices):
            sums = interpolated(sums, matrices)
        order = along_memory(sums)
        sums = self.turned(sums, order)
        flat = np.ascontiguousarray(sums).reshape(sums.shape[0], -1)
        labels = decider.labels(flat, dtype).reshape(sums.shape[1:])
        return labels.transpose([order.index(axis) for axis in range(3)])


def _keep(target: NDArray[Any], source: NDArray[Any]) -> None:
    per_weight = SHRINK / np.maximum(source[-1], _SMALLEST)
    scratch = np.empty(per_weight.shape, np.float32)
    fits = True
    for channel in range(source.shape[0] - 1):
        np.multiply(source[channel], per_weight, out=scratch)
        fits &= to_half(scratch, target[channel])
    if not fits:
        raise EngineError(
            fact="the network's answers are not finite or do not fit float16 accumulators",
            remedy="use float32 accumulators",
        )
    target[-1] = source[-1]


def interpolated(sums: NDArray[Any], matrices: Matrices) -> NDArray[np.float32]:
    """Means, then linear interpolation; the last channel says how much of a voxel was covered.

    A voxel of which less than half was covered by windows that ran counts as not covered.
    """
    covered = sums[-1] > 0
    means: NDArray[np.float32] = sums * (1 / np.maximum(sums[-1], _SMALLEST))
    means[-1] = covered
    given = [(axis, matrix) for axis, matrix in enumerate(matrices) if matrix is not None]
    for axis, matrix in sorted(given, key=lambda each: each[1].shape[0] / each[1].shape[1]):
        means = resample_axis(means, axis + 1, matrix)
    means[-1][means[-1] < _COVERED] = 0
    return means


def along_memory(array: NDArray[Any]) -> tuple[int, int, int]:
    """The order of the last three axes in which an array lies in memory, outermost first."""
    a, b, c = sorted(range(3), key=lambda axis: -abs(array.strides[axis + array.ndim - 3]))
    return a, b, c
