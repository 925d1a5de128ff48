"""Which input slices a slab of output slices needs: pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hounsfield.inference.whole.network import Operator


@dataclass(frozen=True)
class Slab:
    """Output slices [start, stop), of which those from ``fresh`` on were not made before.

    All slabs of an activation are equally deep, so that one compiled graph makes them all; the
    last one lies at the end and may make some slices a second time.
    """

    start: int
    stop: int
    fresh: int


@dataclass(frozen=True)
class Reach:
    """Input slices [low, high) that a slab needs; they may lie outside the volume.

    Parameters
    ----------
    pad_low, pad_high
        Padding that the stencil itself adds; 0 where slices outside the volume are read as zeros.
    offset
        Transposed convolution: how many slices to drop before the first wanted one.
    extra
        Transposed convolution whose kernel is shorter than its stride: slices to grow at the end.
    depth
        Output slices.
    """

    low: int
    high: int
    depth: int
    pad_low: int = 0
    pad_high: int = 0
    offset: int = 0
    extra: int = 0

    @property
    def variant(self) -> tuple[int, int, int, int, int, int]:
        """Slabs with the same variant run in the same compiled graph."""
        return (self.depth, self.high - self.low, self.pad_low, self.pad_high, self.offset, self.extra)

    def outside(self, size: int) -> tuple[int, int]:
        """How many of the slices lie before and after an input of ``size`` slices."""
        return max(0, -self.low), max(0, self.high - size)


def reach(stencil: Operator | None, start: int, stop: int, size: int) -> Reach:
    """The reach of output slices [start, stop) into an input of ``size`` slices.

    Convolutions see zeros outside the volume, so they read zeros there; pooling does not (the
    largest of nothing is not zero), so it keeps its own padding at the ends.
    """
    if stencil is None:
        return Reach(start, stop, stop - start)
    values = stencil.attributes
    stride, pad = values["strides"][0], values["pads"][0]
    span = values["dilations"][0] * (values["kernel_shape"][0] - 1)
    if stencil.kind == "ConvTranspose":
        low = min(math.ceil((start + pad - span) / stride), (start + pad) // stride)
        high = (stop - 1 + pad) // stride + 1
        natural = (high - 1) * stride - pad + span + 1
        return Reach(low, high, stop - start, offset=start - (low * stride - pad), extra=max(0, stop - natural))
    low, high = start * stride - pad, (stop - 1) * stride - pad + span + 1
    if stencil.kind == "Conv":
        return Reach(low, high, stop - start)
    inside = max(0, low), min(size, high)
    return Reach(*inside, stop - start, inside[0] - low, high - inside[1])


def slabs(length: int, depth: int, stencil: Operator | None = None) -> tuple[Slab, ...]:
    """Equally deep slabs of at most about ``depth`` slices that cover ``length``."""
    each = even_depth(length, depth)
    if stencil is not None and stencil.kind == "ConvTranspose" and each < length:
        stride = int(stencil.attributes["strides"][0])
        each = min(length, max(1, each // stride) * stride)
    return tuple(Slab(min(fresh, length - each), min(fresh + each, length), fresh) for fresh in range(0, length, each))


def even_depth(length: int, depth: int) -> int:
    """The depth of slabs of at most ``depth`` slices that share ``length`` as equally as possible."""
    return math.ceil(length / max(1, math.ceil(length / max(1, depth))))
