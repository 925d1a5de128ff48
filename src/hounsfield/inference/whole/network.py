"""A network as the whole-volume executor sees it: operators in order, constants, shapes.

Only operators whose meaning is local along the slices (stencils, operations voxel by voxel)
or needs no more than the mean and variance of each channel (instance normalisation) can be
run in slabs with an equal result; any other is refused by name.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import EngineUnavailable, PackageInvalid
from hounsfield.inference.whole.weights import open_model, release

STENCILS = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool"})
_ACTIVATIONS = ("Relu", "LeakyRelu", "PRelu", "Elu", "Sigmoid", "Tanh", "Clip", "HardSigmoid", "HardSwish", "Softplus")
POINTWISE = frozenset({*_ACTIVATIONS, "Softmax", "Add", "Sub", "Mul", "Div", "BatchNormalization", "Concat"})
NORMALISATION = "InstanceNormalization"
_PASSED_THROUGH = frozenset({"Identity", "Dropout"})
_WHOLE_AXES = 5

TensorShape = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Operator:
    """One operator: its kind, the activations it reads, its constants by input position."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    output: str
    constants: Mapping[int, NDArray[Any]] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def activations(self) -> tuple[str, ...]:
        """The inputs that are not constants."""
        return tuple(name for index, name in enumerate(self.inputs) if name and index not in self.constants)


@dataclass(frozen=True, eq=False)
class Network:
    """Operators in an order that can be executed, from one input to one output."""

    input: str
    output: str
    channels: int
    operators: tuple[Operator, ...]
    opset: int
    ir_version: int
    pages: mmap.mmap | None = None

    def release_weights(self) -> None:
        """Let the weights go back to their file until they are used again."""
        release(self.pages)

    @property
    def weights_bytes(self) -> int:
        """Bytes of all constants."""
        return sum(array.nbytes for op in self.operators for array in op.constants.values())

    def multiple(self) -> tuple[int, int, int]:
        """What the input's (k, j, i) sizes should be multiples of, so that all levels match."""
        ratios: dict[str, tuple[float, ...]] = {self.input: (1.0, 1.0, 1.0)}
        deepest = [1.0, 1.0, 1.0]
        for op in self.operators:
            ratio = ratios[op.activations[0]]
            if op.kind in STENCILS:
                strides = op.attributes["strides"]
                grow = op.kind == "ConvTranspose"
                ratio = tuple(r / s if grow else r * s for r, s in zip(ratio, strides, strict=True))
            ratios[op.output] = ratio
            deepest = [max(a, b) for a, b in zip(deepest, ratio, strict=True)]
        k, j, i = (max(1, math.ceil(value)) for value in deepest)
        return k, j, i

    def shapes(self, grid: tuple[int, int, int]) -> dict[str, TensorShape]:
        """Shape (channels, k, j, i) of every activation for an input of shape ``grid``.

        Raises
        ------
        EngineUnavailable
            If activations that meet do not have the same shape.
        """
        shapes: dict[str, TensorShape] = {self.input: (self.channels, *grid)}
        for op in self.operators:
            shapes[op.output] = _shape(op, [shapes[name] for name in op.activations])
        return shapes

    def operations(self, shapes: Mapping[str, TensorShape]) -> int:
        """Floating-point operations of all convolutions."""
        total = 0
        for op in self.operators:
            if op.kind in ("Conv", "ConvTranspose"):
                at = op.output if op.kind == "Conv" else op.activations[0]
                total += 2 * math.prod(shapes[at]) * math.prod(op.constants[1].shape[1:])
        return total


def read_network(graph: Path | bytes) -> Network:
    """Read an ONNX graph (a file, or its bytes) for whole-volume execution.

    Raises
    ------
    EngineUnavailable
        If an operator cannot be run in slabs; it is named, and the window mode proposed.
    PackageInvalid
        If the file is no ONNX graph with one 3-D input and one output.
    """
    path = graph if isinstance(graph, Path) else None
    model, constants, pages = open_model(graph)
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise PackageInvalid(
            f"the graph has {len(inputs)} inputs and {len(model.graph.output)} outputs", "export one of each", path
        )
    dims = [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim]
    if len(dims) != _WHOLE_AXES or dims[1] < 1:
        raise PackageInvalid("the graph's input is not (batch, channels, k, j, i)", "export a 3-D network", path)
    try:
        operators, output = _operators(model, constants, path)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise PackageInvalid(
            f"an operator of the graph is damaged ({type(error).__name__})", "build the package again", path
        ) from error
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 17)
    return Network(inputs[0].name, output, int(dims[1]), operators, int(opset), int(model.ir_version), pages)


def _operators(model: Any, constants: dict[str, NDArray[Any]], path: Path | None) -> tuple[tuple[Operator, ...], str]:
    import onnx

    same: dict[str, str] = {}
    operators = []
    for index, node in enumerate(model.graph.node):
        attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
        name = node.name or f"{node.op_type}_{index}"
        inputs = tuple(same.get(entry, entry) for entry in node.input)
        if node.op_type == "Constant" and "value" in attributes:
            constants[node.output[0]] = onnx.numpy_helper.to_array(attributes["value"])
        elif node.op_type in _PASSED_THROUGH:
            if inputs[0] in constants:
                constants[node.output[0]] = constants[inputs[0]]
            same[node.output[0]] = inputs[0]
        else:
            _supported(node, attributes, path)
            fixed = {at: constants[entry] for at, entry in enumerate(inputs) if entry in constants}
            operators.append(
                Operator(name, node.op_type, inputs, node.output[0], fixed, _complete(node, attributes, fixed))
            )
            _constants_present(operators[-1], path)
            _padding_within_reach(operators[-1], path)
    output = model.graph.output[0].name
    return tuple(operators), same.get(output, output)


def _refuse(node_kind: str, why: str, path: Path | None) -> EngineUnavailable:
    return EngineUnavailable(
        f"the whole-volume mode cannot run the operator {node_kind} in slabs: {why}",
        "use the window mode, or another engine",
        path,
    )


def _supported(node: Any, attributes: dict[str, Any], path: Path | None) -> None:
    kind = node.op_type
    if node.domain not in ("", "ai.onnx"):
        raise _refuse(f"{node.domain}::{kind}", "it is not of the ONNX standard", path)
    if kind not in STENCILS | POINTWISE | {NORMALISATION}:
        raise _refuse(kind, "its result may depend on more than a slab and the channel's mean and variance", path)
    if len([name for name in node.output if name]) != 1:
        raise _refuse(kind, "it has several outputs", path)
    if kind in STENCILS:
        if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b""):
            raise _refuse(kind, "automatic padding depends on the size of the slab", path)
        if attributes.get("ceil_mode", 0) or attributes.get("storage_order", 0) or "output_shape" in attributes:
            raise _refuse(kind, "its size is not given by strides and pads alone", path)
    if kind in ("Concat", "Softmax") and attributes.get("axis", -1) not in (1, 1 - _WHOLE_AXES):
        raise _refuse(kind, "it works along another axis than the channels", path)
    if kind == "BatchNormalization" and attributes.get("training_mode", 0):
        raise _refuse(kind, "it is in training mode", path)


def _constants_present(op: Operator, path: Path | None) -> None:
    """Weights must be constants, and a constant that meets an activation must not vary in space."""
    if op.kind in ("Conv", "ConvTranspose", NORMALISATION, "BatchNormalization"):
        if not all(at in op.constants for at in range(1, len(op.inputs)) if op.inputs[at]):
            raise _refuse(op.kind, "its weights are computed in the graph", path)
        if op.kind.startswith("Conv") and op.constants[1].ndim != _WHOLE_AXES:
            raise _refuse(op.kind, "it is not three-dimensional", path)
    if not op.activations:
        raise _refuse(op.kind, "it has no activation as input", path)
    if op.kind in ("Add", "Sub", "Mul", "Div", "PRelu", "Concat"):
        for array in op.constants.values():
            if op.kind == "Concat" or any(size != 1 for size in array.shape[-3:]):
                raise _refuse(op.kind, "a constant varies in space", path)


def _padding_within_reach(op: Operator, path: Path | None) -> None:
    """A slab whose stencil saw nothing but padding would have nothing to read."""
    if op.kind not in STENCILS or op.kind == "ConvTranspose":
        return
    span = op.attributes["dilations"][0] * (op.attributes["kernel_shape"][0] - 1)
    if max(op.attributes["pads"][0], op.attributes["pads"][3]) > span:
        raise _refuse(op.kind, "it pads further than its kernel reaches", path)


def _complete(node: Any, attributes: dict[str, Any], constants: Mapping[int, NDArray[Any]]) -> dict[str, Any]:
    """Attributes of stencils with the standard's defaults filled in."""
    if node.op_type not in STENCILS:
        return attributes
    kernel = list(constants[1].shape[2:]) if node.op_type.startswith("Conv") and 1 in constants else None
    full = dict(attributes)
    full.setdefault("kernel_shape", kernel or [1, 1, 1])
    full.setdefault("strides", [1, 1, 1])
    full.setdefault("dilations", [1, 1, 1])
    full.setdefault("pads", [0] * 6)
    if node.op_type == "ConvTranspose":
        full.setdefault("output_padding", [0, 0, 0])
    full.pop("auto_pad", None)
    return full


def _shape(op: Operator, inputs: list[TensorShape]) -> TensorShape:
    first = inputs[0]
    if op.kind in STENCILS:
        return (_channels(op, first), *(_length(op, axis, first[1 + axis]) for axis in range(3)))  # type: ignore[return-value]
    spaces = {shape[1:] for shape in inputs}
    if len(spaces) > 1:
        raise EngineUnavailable(
            f"{op.kind} {op.name!r} joins activations of shapes {sorted(spaces)}",
            "pad the volume to a multiple of the network's total stride",
        )
    if op.kind == "Concat":
        return (sum(shape[0] for shape in inputs), *first[1:])
    widths = [shape[0] for shape in inputs]
    widths += [array.shape[-4] for array in op.constants.values() if array.ndim >= 4]
    return (max(widths), *first[1:])


def _channels(op: Operator, first: TensorShape) -> int:
    if op.kind == "Conv":
        return int(op.constants[1].shape[0])
    if op.kind == "ConvTranspose":
        return int(op.constants[1].shape[1]) * int(op.attributes.get("group", 1))
    return first[0]


def _length(op: Operator, axis: int, size: int) -> int:
    """Output length along one axis (ONNX operator specification)."""
    values = op.attributes
    reach = values["dilations"][axis] * (values["kernel_shape"][axis] - 1) + 1
    pads = values["pads"][axis] + values["pads"][axis + 3]
    stride = values["strides"][axis]
    if op.kind == "ConvTranspose":
        return int((size - 1) * stride - pads + reach + values["output_padding"][axis])
    return int((size + pads - reach) // stride + 1)


def float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """The array as contiguous fp32."""
    return np.ascontiguousarray(array, dtype=np.float32)
