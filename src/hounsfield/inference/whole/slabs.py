"""Which input slices a slab of output slices needs, and with how much zero padding: pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from hounsfield.inference.whole.network import Operator


@dataclass(frozen=True)
class Reach:
    """Input slices [low, high) that output slices [start, stop) need.

    Parameters
    ----------
    pad_low, pad_high
        Padding of the stencil at the volume's own ends; 0 inside.
    extra
        Transposed convolution: slices that the last slab must grow beyond its natural end.
    offset
        Transposed convolution: how many slices to drop before the first wanted one.
    """

    start: int
    stop: int
    low: int
    high: int
    pad_low: int = 0
    pad_high: int = 0
    offset: int = 0
    extra: int = 0

    @property
    def variant(self) -> tuple[int, int, int, int, int, int]:
        """Slabs with the same variant run in the same compiled graph."""
        return (self.stop - self.start, self.high - self.low, self.pad_low, self.pad_high, self.offset, self.extra)


def reach(stencil: Operator | None, start: int, stop: int, size: int) -> Reach:
    """The reach of output slices [start, stop) into an input of ``size`` slices."""
    if stencil is None:
        return Reach(start, stop, start, stop)
    values = stencil.attributes
    stride, pad = values["strides"][0], values["pads"][0]
    span = values["dilations"][0] * (values["kernel_shape"][0] - 1)
    if stencil.kind == "ConvTranspose":
        first = min(math.ceil((start + pad - span) / stride), (start + pad) // stride)
        low = min(max(0, first), size - 1)
        high = max(low + 1, min(size, (stop - 1 + pad) // stride + 1))
        offset = start - (low * stride - pad)
        natural = (high - 1) * stride - pad + span + 1
        return Reach(start, stop, low, high, offset=offset, extra=max(0, stop - natural))
    wanted_low, wanted_high = start * stride - pad, (stop - 1) * stride - pad + span + 1
    low, high = max(0, wanted_low), min(size, wanted_high)
    return Reach(start, stop, low, high, low - wanted_low, wanted_high - high)


def slabs(length: int, depth: int) -> Iterator[tuple[int, int]]:
    """[start, stop) of slabs of at most ``depth`` slices, as equal as possible."""
    each = even_depth(length, depth)
    for start in range(0, length, each):
        yield start, min(start + each, length)


def even_depth(length: int, depth: int) -> int:
    """The depth of slabs of at most ``depth`` slices that share ``length`` as equally as possible."""
    return math.ceil(length / max(1, math.ceil(length / max(1, depth))))
