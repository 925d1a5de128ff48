"""How much memory a stage takes for a slab of a given depth, and the depth that a limit allows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hounsfield.inference.whole.network import Network, TensorShape
from hounsfield.inference.whole.slabs import reach, slabs
from hounsfield.inference.whole.stages import Stage

_ITEMSIZE = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 2}
_GRAPH_COPIES = 3
_SCRATCH_BYTES_PER_THREAD = 4 << 20


@dataclass(frozen=True)
class WorkingSet:
    """Bytes that one slab of a stage takes, by part.

    Parameters
    ----------
    buffers
        The slabs that are read, as they are stored.
    engine
        Inside the engine: the normalised input in its own layout, and the output in it.
    output
        The fp32 slab that comes out.
    scratch
        Statistics and conversion, channel by channel on each thread.
    weights
        The stage's weights: as a graph, and as the engine keeps them.
    """

    buffers: int
    engine: int
    output: int
    scratch: int
    weights: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.buffers + self.engine + self.output + self.scratch + self.weights


@dataclass(frozen=True)
class Layout:
    """How activations are stored and computed, and on how many threads."""

    storage: str
    precision: str
    threads: int


def working_set(
    network: Network, stage: Stage, shapes: Mapping[str, TensorShape], depth: int, layout: Layout
) -> WorkingSet:
    """The working set of a stage for slabs of ``depth`` output slices."""
    target = shapes[stage.target]
    made = slabs(target[1], depth, stage.stencil)
    depth = made[0].stop - made[0].start
    spans = [reach(stage.stencil, slab.start, slab.stop, shapes[stage.sources[0]][1]) for slab in (made[0], made[-1])]
    read = max(span.high - span.low for span in spans)
    compute, stored = _ITEMSIZE[layout.precision], _ITEMSIZE[layout.storage]
    plane = math.prod(target[2:])
    buffers = sum(
        math.prod(shapes[name][2:]) * shapes[name][0] * read * (4 if name == network.input else stored)
        for name in stage.sources
    )
    joined = sum(math.prod(shapes[name][2:]) * shapes[name][0] for name in stage.sources) * read * compute
    copies = (1 if stage.operators else 0) + (1 if len(stage.sources) > 1 else 0) + 1
    converted = joined * 4 // compute if stored != 4 and layout.storage != layout.precision else 0
    out = target[0] * depth * plane
    widened = not stage.operators or (stage.stencil is not None and stage.stencil.kind == "ConvTranspose")
    own_copies = 2 if layout.precision == "fp32" or widened else 1  # bf16 is rounded from an fp32 copy there
    scratch = layout.threads * (min(depth * plane * stored, out * stored) + _SCRATCH_BYTES_PER_THREAD)
    constants = [*stage.operators, *([stage.stencil] if stage.stencil is not None else [])]
    weights = sum(array.nbytes for op in constants for array in op.constants.values())
    engine = joined * copies + converted + out * compute * own_copies
    answer = out * (2 if layout.precision == "bf16" else 4)
    return WorkingSet(buffers, engine, answer, scratch, weights * _GRAPH_COPIES)


def depth_for(
    network: Network, stage: Stage, shapes: Mapping[str, TensorShape], slab_bytes: int, layout: Layout
) -> int:
    """The deepest slab whose working set stays within ``slab_bytes``; at least one slice."""
    low, high = 1, shapes[stage.target][1]
    while low < high:
        middle = (low + high + 1) // 2
        if working_set(network, stage, shapes, middle, layout).total <= slab_bytes:
            low = middle
        else:
            high = middle - 1
    return low
