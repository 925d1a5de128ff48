"""How much memory a stage takes for a slab of a given depth, and the depth that a limit allows.

What lives at the same time inside the engines was read off measurements stage by stage: OpenVINO turns
what a stencil reads into its own layout and back on the way out, ONNX Runtime does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hounsfield.inference.whole.network import Network, TensorShape
from hounsfield.inference.whole.slabs import reach, slabs
from hounsfield.inference.whole.stages import Stage

_ITEMSIZE = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 2}
_GRAPH_COPIES = 3


@dataclass(frozen=True)
class WorkingSet:
    """Bytes that one slab of a stage takes, by part.

    Parameters
    ----------
    buffers
        The slabs that are read, as they are stored.
    engine
        What lives at the same time inside the engine, at most.
    output
        The slab that comes out, where it is not the engine's own.
    weights
        The stage's weights: as a graph, and as the engine keeps them.
    """

    buffers: int
    engine: int
    output: int
    weights: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.buffers + self.engine + self.output + self.weights


@dataclass(frozen=True)
class Layout:
    """How activations are stored and computed, in which engine."""

    storage: str
    precision: str
    engine: str


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
    values = [math.prod(shapes[name][2:]) * shapes[name][0] * read for name in stage.sources]
    sizes = [4 if name == network.input else stored for name in stage.sources]
    buffers = sum(count * size for count, size in zip(values, sizes, strict=True))
    out = target[0] * depth * math.prod(target[2:])
    inner = out if stage.stencil is None else _joined(network, stage, shapes, read)
    flow = _Flow(sum(values) * compute, max(values) * compute, inner * compute, out * compute, stage)
    constants = [*stage.operators, *([stage.stencil] if stage.stencil is not None else [])]
    weights = sum(array.nbytes for op in constants for array in op.constants.values()) * _GRAPH_COPIES
    if layout.engine == "onnxruntime":
        return WorkingSet(buffers, flow.in_onnxruntime(), 0, weights)
    converted = max(values) * 2 if stored != 4 and layout.storage != layout.precision and len(values) == 1 else 0
    answer = out * (2 if layout.precision == "bf16" else 4)
    return WorkingSet(buffers, flow.in_openvino() + converted, answer, weights)


def _joined(network: Network, stage: Stage, shapes: Mapping[str, TensorShape], read: int) -> int:
    """Values that the stencil reads, its sources normalised and joined."""
    name = stage.stencil.activations[0] if stage.stencil is not None else stage.target
    return shapes[name][0] * math.prod(shapes[stage.sources[0]][2:]) * read


@dataclass(frozen=True)
class _Flow:
    """Bytes of a stage's values on their way through an engine: all sources, the largest, joined, made."""

    sources: int
    largest: int
    joined: int
    made: int
    stage: Stage

    @property
    def concatenated(self) -> bool:
        return self.joined > self.largest

    def in_openvino(self) -> int:
        """Joined in both layouts and the answer, or joined once and the answer in both."""
        joining = self.sources + self.joined if self.concatenated else 2 * self.joined
        return max(joining + self.made, self.joined + 2 * self.made)

    def in_onnxruntime(self) -> int:
        """Normalised sources while they are joined, or joined and the answer (cut, where it is transposed)."""
        added = len(self.stage.sources) > 1 and not self.concatenated
        joining = self.sources + self.joined if added else 2 * self.joined
        transposed = self.stage.stencil is not None and self.stage.stencil.kind == "ConvTranspose"
        return max(joining, self.joined + self.made * (2 if transposed else 1))


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
