"""The arithmetic of blending on the host, in NumPy, blocked to stay in the processor's caches."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import EngineError

_SMALLEST = np.float32(1e-30)
_BLOCK_VOXELS = 1 << 17


class Arrays(Protocol):
    """What blending needs of arrays; one implementation per place where they lie.

    Contract: every array is (channels, k, j, i) and can be sliced; sums are float32 and their last
    channel is the sum of the weights. ``store`` keeps a part of the sums for later,
    ``load`` brings it back: as they are, or (half) as float16 means, which is exact to 11 bits
    whatever the weights are.
    """

    def zeros(self, shape: tuple[int, ...], half: bool) -> Any:
        """A new array of zeros: float32, or float16."""
        ...

    def weigh(self, sums: Any, values: Any, weight: Any, fresh: bool) -> None:
        """``sums (+)= values * weight`` and the same for the weight channel; replaces if fresh."""
        ...

    def store(self, kept: Any, sums: Any) -> None:
        """Keep sums for later."""
        ...

    def load(self, sums: Any, kept: Any) -> None:
        """Bring kept sums back."""
        ...

    def turned(self, array: Any, order: tuple[int, int, int]) -> Any:
        """A view of (channels, k, j, i) with its last three axes in another order."""
        ...


class HostArrays:
    """See :class:`Arrays`."""

    def zeros(self, shape: tuple[int, ...], half: bool) -> NDArray[Any]:
        """Untouched pages cost no memory until they are written."""
        return np.zeros(shape, np.float16 if half else np.float32)

    def weigh(self, sums: NDArray[Any], values: NDArray[Any], weight: NDArray[Any], fresh: bool) -> None:
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

    def store(self, kept: NDArray[Any], sums: NDArray[Any]) -> None:
        """Means in float16, or the sums themselves."""
        if kept.dtype == np.float32:
            kept[...] = sums
            return
        per_weight = 1 / np.maximum(sums[-1], _SMALLEST)
        try:
            with np.errstate(over="raise", invalid="raise"):
                for channel in range(sums.shape[0] - 1):
                    kept[channel] = sums[channel] * per_weight
        except FloatingPointError as error:
            raise EngineError(
                fact="the network's answers do not fit float16 accumulators", remedy="use float32 accumulators"
            ) from error
        kept[-1] = sums[-1]

    def load(self, sums: NDArray[Any], kept: NDArray[Any]) -> None:
        """The inverse of ``store``."""
        if kept.dtype == np.float32:
            sums[...] = kept
            return
        weight = kept[-1].astype(np.float32)
        for channel in range(sums.shape[0] - 1):
            np.multiply(kept[channel], weight, out=sums[channel])
        sums[-1] = weight

    def turned(self, array: NDArray[Any], order: tuple[int, int, int]) -> NDArray[Any]:
        """A view."""
        return array.transpose(0, *(1 + axis for axis in order))


def along_memory(array: NDArray[Any]) -> tuple[int, int, int]:
    """The order of the last three axes in which an array lies in memory, outermost first."""
    a, b, c = sorted(range(3), key=lambda axis: -abs(array.strides[axis + array.ndim - 3]))
    return a, b, c
