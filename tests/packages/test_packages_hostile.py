"""Hostile packages: each is refused by the right class with one clear line; nothing runs, nothing is written."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from package_variants import (
    add_constant,
    edit_graph,
    edit_manifest,
    full_package,
    good_weights,
    make_external,
    put_node_first,
    redigest,
    safetensors_bytes,
    snapshot,
    write_graph,
)

from hounsfield.errors import PackageError, PackageInvalid, PackageRefused
from hounsfield.packages import verify
from hounsfield.testing.packages import tiny_evidence

MARKER = "HOSTILE_CODE_RAN"
Spoil = Callable[[Path], None]
_CASES: dict[str, tuple[Spoil, type[PackageError], str, bool]] = {}


def hostile(error: type[PackageError], words: str, *, digests: bool = True) -> Callable[[Spoil], Spoil]:
    """Register a variant: how it is spoilt, and how it must be refused."""

    def register(spoil: Spoil) -> Spoil:
        assert spoil.__name__ not in _CASES
        _CASES[spoil.__name__] = (spoil, error, words, digests)
        return spoil

    return register


class _Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {MARKER}",))


# --- files that a package must never hold -----------------------------------------------------


@hostile(PackageRefused, "a Python file")
def python_file(root: Path) -> None:
    (root / "model.py").write_text(f"open('{MARKER}', 'w')")


@hostile(PackageRefused, "a program or library")
def shared_library(root: Path) -> None:
    (root / "graphs/custom_ops.so").write_bytes(b"\x7fELF" + bytes(60))


@hostile(PackageRefused, "a program or library")
def versioned_library(root: Path) -> None:
    (root / "graphs/libop.so.1").write_bytes(bytes(60))


@hostile(PackageRefused, "ELF")
def elf_named_data(root: Path) -> None:
    (root / "graphs/fp32.data").write_bytes(b"\x7fELF" + bytes(60))


@hostile(PackageRefused, "PE")
def windows_program_named_data(root: Path) -> None:
    head = b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0"
    (root / "graphs/fp32.data").write_bytes(head)


@hostile(PackageRefused, "pickle")
def pickle_by_name(root: Path) -> None:
    (root / "weights.pkl").write_bytes(pickle.dumps(_Payload()))


@hostile(PackageRefused, "pickle")
def pickle_named_safetensors(root: Path) -> None:
    (root / "weights.safetensors").write_bytes(pickle.dumps(_Payload(), protocol=4))


@hostile(PackageRefused, "pickle")
def old_pickle_named_card(root: Path) -> None:
    (root / "card.md").write_bytes(pickle.dumps(_Payload(), protocol=0))


@hostile(PackageRefused, "pickle")
def pickle_named_evidence(root: Path) -> None:
    (root / "evidence/fp32.json").write_bytes(pickle.dumps(_Payload(), protocol=2))


@hostile(PackageRefused, "pickle")
def pickle_named_graph(root: Path) -> None:
    (root / "graphs/fp32.onnx").write_bytes(pickle.dumps(_Payload(), protocol=5))


@hostile(PackageRefused, "a pickle or a checkpoint")
def torch_checkpoint_by_name(root: Path) -> None:
    (root / "model.pt").write_bytes(b"PK\x03\x04")


@hostile(PackageRefused, "zip archive")
def torch_checkpoint_named_safetensors(root: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(_Payload()))
    (root / "weights.safetensors").write_bytes(stream.getvalue())


@hostile(PackageRefused, "zip archive behind other bytes")
def zip_behind_a_card(root: Path) -> None:
    stream = io.BytesIO((root / "card.md").read_bytes())
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("__main__.py", f"open('{MARKER}', 'w')")
    (root / "card.md").write_bytes(stream.getvalue())


@hostile(PackageRefused, "gzip")
def gzip_named_graph(root: Path) -> None:
    (root / "graphs/fp32.onnx").write_bytes(gzip.compress(bytes(1000)))


@hostile(PackageRefused, "a script")
def script_named_card(root: Path) -> None:
    (root / "card.md").write_text(f"#!/bin/sh\ntouch {MARKER}\n")


@hostile(PackageRefused, "Python source")
def python_named_card(root: Path) -> None:
    (root / "card.md").write_text("# a card\nimport os\n")


@hostile(PackageRefused, "active HTML")
def html_in_card(root: Path) -> None:
    (root / "card.md").write_text("# a card\n<ScRipt>alert(1)</script>\n")


@hostile(PackageRefused, "control characters")
def terminal_codes_in_card(root: Path) -> None:
    (root / "card.md").write_bytes(b"# a card\n\x1b]0;owned\x07\n")


@hostile(PackageRefused, "no place for the folder 'scripts'")
def other_folder(root: Path) -> None:
    (root / "scripts").mkdir()


@hostile(PackageRefused, "'graphs/deep' is not a plain file")
def nested_folder(root: Path) -> None:
    (root / "graphs/deep").mkdir()


@hostile(PackageRefused, "no place for the file '.hidden'")
def hidden_file(root: Path) -> None:
    (root / ".hidden").write_text("x")


@hostile(PackageRefused, "\\x1b[31m")
def terminal_codes_in_a_name(root: Path) -> None:
    (root / "graphs/\x1b[31m\n.onnx").write_bytes(b"x")


@hostile(PackageRefused, "is a link")
def link_to_a_file(root: Path) -> None:
    (root / "card.md").unlink()
    (root / "card.md").symlink_to("/etc/hostname")


@hostile(PackageRefused, "link")
def link_to_a_folder(root: Path) -> None:
    (root / "graphs").rename(root.parent / "elsewhere")
    (root / "graphs").symlink_to(root.parent / "elsewhere")


@hostile(PackageRefused, "not a plain file")
def named_pipe(root: Path) -> None:
    os.mkfifo(root / "graphs/fp16.onnx")


@hostile(PackageRefused, "differ only in case")
def colliding_names(root: Path) -> None:
    (root / "graphs/FP32.onnx").write_bytes(b"x")


@hostile(PackageRefused, "more than 200 files")
def too_many_files(root: Path) -> None:
    for number in range(201):
        (root / f"evidence/{number}.json").write_text("{}")


@hostile(PackageRefused, "more than the 1048576 allowed")
def huge_card(root: Path) -> None:
    with (root / "card.md").open("wb") as file:
        file.truncate(2**20 + 1)


@hostile(PackageRefused, "more than the 2147483647 allowed")
def huge_sparse_graph(root: Path) -> None:
    with (root / "graphs/fp32.onnx").open("wb") as file:
        file.truncate(2**33)


_CASES["huge_sparse_graph"] = (*_CASES["huge_sparse_graph"][:3], False)


# --- digests -----------------------------------------------------------------------------------


@hostile(PackageInvalid, "its sha256 is not the listed one", digests=False)
def one_byte_changed(root: Path) -> None:
    data = bytearray((root / "graphs/fp32.onnx").read_bytes())
    data[-20] ^= 1
    (root / "graphs/fp32.onnx").write_bytes(data)


@hostile(PackageInvalid, "'card.md' is missing", digests=False)
def file_missing(root: Path) -> None:
    (root / "card.md").unlink()


@hostile(PackageInvalid, "'graphs/extra.onnx' is not listed", digests=False)
def file_extra(root: Path) -> None:
    (root / "graphs/extra.onnx").write_bytes(b"x")


@hostile(PackageInvalid, "has no digests.json", digests=False)
def no_digests(root: Path) -> None:
    (root / "digests.json").unlink()


@hostile(PackageInvalid, "not in the canonical form", digests=False)
def digests_with_a_key_twice(root: Path) -> None:
    text = (root / "digests.json").read_text()
    (root / "digests.json").write_text(text.replace('"card.md"', '"card.md": "' + "0" * 64 + '",\n  "card.md"'))


@hostile(PackageRefused, "../outside", digests=False)
def digests_of_a_path_outside(root: Path) -> None:
    table = json.loads((root / "digests.json").read_text())
    table["sha256"]["../outside"] = "0" * 64
    table["sha256"] = dict(sorted(table["sha256"].items()))
    (root / "digests.json").write_text(json.dumps(table, indent=1) + "\n")


@hostile(PackageInvalid, "not a table of sha256", digests=False)
def digests_nested_deeply(root: Path) -> None:
    (root / "digests.json").write_text("[" * 30_000)


# --- the manifest -------------------------------------------------------------------------------


@hostile(PackageInvalid, "has no manifest.toml")
def no_manifest(root: Path) -> None:
    (root / "manifest.toml").unlink()


@hostile(PackageInvalid, "not TOML")
def manifest_not_toml(root: Path) -> None:
    (root / "manifest.toml").write_text("format = = 1")


@hostile(PackageInvalid, "nested too deeply")
def manifest_nested_deeply(root: Path) -> None:
    (root / "manifest.toml").write_text("a = " + "[" * 20_000)


@hostile(PackageRefused, "more than the 262144 allowed")
def manifest_too_large(root: Path) -> None:
    (root / "manifest.toml").write_text("# " + "x" * 300_000)


@hostile(PackageRefused, "the key '_target_' is no plain name")
def hydra_target(root: Path) -> None:
    edit_manifest(root, "[architecture]\n", '[architecture]\n_target_ = "os.system"\n')


@hostile(PackageRefused, "looks like an expression")
def bundle_expression(root: Path) -> None:
    edit_manifest(root, 'title = "', 'title = "$import os')


@hostile(PackageRefused, "looks like an expression")
def call_of_eval(root: Path) -> None:
    edit_manifest(root, 'intended_use = "', "intended_use = \"eval ('1')")


@hostile(PackageRefused, "looks like an expression")
def dunder_in_a_text(root: Path) -> None:
    edit_manifest(root, 'title = "', 'title = "a.__class__.mro')


@hostile(PackageInvalid, "architecture: 'act' is not a number, a plain word")
def code_in_architecture(root: Path) -> None:
    edit_manifest(root, "[architecture]\n", '[architecture]\nact = "lambda x: x"\n')


@hostile(PackageInvalid, "graphs[0].file: '../other.onnx' is not a plain relative path")
def graph_outside(root: Path) -> None:
    edit_manifest(root, "graphs/fp32.onnx", "../other.onnx")


@hostile(PackageInvalid, "graphs[0].file: '/etc/model.onnx' is not a plain relative path")
def graph_at_an_absolute_path(root: Path) -> None:
    edit_manifest(root, "graphs/fp32.onnx", "/etc/model.onnx")


@hostile(PackageInvalid, "graphs folder")
def graph_in_another_folder(root: Path) -> None:
    edit_manifest(root, "graphs/fp32.onnx", "evidence/fp32.onnx")


@hostile(PackageInvalid, "did you mean 'window'?")
def misspelt_key(root: Path) -> None:
    edit_manifest(root, "[input.window]", "[input.windw]")


@hostile(PackageInvalid, "output.segments[0].number")
def number_not_finite(root: Path) -> None:
    edit_manifest(root, "number = 1", "number = nan")


@hostile(PackageInvalid, "not TOML")
def number_with_10000_digits(root: Path) -> None:
    edit_manifest(root, "format = 1", "format = " + "1" * 10_000)


@hostile(PackageInvalid, "uses 'graphs/spare.onnx'")
def graph_that_nothing_names(root: Path) -> None:
    (root / "graphs/spare.onnx").write_bytes((root / "graphs/fp32.onnx").read_bytes())


# --- ONNX graphs --------------------------------------------------------------------------------


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


# --- safetensors --------------------------------------------------------------------------------


def _weights(data: bytes) -> Callable[[Path], None]:
    return lambda root: (root / "weights.safetensors").write_bytes(data) and None


def _entry(dtype: str, shape: list[Any], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@hostile(PackageInvalid, "its header claims")
def header_of_many_gigabytes(root: Path) -> None:
    _weights(struct.pack("<Q", 2**62) + b"{}")(root)


@hostile(PackageInvalid, "its header is not valid")
def header_nested_deeply(root: Path) -> None:
    text = b'{"a":' + b"[" * 100_000
    _weights(struct.pack("<Q", len(text)) + text)(root)


@hostile(PackageInvalid, "a key appears twice")
def tensor_twice(root: Path) -> None:
    text = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    _weights(struct.pack("<Q", len(text)) + text + b"x")(root)


@hostile(PackageInvalid, "overlaps another")
def tensors_overlapping(root: Path) -> None:
    _weights(safetensors_bytes({"a": _entry("U8", [8], 0, 8), "b": _entry("U8", [8], 4, 12)}, bytes(12)))(root)


@hostile(PackageInvalid, "leaves a hole")
def hole_between_tensors(root: Path) -> None:
    _weights(safetensors_bytes({"a": _entry("U8", [4], 0, 4), "b": _entry("U8", [4], 8, 12)}, bytes(12)))(root)


@hostile(PackageInvalid, "its tensors need 80 bytes, it holds 8")
def tensor_past_the_end(root: Path) -> None:
    _weights(safetensors_bytes({"a": _entry("U8", [80], 0, 80)}, bytes(8)))(root)


@hostile(PackageInvalid, "its tensors need 4 bytes, it holds 40")
def bytes_left_over(root: Path) -> None:
    _weights(safetensors_bytes({"a": _entry("U8", [4], 0, 4)}, bytes(40)))(root)


@hostile(PackageInvalid, "does not match its bytes")
def shape_overflow(root: Path) -> None:
    _weights(safetensors_bytes({"a": _entry("F32", [2**63, 2**63], 0, 8)}, bytes(8)))(root)


@hostile(PackageInvalid, "not a whole number from 0")
def negative_shape(root: Path) -> None:
    _weights(safetensors_bytes({"a": _entry("U8", [-2, -4], 0, 8)}, bytes(8)))(root)


@hostile(PackageInvalid, "no dtype of the format")
def object_dtype(root: Path) -> None:
    _weights(safetensors_bytes({"a": _entry("O", [1], 0, 8)}, bytes(8)))(root)


@hostile(PackageInvalid, "'a' holds NaN or infinity")
def weights_with_nan(root: Path) -> None:
    data = np.array([1, np.nan], "<f4").tobytes()
    _weights(safetensors_bytes({"a": _entry("F32", [2], 0, 8)}, data))(root)


@hostile(PackageInvalid, "'a' holds NaN or infinity")
def weights_with_bfloat16_infinity(root: Path) -> None:
    _weights(safetensors_bytes({"a": _entry("BF16", [2], 0, 4)}, b"\x00\x00\x80\x7f"))(root)


@hostile(PackageInvalid, "no [architecture]")
def weights_without_architecture(root: Path) -> None:
    text = (root / "manifest.toml").read_text()
    start = text.index("[architecture]")
    (root / "manifest.toml").write_text(text[:start] + text[text.index("[[", start) :])


# --- evidence and card --------------------------------------------------------------------------


@hostile(PackageInvalid, "made for another graph")
def evidence_of_another_graph(root: Path) -> None:
    (root / "evidence/fp32.json").write_bytes(tiny_evidence({"graphs/fp32.onnx": "0" * 64}))


@hostile(PackageInvalid, "NaN is not a JSON number")
def evidence_with_nan(root: Path) -> None:
    text = (root / "evidence/fp32.json").read_text()
    (root / "evidence/fp32.json").write_text(text.replace('"value": 1.0', '"value": NaN'))


@hostile(PackageInvalid, "outside its interval")
def evidence_outside_its_interval(root: Path) -> None:
    text = (root / "evidence/fp32.json").read_text()
    (root / "evidence/fp32.json").write_text(text.replace('"value": 1.0', '"value": 1.5'))


@hostile(PackageInvalid, "a segment that the manifest lacks")
def evidence_of_an_unknown_segment(root: Path) -> None:
    text = (root / "evidence/fp32.json").read_text()
    (root / "evidence/fp32.json").write_text(text.replace('"segment": 1', '"segment": 7'))


@hostile(PackageRefused, "looks like an expression")
def evidence_with_an_expression(root: Path) -> None:
    text = (root / "evidence/fp32.json").read_text()
    (root / "evidence/fp32.json").write_text(text.replace("none: exact", "$(rm -rf) exact"))


@hostile(PackageInvalid, "not strict JSON")
def evidence_nested_deeply(root: Path) -> None:
    (root / "evidence/fp32.json").write_text("[" * 200_000)


@hostile(PackageInvalid, "has no card.md")
def no_card(root: Path) -> None:
    (root / "card.md").unlink()


# --- the tests ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that passes, so that each variant fails for its own reason only."""
    package = full_package(tmp_path_factory.mktemp("good"))
    assert verify(package.root) == package
    return package.root


@pytest.mark.parametrize("name", sorted(_CASES))
def test_a_hostile_package_is_refused(name: str, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    spoil, error, words, digests = _CASES[name]
    root = tmp_path / "place" / good.name
    shutil.copytree(good, root)
    spoil(root)
    if digests:
        redigest(root)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    before = snapshot(tmp_path)
    with pytest.raises(PackageError) as caught:
        verify(root)
    assert type(caught.value) is error, str(caught.value)
    assert words in str(caught.value)
    line = str(caught.value)
    assert "\n" not in line
    assert "\x1b" not in line
    assert len(line) < 600
    assert caught.value.path is not None
    assert caught.value.path.is_relative_to(root)
    assert snapshot(tmp_path) == before
    assert not (work / MARKER).exists()


def test_there_are_many_hostile_packages() -> None:
    assert len(_CASES) >= 100


def test_the_payload_would_run_if_it_were_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(_Payload()))  # noqa: S301
    assert (tmp_path / MARKER).exists()


def test_honest_data_that_start_like_a_pickle_or_program_pass(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    data = struct.pack("<Q", 640) + header.ljust(640) + np.array([1, 2], "<f4").tobytes()
    assert data[:2] == b"\x80\x02"
    package = full_package(tmp_path)
    (package.root / "weights.safetensors").write_bytes(data)
    redigest(package.root)
    assert verify(package.root).weights_path is not None


def test_good_weights_and_external_data_pass(tmp_path: Path) -> None:
    package = full_package(tmp_path)
    graph = package.root / "graphs/fp32.onnx"
    import hashlib

    def change(model: Any) -> None:
        data = numpy_helper.to_array(model.graph.initializer[0]).tobytes()
        (package.root / "graphs/w.data").write_bytes(bytes(16) + data)
        make_external(model, location="w.data", offset="16", length=str(len(data)))

    edit_graph(package.root, change)
    files = {
        f"graphs/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (graph, package.root / "graphs/w.data")
    }
    (package.root / "evidence/fp32.json").write_bytes(tiny_evidence(files))
    redigest(package.root)
    assert (package.root / "weights.safetensors").read_bytes() == good_weights()
    assert set(verify(package.root).files) > set(files)
