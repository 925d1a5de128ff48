"""One ONNX graph from a window in the scan's own units to probabilities: intensity steps and activation inside.

Only steps whose numbers stand in the manifest can go inside; those that look at the whole scan (quantiles,
z-score) cannot, as a window does not know its scan.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from hounsfield.errors import PackageInvalid
from hounsfield.packages.manifest import Clip, InputSpec, OutputSpec, Scale, Standardise

RAW, PROBABILITIES = "scan_values", "probabilities"
_FIXED: Final = (Clip, Scale, Standardise)


def why_no_pipeline(given: InputSpec) -> str:
    """Why the intensity steps cannot go into the graph; empty where they can."""
    steps = given.steps_of_channels
    if len(set(steps)) > 1:
        return "the channels have different intensity steps"
    other = [step.step for step in steps[0] if not isinstance(step, _FIXED)] if steps else []
    return f"{other[0]} looks at the whole scan" if other else ""


def pipeline_graph(model: Any, given: InputSpec, output: OutputSpec) -> Any:
    """A copy of a graph with the intensity steps before it and the activation behind it.

    Parameters
    ----------
    model
        ``onnx.ModelProto`` with one input (batch, channels, k, j, i) and one output.

    Returns
    -------
    A model from ``scan_values``, in the units of the scan, to ``probabilities``; softmax over the channels.

    Raises
    ------
    PackageInvalid
        If the steps cannot go inside.
    """
    import onnx

    reason = why_no_pipeline(given)
    if reason:
        raise PackageInvalid(f"the intensity steps do not fit into a graph: {reason}", "prepare windows outside")
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph, entry, answer = made.graph, made.graph.input[0].name, made.graph.output[0].name
    before = _Chain(graph, RAW)
    for step in given.steps_of_channels[0]:
        _add(before, step)
    before.add("Identity", entry)
    kind = {"softmax": "Softmax", "sigmoid": "Sigmoid", "none": "Identity"}[output.activation]
    more = {"axis": 1} if kind == "Softmax" else {}
    end = onnx.helper.make_node(kind, [answer], [PROBABILITIES], name="pipeline_activation", **more)
    nodes = [*before.nodes, *graph.node, end]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.input[0].name, graph.output[0].name = RAW, PROBABILITIES
    return made


class _Chain:
    """Nodes that follow one another, each with constants of its own."""

    def __init__(self, graph: Any, first: str) -> None:
        self.nodes: list[Any] = []
        self._graph, self._last = graph, first

    def add(self, kind: str, name: str = "", constant: float | None = None) -> None:
        """One more node; ``constant`` is its second input."""
        import onnx

        number = len(self.nodes)
        given = [self._last]
        if constant is not None:
            given.append(f"pipeline_constant_{number}")
            self._graph.initializer.append(onnx.numpy_helper.from_array(np.float32(constant), given[1]))
        self._last = name or f"pipeline_{number}"
        self.nodes.append(onnx.helper.make_node(kind, given, [self._last], name=f"pipeline_step_{number}"))


def _add(chain: _Chain, step: Any) -> None:
    if isinstance(step, Clip):
        chain.add("Max", constant=step.low)
        chain.add("Min", constant=step.high)
    elif isinstance(step, Standardise):
        chain.add("Sub", constant=step.mean)
        chain.add("Div", constant=step.std)
    else:
        width = step.high - step.low
        chain.add("Sub", constant=step.low)
        chain.add("Mul", constant=(step.to_high - step.to_low) / width if width else 0.0)
        chain.add("Add", constant=step.to_low)
        if step.clip:
            low, high = sorted((step.to_low, step.to_high))
            chain.add("Max", constant=low)
            chain.add("Min", constant=high)
