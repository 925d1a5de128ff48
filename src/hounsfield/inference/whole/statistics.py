"""Mean and variance of each channel over the whole volume, gathered slab by slab.

Each block is shifted by its channel's first mean before it is squared, short rows are summed in
fp32 and all rows in fp64; so the result equals a two-pass computation to fp32 rounding, however
the volume is cut (shifted data algorithm; Chan, Golub, LeVeque 1983).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROW = 4096
_BLOCK = 1 << 18


class ChannelStatistics:
    """Running sums of one activation, one per channel."""

    def __init__(self, channels: int) -> None:
        self._shift = np.zeros(channels, np.float32)
        self._known = np.zeros(channels, np.bool_)
        self._count = np.zeros(channels, np.int64)
        self._sum = np.zeros(channels, np.float64)
        self._squares = np.zeros(channels, np.float64)

    def add(self, channel: int, values: NDArray[np.float32]) -> None:
        """Take the values of a slab of one channel in; channels may be added from several threads."""
        flat = values.reshape(-1)
        if not self._known[channel]:
            self._shift[channel] = flat[:_BLOCK].mean(dtype=np.float64)
            self._known[channel] = True
        for start in range(0, flat.size, _BLOCK):
            block = flat[start : start + _BLOCK] - self._shift[channel]
            whole = block.size - block.size % _ROW
            rows, rest = block[:whole].reshape(-1, _ROW), block[whole:]
            self._sum[channel] += rows.sum(axis=1).sum(dtype=np.float64) + rest.sum(dtype=np.float64)
            self._squares[channel] += np.einsum("ij,ij->i", rows, rows).sum(dtype=np.float64)
            self._squares[channel] += np.dot(rest.astype(np.float64), rest)
        self._count[channel] += flat.size

    def mean(self) -> NDArray[np.float64]:
        """Mean of each channel."""
        mean: NDArray[np.float64] = self._shift + self._sum / np.maximum(self._count, 1)
        return mean

    def variance(self) -> NDArray[np.float64]:
        """Variance of each channel with divisor n, as InstanceNormalization uses it."""
        count = np.maximum(self._count, 1)
        variance: NDArray[np.float64] = np.maximum(self._squares / count - (self._sum / count) ** 2, 0.0)
        return variance

    def affine(
        self, gamma: NDArray[np.float32], beta: NDArray[np.float32], epsilon: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scale and shift that normalise a channel: ``gamma (x - mean) / sqrt(variance + epsilon) + beta``."""
        scale = gamma.astype(np.float64) / np.sqrt(self.variance() + epsilon)
        shift = beta.astype(np.float64) - self.mean() * scale
        return scale.astype(np.float32), shift.astype(np.float32)
