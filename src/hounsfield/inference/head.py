"""A linear head can wait: cut a 1x1x1 convolution off the end of a graph.

Blending is linear, and so is a 1x1x1 convolution: blending its input features and applying it
once per finished voxel equals blending its output, up to rounding. With many classes
and few features that saves most of the memory and of the blending.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import PackageInvalid
from hounsfield.inference.engine import OnnxGraph


@dataclass(frozen=True, eq=False)
class Head:
    """A 1x1x1 convolution.

    Parameters
    ----------
    weight
        (classes, features) float32.
    bias
        (classes,) float32.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    @property
    def classes(self) -> int:
        """Output channels."""
        return int(self.weight.shape[0])

    @property
    def features(self) -> int:
        """Input channels."""
        return int(self.weight.shape[1])

    @property
    def smaller(self) -> bool:
        """Whether there are fewer features than classes, so that cutting saves memory."""
        return self.features < self.classes


def split_head(graph: OnnxGraph) -> tuple[OnnxGraph, Head] | None:
    """Cut the graph before its last node, if that is a plain 1x1x1 convolution.

    A graph that ends in an activation is not cut: blending what comes before it would not be
    the same. Nor is a quantised head.

    Returns
    -------
    The graph that answers the features, and the head; or ``None``.

    Raises
    ------
    PackageInvalid
        If the file is not an ONNX graph.
    """
    import onnx
    from onnx import numpy_helper

    try:
        model = onnx.load(graph.model) if isinstance(graph.model, Path) else onnx.load_from_string(graph.model)
    except Exception as error:  # protobuf raises several unrelated classes for damaged bytes
        path = graph.model if isinstance(graph.model, Path) else None
        raise PackageInvalid("this is not an ONNX graph", "build the package again", path) from error
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    node = _last_node(model)
    if node is None or not _is_plain_head(node, tensors):
        return None
    weight = numpy_helper.to_array(tensors[node.input[1]]).astype(np.float32)
    if weight.ndim != 5 or weight.shape[2:] != (1, 1, 1):
        return None
    bias = np.zeros(len(weight), np.float32)
    if len(node.input) == 3:
        bias = numpy_helper.to_array(tensors[node.input[2]]).astype(np.float32)
    head = Head(np.ascontiguousarray(weight[:, :, 0, 0, 0]), bias)
    _cut(model, node, tensors, head.features)
    return OnnxGraph(model.SerializeToString(), graph.quantised), head


def _last_node(model: Any) -> Any | None:
    """The node that makes the graph's one output, past Identity nodes."""
    makers = {name: node for node in model.graph.node for name in node.output}
    if len(model.graph.output) != 1:
        return None
    node = makers.get(model.graph.output[0].name)
    while node is not None and node.op_type == "Identity":
        node = makers.get(node.input[0])
    return node


def _is_plain_head(node: Any, tensors: dict[str, Any]) -> bool:
    if node.op_type != "Conv" or any(name not in tensors for name in list(node.input)[1:]):
        return False
    plain = {"strides": 1, "dilations": 1, "pads": 0, "group": 1, "kernel_shape": 1}
    for attribute in node.attribute:
        if attribute.name in plain:
            values = list(attribute.ints) or [attribute.i]
            if any(value != plain[attribute.name] for value in values):
                return False
        elif attribute.name == "auto_pad" and attribute.s not in (b"NOTSET", b"VALID", b"SAME_UPPER", b"SAME_LOWER"):
            return False
    return True


def _cut(model: Any, node: Any, tensors: dict[str, Any], features: int) -> None:
    """Make the head's input the graph's output and drop what only the head used."""
    import onnx

    name = node.input[0]
    dead = {node.output[0], model.graph.output[0].name}
    kept = [each for each in model.graph.node if each is not node and not (set(each.output) & dead)]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    used = {each for other in kept for each in other.input}
    weights = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
    del model.graph.output[:]
    shape = ["n", features, "k", "j", "i"]
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    known = [value for value in model.graph.value_info if value.name != name]
    del model.graph.value_info[:]
    model.graph.value_info.extend(known)
