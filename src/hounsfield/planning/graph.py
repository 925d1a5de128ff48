"""What a network graph costs for one window: weights, arithmetic, and memory by liveness.

Pure arithmetic on a plain list of nodes; ``onnx_graph`` reads that list from a file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

IN_PLACE = frozenset(
    {"Relu", "LeakyRelu", "PRelu", "Elu", "Sigmoid", "Tanh", "Clip", "HardSwish", "Identity", "Dropout"}
)
ALIASES = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout"})


@dataclass(frozen=True)
class GraphNode:
    """One operator of a graph, for one window.

    Parameters
    ----------
    name, operator
        The node and its ONNX operator.
    inputs, outputs
        Names of activations (weights are not listed).
    output_bytes
        Size of each output in fp32 (or its own wider type), as many as ``outputs``.
    operations
        Floating-point operations, a multiplication and an addition counting two.
    bounded
        True where the size is not known and a conservative bound stands in for it.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    output_bytes: tuple[int, ...]
    operations: int = 0
    bounded: bool = False


@dataclass(frozen=True)
class GraphCost:
    """What one inference of one window takes, from the graph alone.

    Parameters
    ----------
    voxels
        Voxels of the input, batch included, channels not.
    input_bytes, weights_bytes
        fp32 input; stored weights.
    live_bytes
        Lower bound: the most bytes of activations that are alive at one node.
    arena_bytes
        The same under best-fit reuse of freed buffers: what a good engine needs.
    total_bytes
        All activations, as if nothing were reused.
    operations
        Floating-point operations of one inference.
    notes
        What was bounded instead of known, in words.
    """

    voxels: int
    input_bytes: int
    weights_bytes: int
    live_bytes: int
    arena_bytes: int
    total_bytes: int
    operations: int
    notes: tuple[str, ...] = field(default=())

    @property
    def arena_bytes_per_voxel(self) -> float:
        """Activation bytes per input voxel under best-fit reuse."""
        return self.arena_bytes / self.voxels

    def scaled(self, voxels: int) -> GraphCost:
        """The cost of a window of ``voxels``, activations and arithmetic in proportion."""
        ratio = voxels / self.voxels
        return GraphCost(
            voxels=voxels,
            input_bytes=math.ceil(self.input_bytes * ratio),
            weights_bytes=self.weights_bytes,
            live_bytes=math.ceil(self.live_bytes * ratio),
            arena_bytes=math.ceil(self.arena_bytes * ratio),
            total_bytes=math.ceil(self.total_bytes * ratio),
            operations=math.ceil(self.operations * ratio),
            notes=self.notes,
        )


def cost_of(
    nodes: Sequence[GraphNode], inputs: dict[str, int], outputs: Sequence[str], weights_bytes: int, voxels: int
) -> GraphCost:
    """The cost of a graph whose nodes are in an order that can be executed.

    Parameters
    ----------
    inputs
        Name → bytes of each graph input.
    outputs
        Names that must stay alive to the end.
    """
    live, arena = _liveness(nodes, inputs, outputs)
    notes = tuple(f"the size of {node.operator} {node.name!r} is a bound" for node in nodes if node.bounded)
    return GraphCost(
        voxels=voxels,
        input_bytes=sum(inputs.values()),
        weights_bytes=weights_bytes,
        live_bytes=live,
        arena_bytes=arena,
        total_bytes=sum(sum(node.output_bytes) for node in nodes),
        operations=sum(node.operations for node in nodes),
        notes=notes,
    )


def _liveness(nodes: Sequence[GraphNode], inputs: dict[str, int], outputs: Sequence[str]) -> tuple[int, int]:
    """Peak of live bytes, and size of the arena that best-fit reuse needs."""
    last_use = {name: index for index, node in enumerate(nodes) for name in node.inputs}
    last_use.update(dict.fromkeys(outputs, len(nodes)))
    arena = _Arena()
    for name, size in inputs.items():
        arena.place(name, size)
    for index, node in enumerate(nodes):
        dying = [name for name in dict.fromkeys(node.inputs) if last_use.get(name) == index and name in arena]
        for output, size in zip(node.outputs, node.output_bytes, strict=True):
            reused = _reusable(node, output, size, dying, arena)
            if reused is None:
                arena.place(output, size)
            else:
                arena.rename(reused, output)
                dying.remove(reused)
        for name in dying:
            arena.free(name)
        for output in node.outputs:
            if output not in last_use:
                arena.free(output)
    return arena.peak_live, arena.size


def _reusable(node: GraphNode, output: str, size: int, dying: list[str], arena: _Arena) -> str | None:
    if node.operator not in IN_PLACE | ALIASES or node.outputs[0] != output:
        return None
    return next((name for name in dying if arena.used[name] == size), None)


class _Arena:
    """Buffers handed out and taken back; a free one is reused by best fit, grown when too small."""

    def __init__(self) -> None:
        self.used: dict[str, int] = {}
        self._block: dict[str, int] = {}
        self._free: list[int] = []
        self.size = 0
        self.peak_live = 0

    def __contains__(self, name: str) -> bool:
        return name in self.used

    def place(self, name: str, size: int) -> None:
        fitting = [block for block in self._free if block >= size]
        if fitting:
            block = min(fitting)
            self._free.remove(block)
        elif self._free:
            largest = max(self._free)
            self._free.remove(largest)
            self.size += size - largest
            block = size
        else:
            self.size += size
            block = size
        self.used[name], self._block[name] = size, block
        self.peak_live = max(self.peak_live, sum(self.used.values()))

    def rename(self, old: str, new: str) -> None:
        self.used[new], self._block[new] = self.used.pop(old), self._block.pop(old)

    def free(self, name: str) -> None:
        del self.used[name]
        self._free.append(self._block.pop(name))
