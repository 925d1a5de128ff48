"""The arithmetic of blending on the host, in NumPy, blocked to stay in the processor's caches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import EngineError
from hounsfield.inference.blended import Sums
from hounsfield.inference.deciding import Decider
from hounsfield.inference.halves import GROW, SHRINK, from_half, to_half
from hounsfield.preparing.interpolation import resample_axis

_SMALLEST = np.float32(1e-30)
_COVERED = np.float32(0.5)
_BLOCK_VOXELS = 1 << 16

Matrices = Sequence[NDArray[np.float64] | None]


class Arrays(Protocol):
    """What blending needs of arrays; one implementation per place where they lie.

    Contract: every array is (channels, k, j, i) and can be sliced; sums are float32. What is kept for
    later windows has one channel more where sums come with their weights. It exists so that an
    engine on an accelerator can blend and decide there and send labels only: such a session has
    one as ``arrays``.
    """

    def zeros(self, shape: tuple[int, ...], half: bool) -> Any:
        """A new array of zeros: float32, or float16 for keeping means."""
        ...

    def turned(self, array: Any, order: tuple[int, int, int]) -> Any:
        """A view of (channels, k, j, i) with its last three axes in another order."""
        ...

    def weigh(self, target: Any, values: Any, weight: NDArray[np.float32]) -> None:
        """``target = values * weight`` for every channel; the two may be the same array."""
        ...

    def lay(self, target: Any, weight: NDArray[np.float32]) -> None:
        """Write the weights of a window into (1, k, j, i)."""
        ...

    def add(self, sums: Sums, kept: Any) -> None:
        """Add what was kept, out of float16 as sums again."""
        ...

    def keep(self, kept: Any, sums: Sums) -> None:
        """Keep sums, into float16 as means and their weight."""
        ...

    def softened(self, sums: Sums, activation: str) -> Sums:
        """Probabilities (softmax or sigmoid) of the means; weights are 1 where a window ran, else 0."""
        ...

    def labels(self, sums: Sums, matrices: Matrices, decider: Decider, dtype: Any) -> NDArray[Any]:
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

    def weigh(self, target: NDArray[Any], values: NDArray[Any], weight: NDArray[np.float32]) -> None:
        """In blocks of slices, all channels of one after another, so that its weights stay in the cache."""
        order = along_memory(values)
        target, values, weight = self.turned(target, order), self.turned(values, order), weight.transpose(order)
        depth = max(1, _BLOCK_VOXELS // (weight.shape[1] * weight.shape[2]))
        for low in range(0, weight.shape[0], depth):
            part = slice(low, low + depth)
            for channel in range(values.shape[0]):
                np.multiply(values[channel, part], weight[part], out=target[channel, part])

    def lay(self, target: NDArray[Any], weight: NDArray[np.float32]) -> None:
        """A copy."""
        target[0] = weight

    def add(self, sums: Sums, kept: NDArray[Any]) -> None:
        """Channel by channel, along memory."""
        if kept.size == 0:
            return
        order = along_memory(sums.values)
        kept, values = self.turned(kept, order), self.turned(sums.values, order)
        channels = len(values)
        if kept.dtype != np.float16:
            for channel in range(channels):
                values[channel] += kept[channel]
        else:
            grown = kept[channels].astype(np.float32) * GROW
            for channel in range(channels):
                means = from_half(kept[channel])
                means *= grown
                values[channel] += means
        if sums.weights is not None:
            self.turned(sums.weights, order)[0][...] += kept[channels]

    def keep(self, kept: NDArray[Any], sums: Sums) -> None:
        """Sums as they are, or float16 means, which keep 11 bits whatever the weight."""
        if kept.size == 0:
            return
        order = along_memory(sums.values)
        kept, values = self.turned(kept, order), self.turned(sums.values, order)
        weights = None if sums.weights is None else self.turned(sums.weights, order)[0]
        if kept.dtype == np.float16 and weights is not None:
            _keep_means(kept, values, weights)
        else:
            for channel, each in enumerate(values):
                kept[channel] = each
        if weights is not None:
            kept[-1] = weights

    def softened(self, sums: Sums, activation: str) -> Sums:
        """Exponentials of what lies below the highest mean."""
        means = sums.values if sums.weights is None else sums.values * (1 / np.maximum(sums.weights, _SMALLEST))
        if activation == "sigmoid":
            values = 0.5 * (1 + np.tanh(means / 2))
        else:
            values = np.exp(means - means.max(axis=0))
            values /= values.sum(axis=0)
        weights = None if sums.weights is None else (sums.weights > 0).astype(np.float32)
        return Sums(values if weights is None else values * weights, weights)

    def labels(self, sums: Sums, matrices: Matrices, decider: Decider, dtype: Any) -> NDArray[Any]:
        """Along memory; a head wants its channels in one piece, few classes are decided where they lie."""
        if any(matrix is not None for matrix in matrices):
            sums = interpolated(sums, matrices)
        order = along_memory(sums.values)
        values = self.turned(sums.values, order)
        weights = None if sums.weights is None else self.turned(sums.weights, order)[0]
        labels = decider.labels(values, weights, dtype)
        return labels.transpose([order.index(axis) for axis in range(3)])


def _keep_means(kept: NDArray[Any], values: NDArray[Any], weights: NDArray[Any]) -> None:
    per_weight = SHRINK / np.maximum(weights, _SMALLEST)
    scratch = np.empty(per_weight.shape, np.float32)
    fits = True
    for channel, each in enumerate(values):
        np.multiply(each, per_weight, out=scratch)
        fits &= to_half(scratch, kept[channel])
    if not fits:
        raise EngineError(
            fact="the network's answers are not finite or do not fit float16 accumulators",
            remedy="use float32 accumulators",
        )


def interpolated(sums: Sums, matrices: Matrices) -> Sums:
    """Means, then linear interpolation; the weights then say where a voxel was covered (1) or not (0).

    A voxel of which less than half was covered by windows that ran counts as not covered. Sums
    without weights are means already, and everywhere covered.
    """
    given = [(axis, matrix) for axis, matrix in enumerate(matrices) if matrix is not None]
    given = sorted(given, key=lambda each: each[1].shape[0] / each[1].shape[1])

    def through(values: NDArray[np.float32]) -> NDArray[np.float32]:
        for axis, matrix in given:
            values = resample_axis(values, axis + 1, matrix)
        return values

    if sums.weights is None:
        return Sums(through(sums.values), None)
    means = sums.values * (1 / np.maximum(sums.weights, _SMALLEST))
    covered = through((sums.weights > 0).astype(np.float32))
    return Sums(through(means), (covered >= _COVERED).astype(np.float32))


def along_memory(array: NDArray[Any]) -> tuple[int, int, int]:
    """The order of the last three axes in which an array lies in memory, outermost first."""
    a, b, c = sorted(range(3), key=lambda axis: -abs(array.strides[axis + array.ndim - 3]))
    return a, b, c
