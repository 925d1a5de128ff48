"""ONNX graphs that reach outside, do too much, or are damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from package_variants import (
    add_constant,
    edit_graph,
    make_external,
    put_node_first,
    write_graph,
)
from spoiling import hostile

from hounsfield.errors import PackageInvalid, PackageRefused


def _external(location: str, **more: str) -> Callable[[Path], None]:
    entries = {"location": location, "offset": "0", "length": "8", **more}
    return lambda root: edit_graph(root, lambda model: make_external(model, **entries))


@hostile(PackageRefused, "outside the package's graphs folder")
def external_data_absolute(root: Path) -> None:
    _external("/etc/hostname")(root)


@hostile(PackageRefused, "outside the package's graphs folder")
def external_data_parent(root: Path) -> None:
    (root.parent / "secret.data").write_bytes(bytes(8))
    _external("../../secret.data")(root)


@hostile(PackageRefused, "outside the package's graphs folder")
def external_data_without_a_name(root: Path) -> None:
    _external("")(root)


@hostile(PackageRefused, "is a link")
def external_data_linked(root: Path) -> None:
    (root.parent / "secret.data").write_bytes(bytes(8))
    (root / "graphs/w.data").symlink_to(root.parent / "secret.data")
    _external("w.data")(root)


@hostile(PackageInvalid, "are not in the package")
def external_data_absent(root: Path) -> None:
    _external("w.data")(root)


@hostile(PackageInvalid, "do not match its dims or pass the end")
def external_data_past_the_end(root: Path) -> None:
    (root / "graphs/w.data").write_bytes(bytes(8))
    _external("w.data", offset="4")(root)


@hostile(PackageRefused, "in whole numbers")
def external_data_negative_offset(root: Path) -> None:
    (root / "graphs/w.data").write_bytes(bytes(8))
    _external("w.data", offset="-4")(root)


@hostile(PackageRefused, "unknown or repeated keys")
def external_data_with_injected_key(root: Path) -> None:
    (root / "graphs/w.data").write_bytes(bytes(8))
    _external("w.data", __class__="x")(root)


@hostile(PackageInvalid, "NaN or infinity")
def external_data_with_nan(root: Path) -> None:
    (root / "graphs/w.data").write_bytes(np.array([1, np.nan], "<f4").tobytes())
    _external("w.data")(root)


@hostile(PackageRefused, "another file")
def external_data_in_an_attribute(root: Path) -> None:
    def change(model: Any) -> None:
        tensor = TensorProto(data_type=1, dims=[2], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="/etc/hostname")
        put_node_first(model, "Constant", [], ["c"], value=tensor)

    edit_graph(root, change)


@hostile(PackageRefused, "operator domain 'com.acme'")
def custom_domain(root: Path) -> None:
    def change(model: Any) -> None:
        model.opset_import.append(helper.make_opsetid("com.acme", 1))
        model.graph.node[0].domain = "com.acme"

    edit_graph(root, change)


@hostile(PackageRefused, "custom operator 'Conv' of domain 'com.acme'")
def custom_domain_not_imported(root: Path) -> None:
    edit_graph(root, lambda model: setattr(model.graph.node[0], "domain", "com.acme"))


@hostile(PackageRefused, "operator domain 'com.microsoft'")
def engine_domain(root: Path) -> None:
    edit_graph(root, lambda model: model.opset_import.append(helper.make_opsetid("com.microsoft", 1)))


@hostile(PackageRefused, "functions of its own")
def model_function(root: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    function = helper.make_function("ai.onnx", "F", ["x"], ["y"], [node], [helper.make_opsetid("", 17)])
    edit_graph(root, lambda model: model.functions.append(function))


def _branch() -> Any:
    node = helper.make_node("Constant", [], ["v"], value_float=1.0)
    return helper.make_graph([node], "g", [], [helper.make_tensor_value_info("v", TensorProto.FLOAT, [])])


@hostile(PackageRefused, "a subgraph")
def branch_if(root: Path) -> None:
    def change(model: Any) -> None:
        put_node_first(model, "If", ["image"], ["v2"], then_branch=_branch(), else_branch=_branch())

    edit_graph(root, change)


@hostile(PackageRefused, "a subgraph")
def infinite_loop(root: Path) -> None:
    edit_graph(root, lambda model: put_node_first(model, "Loop", ["", "", "image"], ["v2"], body=_branch()))


@hostile(PackageRefused, "a sparse tensor")
def sparse_tensor(root: Path) -> None:
    edit_graph(root, lambda model: model.graph.sparse_initializer.add(dims=[2**40]))


@hostile(PackageRefused, "training information")
def training_information(root: Path) -> None:
    edit_graph(root, lambda model: model.training_info.add())


@hostile(PackageRefused, "'RandomNormal' is not on the closed list")
def random_operator(root: Path) -> None:
    edit_graph(root, lambda model: put_node_first(model, "RandomNormal", [], ["r"], shape=[2]))


@hostile(PackageRefused, "'RegexFullMatch' is not on the closed list")
def text_operator(root: Path) -> None:
    edit_graph(root, lambda model: put_node_first(model, "RegexFullMatch", ["image"], ["r"], pattern="(a+)+$"))


@hostile(PackageRefused, "data type 8")
def text_tensor(root: Path) -> None:
    tensor = helper.make_tensor("t", TensorProto.STRING, [1], [b"x"])
    edit_graph(root, lambda model: model.graph.initializer.append(tensor))


@hostile(PackageRefused, "ConstantOfShape node would make a huge array")
def huge_constant(root: Path) -> None:
    def change(model: Any) -> None:
        add_constant(model, "s", [100_000, 100_000, 100])
        put_node_first(model, "ConstantOfShape", ["s"], ["big"])

    edit_graph(root, change)


@hostile(PackageRefused, "Range node would make a huge array")
def huge_range(root: Path) -> None:
    def change(model: Any) -> None:
        for name, value in (("a", 0), ("b", 2**40), ("c", 1)):
            put_node_first(model, "Constant", [], [name], value_int=value)
        model.graph.node.insert(3, helper.make_node("Range", ["a", "b", "c"], ["big"]))

    edit_graph(root, change)


@hostile(PackageRefused, "Tile node would make a huge array")
def huge_tile(root: Path) -> None:
    def change(model: Any) -> None:
        add_constant(model, "s", [1, 1, 2**15, 2**15, 2**15])
        put_node_first(model, "Tile", ["image", "s"], ["big"])

    edit_graph(root, change)


@hostile(PackageRefused, "pads of a Conv node")
def huge_padding(root: Path) -> None:
    def change(model: Any) -> None:
        model.graph.node[0].attribute.append(helper.make_attribute("pads", [2**40] * 6))

    edit_graph(root, change)


@hostile(PackageRefused, "impossible dims")
def negative_dims(root: Path) -> None:
    edit_graph(root, lambda model: model.graph.initializer[0].dims.append(-1))


@hostile(PackageRefused, "impossible dims")
def overflowing_dims(root: Path) -> None:
    edit_graph(root, lambda model: model.graph.initializer[0].dims.extend([2**32, 2**32]))


@hostile(PackageInvalid, "do not match its dims")
def dims_beyond_the_bytes(root: Path) -> None:
    edit_graph(root, lambda model: model.graph.initializer[0].dims.append(1000))


@hostile(PackageInvalid, "'weight' holds NaN or infinity")
def weight_nan(root: Path) -> None:
    def change(model: Any) -> None:
        model.graph.initializer[0].raw_data = np.array([np.nan, 1], "<f4").tobytes()

    edit_graph(root, change)


@hostile(PackageInvalid, "'bias' holds NaN or infinity")
def weight_infinite_in_typed_data(root: Path) -> None:
    tensor = helper.make_tensor("bias", TensorProto.FLOAT, [2], [0.0, float("-inf")])
    edit_graph(root, lambda model: model.graph.initializer[1].CopyFrom(tensor))


@hostile(PackageInvalid, "'extra' holds NaN or infinity")
def half_precision_nan(root: Path) -> None:
    tensor = helper.make_tensor("extra", TensorProto.FLOAT16, [2], [0.0, float("nan")])
    assert len(tensor.int32_data) == 2
    edit_graph(root, lambda model: model.graph.initializer.append(tensor))


@hostile(PackageInvalid, "'extra' holds NaN or infinity")
def bfloat16_nan(root: Path) -> None:
    tensor = TensorProto(name="extra", data_type=16, dims=[2], raw_data=b"\x00\x00\xc0\x7f")
    edit_graph(root, lambda model: model.graph.initializer.append(tensor))


@hostile(PackageInvalid, "used before it is computed")
def cycle(root: Path) -> None:
    def change(model: Any) -> None:
        put_node_first(model, "Add", ["b", "image"], ["a"])
        model.graph.node.insert(1, helper.make_node("Add", ["a", "image"], ["b"]))

    edit_graph(root, change)


@hostile(PackageInvalid, "is given twice")
def name_twice(root: Path) -> None:
    edit_graph(root, lambda model: put_node_first(model, "Identity", ["image"], ["weight"]))


@hostile(PackageInvalid, "nothing computes the output")
def output_from_nowhere(root: Path) -> None:
    edit_graph(root, lambda model: setattr(model.graph.output[0], "name", "nowhere"))


@hostile(PackageInvalid, "the graph has 'picture'")
def other_input_name(root: Path) -> None:
    def change(model: Any) -> None:
        model.graph.input[0].name = model.graph.node[0].input[0] = "picture"

    edit_graph(root, change)


@hostile(PackageInvalid, "'logits', the graph has 'logits', 'more'")
def second_output(root: Path) -> None:
    def change(model: Any) -> None:
        put_node_first(model, "Identity", ["image"], ["more"])
        model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, None))

    edit_graph(root, change)


def _resize_end(which: str, axis: int, size: int | None) -> Callable[[Path], None]:
    def change(model: Any) -> None:
        dim = getattr(model.graph, which)[0].type.tensor_type.shape.dim[axis]
        dim.Clear()
        if size is not None:
            dim.dim_value = size

    return lambda root: edit_graph(root, change)


@hostile(PackageInvalid, "the output has 5 classes, the manifest means 2")
def other_classes(root: Path) -> None:
    _resize_end("output", 1, 5)(root)


@hostile(PackageInvalid, "an unknown number of classes")
def unknown_classes(root: Path) -> None:
    _resize_end("output", 1, None)(root)


@hostile(PackageInvalid, "the input has 4 channels, the manifest means 1")
def other_channels(root: Path) -> None:
    _resize_end("input", 1, 4)(root)


@hostile(PackageInvalid, "fixed to 24 voxels where the window has 16")
def other_window(root: Path) -> None:
    _resize_end("input", 3, 24)(root)


@hostile(PackageInvalid, "an axis below 1")
def negative_axis(root: Path) -> None:
    _resize_end("input", 2, -5)(root)


@hostile(PackageInvalid, "the input has 4 axes, not 5")
def four_axes(root: Path) -> None:
    edit_graph(root, lambda model: model.graph.input[0].type.tensor_type.shape.dim.pop())


@hostile(PackageInvalid, "the input is not 32-bit float")
def whole_number_input(root: Path) -> None:
    edit_graph(root, lambda model: setattr(model.graph.input[0].type.tensor_type, "elem_type", TensorProto.INT16))


@hostile(PackageInvalid, "operator set is not one ai.onnx version")
def future_opset(root: Path) -> None:
    edit_graph(root, lambda model: setattr(model.opset_import[0], "version", 999))


@hostile(PackageInvalid, "has no attribute 'library'")
def unknown_attribute(root: Path) -> None:
    attribute = helper.make_attribute("library", "/tmp/evil.so")  # noqa: S108
    edit_graph(root, lambda model: model.graph.node[0].attribute.append(attribute))


def _field(number: int, body: bytes) -> bytes:
    """A length-delimited protobuf field."""
    length, size = len(body), bytearray()
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2]) + bytes(size) + bytes([length]) + body


@hostile(PackageRefused, "more than 500000 fields")
def million_empty_nodes(root: Path) -> None:
    write_graph(root, b"\x08\x08" + _field(7, b"\x0a\x00" * 1_000_000))


@hostile(PackageRefused, "a model whose field 2 has 131072 bytes")
def long_text_in_the_model(root: Path) -> None:
    write_graph(root, (root / "graphs/fp32.onnx").read_bytes() + _field(2, b"x" * 2**17))


@hostile(PackageRefused, "more than 500000 fields")
def million_axes(root: Path) -> None:
    value = _field(2, _field(1, _field(2, b"\x0a\x00" * 30_000)))
    write_graph(root, b"\x08\x08" + _field(7, _field(13, value) * 20))


@hostile(PackageRefused, "a sequence type")
def type_nested_deeply(root: Path) -> None:
    kind = b""
    for _ in range(5_000):  # TypeProto.sequence_type.elem_type, again and again
        kind = _field(4, _field(1, kind))
    graph = _field(11, _field(1, b"image") + _field(2, kind))
    write_graph(root, b"\x08\x08" + _field(7, graph))


@hostile(PackageInvalid, "not an ONNX model")
def truncated_graph(root: Path) -> None:
    write_graph(root, (root / "graphs/fp32.onnx").read_bytes()[:-7])


@hostile(PackageInvalid, "it is empty")
def empty_graph(root: Path) -> None:
    write_graph(root, b"")


@hostile(PackageInvalid, "not an ONNX model")
def noise_for_a_graph(root: Path) -> None:
    write_graph(root, b"\xff" * 4096)


@hostile(PackageInvalid, "not an ONNX model")
def lying_length(root: Path) -> None:
    write_graph(root, b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
