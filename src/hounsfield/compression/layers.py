"""The heavy layers of an ONNX graph, and giving single ones of a quantised graph their floats back.

A quantised graph here is in QDQ form: a layer reads its input through QuantizeLinear and DequantizeLinear
and its weight through DequantizeLinear, so that a layer becomes a float layer again by wiring it past them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

HEAVY: Final = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_QUANTISE, _DEQUANTISE = "QuantizeLinear", "DequantizeLinear"
#: Operators that move values and change none, so that quantisers round before them.
_MOVING: Final = ("Concat", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True)
class Layer:
    """A convolution or matrix product with constant weights: its node's name, operator and weight's size."""

    name: str
    operator: str
    weights: int


def named(model: Any) -> Any:
    """A copy of the model in which every node has a name of its own."""
    made = _copied(model)
    taken: set[str] = set()
    for number, node in enumerate(made.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{number}"
        taken.add(node.name)
    return made


def heavy_layers(model: Any) -> tuple[Layer, ...]:
    """Layers that can be quantised, in the order of the graph."""
    sizes = {tensor.name: _elements(tensor) for tensor in model.graph.initializer}
    return tuple(
        Layer(node.name, node.op_type, sizes[node.input[1]])
        for node in model.graph.node
        if node.op_type in HEAVY and len(node.input) > 1 and node.input[1] in sizes
    )


def copies_by_layer(model: Any) -> dict[str, tuple[str, ...]]:
    """Every heavy layer with all that read the same weight, itself included: a mean over flips has each many times."""
    readers: dict[str, list[str]] = {}
    weights = {node.name: node.input[1] for node in model.graph.node if node.op_type in HEAVY and len(node.input) > 1}
    for layer in heavy_layers(model):
        readers.setdefault(weights[layer.name], []).append(layer.name)
    return {name: tuple(readers[weights[name]]) for names in readers.values() for name in names}


def with_copies(model: Any, names: Collection[str]) -> set[str]:
    """The names, and those of all layers that read the same weights."""
    copies = copies_by_layer(model)
    return {one for name in names for one in copies.get(name, (name,))}


def quantised_layers(model: Any) -> tuple[str, ...]:
    """Names of the heavy layers whose input and weight are both rounded to 8 bits."""
    makers = {name: node for node in model.graph.node for name in node.output}
    held = {tensor.name for tensor in model.graph.initializer}
    return tuple(
        node.name
        for node in model.graph.node
        if node.op_type in HEAVY and all(_rounded(name, makers, held) for name in list(node.input)[:2])
    )


def with_float(quantised: Any, original: Any, layers: Collection[str]) -> Any:
    """A copy of a quantised graph in which some layers compute in float, with their own weights again.

    Parameters
    ----------
    quantised, original
        The QDQ model and the fp32 model that it was made of, with the same node names.
    layers
        Names of those that are to be float.
    """
    made = _copied(quantised)
    before = {node.name: node for node in original.graph.node}
    tensors = {tensor.name: tensor for tensor in original.graph.initializer}
    makers = {name: node for node in made.graph.node for name in node.output}
    held = {tensor.name for tensor in made.graph.initializer}
    nodes: list[Any] = []
    for node in made.graph.node:
        if node.name in layers and node.op_type in HEAVY:
            node.input[0] = _exact(node.input[0], makers, nodes)
            for place, name in enumerate(before[node.name].input):
                if place and name in tensors:
                    node.input[place] = f"{name}_float"
                    if f"{name}_float" not in held:
                        made.graph.initializer.append(tensors[name])
                        made.graph.initializer[-1].name = f"{name}_float"
                        held.add(f"{name}_float")
            _unrounded_after(made, node, makers)
        nodes.append(node)
    _replace(made.graph.node, nodes)
    _drop_unused(made)
    return made


def with_exact_answer(model: Any) -> Any:
    """A copy of a QDQ graph in which nothing after the last layers is rounded: scores need more than 256 values.

    A mean over flips adds several answers up; a quantiser would round each of them and every sum.
    """
    made = _copied(model)
    makers = {name: node for node in made.graph.node for name in node.output}
    for value in made.graph.output:
        source = _before_rounding(value.name, makers)
        if source != value.name and source in makers:
            makers[value.name].output[0] = f"{value.name}_rounded"
            for node in made.graph.node:
                for names in (node.input, node.output):
                    names[:] = [value.name if name == source else name for name in names]
    _exact_after_layers(made)
    _drop_unused(made)
    return made


def _exact_after_layers(model: Any) -> None:
    """From the answer back to the first heavy layers on the way: what is rounded there is read unrounded."""
    makers = {name: node for node in model.graph.node for name in node.output}
    pending, seen = [value.name for value in model.graph.output], set()
    while pending:
        node = makers.get(pending.pop())
        if node is None or node.op_type in HEAVY or node.output[0] in seen:
            continue
        seen.add(node.output[0])
        for place, name in enumerate(node.input):
            node.input[place] = _before_rounding(name, makers)
        pending += node.input


def _rounded(name: str, makers: dict[str, Any], held: Collection[str]) -> bool:
    """Whether a value comes out of a DequantizeLinear, or is only moved around after it."""
    maker = makers.get(name)
    if maker is None:
        return False
    if maker.op_type in _MOVING:
        given = [each for each in maker.input if each and each not in held and not _constant(each, makers)]
        return bool(given) and all(_rounded(each, makers, held) for each in given)
    return bool(maker.op_type == _DEQUANTISE)


def _constant(name: str, makers: dict[str, Any]) -> bool:
    return name in makers and makers[name].op_type == "Constant"


def _exact(name: str, makers: dict[str, Any], nodes: list[Any]) -> str:
    """The name of a value as it was before rounding; nodes that only move values are doubled for it."""
    maker = makers.get(name)
    if maker is None or maker.op_type not in _MOVING:
        return _before_rounding(name, makers)
    given = [_exact(each, makers, nodes) for each in maker.input]
    if given == list(maker.input):
        return name
    exact = f"{name}_exact"
    if exact not in makers:
        double = type(maker)()
        double.CopyFrom(maker)
        double.name, double.input[:], double.output[:] = f"{maker.name}_exact", given, [exact]
        makers[exact] = double
        nodes.append(double)
    return exact


def _before_rounding(name: str, makers: dict[str, Any]) -> str:
    """The value that a DequantizeLinear of a QuantizeLinear stands for; the name itself else."""
    maker = makers.get(name)
    if maker is None or maker.op_type != _DEQUANTISE:
        return name
    inner = makers.get(maker.input[0])
    return str(inner.input[0]) if inner is not None and inner.op_type == _QUANTISE else name


def _unrounded_after(model: Any, layer: Any, makers: dict[str, Any]) -> None:
    """Let the users of a layer's rounded answer read the answer itself, where they are no quantised layers."""
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            source = _before_rounding(name, makers)
            if source != name and source == layer.output[0] and node.op_type not in (*HEAVY, *_MOVING):
                node.input[place] = source


def _drop_unused(model: Any) -> None:
    """Remove nodes whose answer nobody reads, and then weights that nobody reads."""
    wanted = {value.name for value in model.graph.output}
    kept: list[Any] = []
    for node in reversed(model.graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted.update(node.input)
    _replace(model.graph.node, kept[::-1])
    _replace(model.graph.initializer, [tensor for tensor in model.graph.initializer if tensor.name in wanted])
    values = [value for value in model.graph.value_info if value.name in wanted]
    _replace(model.graph.value_info, values)


def _replace(place: Any, items: Sequence[Any]) -> None:
    copies = [type(item)() for item in items]
    for copy, item in zip(copies, items, strict=True):
        copy.CopyFrom(item)
    del place[:]
    place.extend(copies)


def _copied(model: Any) -> Any:
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def _elements(tensor: Any) -> int:
    product = 1
    for size in tensor.dims:
        product *= size
    return product
