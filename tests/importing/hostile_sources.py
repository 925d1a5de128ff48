"""Hostile and broken sources of every format but the PyTorch and nnU-Net ones: one table.

Each case builds a source in an empty folder and says what its refusal must name. Payloads would, if
anything ran them, touch the canary file and connect to the canary socket.
"""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from monai_configs import bundle_config, bundle_metadata
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class Canary:
    """What a payload would leave: a file, and a connection to a local port."""

    file: Path
    port: int

    @property
    def code(self) -> str:
        """Python that leaves both traces."""
        connect = f"import socket;socket.create_connection(('127.0.0.1',{self.port}),1).close()"
        return f"open({str(self.file)!r},'w').close();exec({connect!r})"

    def pickle(self) -> bytes:
        """A pickle that runs :attr:`code` when it is loaded."""

        class Payload:
            def __reduce__(self_inner) -> Any:
                return exec, (self.code,)

        return pickle.dumps(Payload(), protocol=2)


Build = Callable[[Path, Canary], Path]
CASES: dict[str, tuple[Build, str, dict[str, Any] | None]] = {}


def case(match: str, told: dict[str, Any] | None = None) -> Callable[[Build], Build]:
    """Add a builder to the table under its own name.

    ``match`` is a regular expression for the refusal; ``told`` are full answers, for what shows only on conversion.
    """

    def add(build: Build) -> Build:
        CASES[build.__name__.replace("_", "-")] = (build, match, told)
        return build

    return add


# --- ONNX -----------------------------------------------------------------------------------------


def graph(weight: np.ndarray | None = None, extra: Callable[[Any], None] | None = None) -> onnx.ModelProto:
    """A 1x1x1 convolution from one channel to two classes, changed by ``extra``."""
    values = np.ones((2, 1, 1, 1, 1), np.float32) if weight is None else weight
    body = helper.make_graph(
        [helper.make_node("Conv", ["image", "weight"], ["logits"], kernel_shape=[1, 1, 1])],
        "one",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, "k", "j", "i"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2, "k", "j", "i"])],
        [numpy_helper.from_array(values, "weight")],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if extra is not None:
        extra(model)
    return model


def external(location: str, length: int = 8, offset: int = 0) -> Callable[[Any], None]:
    """Move the weight's data to another file."""

    def change(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value

    return change


def save(folder: Path, model: onnx.ModelProto) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@case("external data point to '/etc/hostname'")
def onnx_absolute_external_data(folder: Path, canary: Canary) -> Path:
    return save(folder, graph(extra=external("/etc/hostname")))


@case(r"external data point to '\.\./secret\.bin'")
def onnx_external_data_above_the_folder(folder: Path, canary: Canary) -> Path:
    (folder / "secret.bin").write_bytes(bytes(64))
    save(folder / "model", graph(extra=external("../secret.bin")))
    return folder / "model"


@case("link")
def onnx_external_data_is_a_symlink(folder: Path, canary: Canary) -> Path:
    path = save(folder / "model", graph(extra=external("weights.bin")))
    (path.parent / "weights.bin").symlink_to("/etc/hostname")
    return path.parent


@case("no plain file of their own")
def onnx_external_data_is_a_hard_link(folder: Path, canary: Canary) -> Path:
    path = save(folder / "model", graph(extra=external("weights.bin")))
    (folder / "elsewhere").write_bytes(bytes(64))
    os.link(folder / "elsewhere", path.parent / "weights.bin")
    return path.parent


@case("no plain file")
def onnx_external_data_is_a_pipe(folder: Path, canary: Canary) -> Path:
    path = save(folder / "model", graph(extra=external("weights.bin")))
    os.mkfifo(path.parent / "weights.bin")
    return path.parent


@case("end before their tensor does")
def onnx_external_data_pass_the_end(folder: Path, canary: Canary) -> Path:
    path = save(folder / "model", graph(extra=external("weights.bin", length=8, offset=60)))
    (path.parent / "weights.bin").write_bytes(bytes(64))
    return path.parent


@case("cannot be opened")
def onnx_external_data_are_missing(folder: Path, canary: Canary) -> Path:
    return save(folder / "model", graph(extra=external("weights.bin"))).parent


@case(r"operator domain 'com\.evil'|custom operator")
def onnx_custom_operator(folder: Path, canary: Canary) -> Path:
    def change(model: Any) -> None:
        model.graph.node[0].domain = "com.evil"
        model.opset_import.append(helper.make_opsetid("com.evil", 1))

    return save(folder, graph(extra=change))


@case("subgraph")
def onnx_loop(folder: Path, canary: Canary) -> Path:
    def change(model: Any) -> None:
        node = helper.make_node("Loop", ["", "", "image"], ["looped"], body=graph().graph)
        model.graph.node.insert(0, node)

    return save(folder, graph(extra=change))


@case("function")
def onnx_function_of_its_own(folder: Path, canary: Canary) -> Path:
    def change(model: Any) -> None:
        made = helper.make_function("", "Conv2", ["x"], ["y"], [helper.make_node("Abs", ["x"], ["y"])], [])
        model.functions.append(made)

    return save(folder, graph(extra=change))


@case("NaN or infinity")
def onnx_nan_weights(folder: Path, canary: Canary) -> Path:
    return save(folder, graph(np.full((2, 1, 1, 1, 1), np.nan, np.float32)))


@case("impossible dims|do not match its dims")
def onnx_huge_dims(folder: Path, canary: Canary) -> Path:
    def change(model: Any) -> None:
        tensor = model.graph.initializer[0]
        del tensor.dims[:]
        tensor.dims.extend([2**31, 2**31])

    return save(folder, graph(extra=change))


@case("huge array")
def onnx_that_grows_without_end(folder: Path, canary: Canary) -> Path:
    def change(model: Any) -> None:
        shape = numpy_helper.from_array(np.array([2**20, 2**20, 2**20], np.int64), "shape")
        model.graph.initializer.append(shape)
        model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["shape"], ["huge"]))

    return save(folder, graph(extra=change))


@case("more than|holds too many|fields")
def onnx_of_a_million_empty_nodes(folder: Path, canary: Canary) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "model.onnx"
    inner = b"\x0a\x00" * 1_000_000
    varint, size = bytearray(), len(inner)
    while size >= 0x80:
        varint.append(size & 0x7F | 0x80)
        size >>= 7
    varint.append(size)
    path.write_bytes(b"\x08\x08\x3a" + bytes(varint) + inner)
    return path


@case("not an ONNX model")
def onnx_cut_off(folder: Path, canary: Canary) -> Path:
    path = save(folder, graph())
    path.write_bytes(path.read_bytes()[:40])
    return path


@case("not one input")
def onnx_with_two_inputs(folder: Path, canary: Canary) -> Path:
    def change(model: Any) -> None:
        model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))

    return save(folder, graph(extra=change))


@case("has 300 channels")
def onnx_with_a_wrong_channel_count(folder: Path, canary: Canary) -> Path:
    def change(model: Any) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 300

    return save(folder, graph(extra=change))


@case("link")
def onnx_symlink(folder: Path, canary: Canary) -> Path:
    save(folder / "real", graph())
    (folder / "model.onnx").symlink_to(folder / "real" / "model.onnx")
    return folder / "model.onnx"


# --- TensorFlow.js --------------------------------------------------------------------------------


def tfjs(folder: Path, change: Callable[[dict[str, Any]], None] | None = None, data: bytes | None = None) -> Path:
    """A MeshNet of one hidden layer of 4 filters and 2 classes, its description changed."""
    target = folder / "meshnet"
    target.mkdir()

    def layer(kind: str, name: str, before: str | None, **config: Any) -> dict[str, Any]:
        inbound = [] if before is None else [[[before, 0, 0, {}]]]
        return {"class_name": kind, "config": {"name": name, **config}, "name": name, "inbound_nodes": inbound}

    same = {"strides": [1] * 3, "padding": "same", "data_format": "channels_last", "activation": "linear"}
    same |= {"use_bias": True, "dilation_rate": [1] * 3}
    layers = [
        layer("InputLayer", "input", None, batch_input_shape=[None, 16, 16, 16, 1]),
        layer("Conv3D", "first", "input", filters=4, kernel_size=[3] * 3, **same),
        layer("Activation", "elu", "first", activation="elu"),
        layer("Conv3D", "output", "elu", filters=2, kernel_size=[1] * 3, **same),
    ]
    shapes = {"first/kernel": [3, 3, 3, 1, 4], "first/bias": [4], "output/kernel": [1, 1, 1, 4, 2], "output/bias": [2]}
    weights = [{"name": name, "shape": shape, "dtype": "float32"} for name, shape in shapes.items()]
    table = {
        "format": "layers-model",
        "modelTopology": {"model_config": {"config": {"layers": layers}}},
        "weightsManifest": [{"paths": ["model.bin"], "weights": weights}],
    }
    if change is not None:
        change(table)
    (target / "model.json").write_text(json.dumps(table))
    count = sum(int(np.prod(shape)) for shape in shapes.values())
    (target / "model.bin").write_bytes(np.full(count, 0.1, "<f4").tobytes() if data is None else data)
    return target


def layers_of(table: dict[str, Any]) -> Any:
    return table["modelTopology"]["model_config"]["config"]["layers"]


@case("is a Lambda")
def tfjs_lambda_layer(folder: Path, canary: Canary) -> Path:
    def change(table: dict[str, Any]) -> None:
        layers_of(table)[2] = {"class_name": "Lambda", "config": {"name": "elu", "function": canary.code}}

    return tfjs(folder, change)


@case("sane size")
def tfjs_huge_filters(folder: Path, canary: Canary) -> Path:
    def change(table: dict[str, Any]) -> None:
        layers_of(table)[1]["config"]["filters"] = 2**40

    return tfjs(folder, change)


@case("not in the one file model.bin")
def tfjs_weights_of_another_folder(folder: Path, canary: Canary) -> Path:
    def change(table: dict[str, Any]) -> None:
        table["weightsManifest"][0]["paths"] = ["../../etc/passwd"]

    return tfjs(folder, change)


@case("weights end before")
def tfjs_weights_cut_off(folder: Path, canary: Canary) -> Path:
    return tfjs(folder, data=bytes(100))


@case("NaN or infinity")
def tfjs_nan_weights(folder: Path, canary: Canary) -> Path:
    return tfjs(folder, data=np.full(122, np.nan, "<f4").tobytes())


@case("not plain float32")
def tfjs_quantised(folder: Path, canary: Canary) -> Path:
    def change(table: dict[str, Any]) -> None:
        table["weightsManifest"][0]["weights"][0]["quantization"] = {"dtype": "uint8", "scale": 1.0}

    return tfjs(folder, change)


@case("does not follow the one before it")
def tfjs_layers_in_a_ring(folder: Path, canary: Canary) -> Path:
    def change(table: dict[str, Any]) -> None:
        layers_of(table)[1]["inbound_nodes"] = [[["output", 0, 0, {}]]]

    return tfjs(folder, change)


@case("without holes")
def tfjs_label_map_with_holes(folder: Path, canary: Canary) -> Path:
    target = tfjs(folder)
    (target / "colormap.json").write_text(json.dumps({"labels": ["background", ""]}))
    return target


@case("strict JSON|nested too deeply")
def tfjs_nested_without_end(folder: Path, canary: Canary) -> Path:
    target = tfjs(folder)
    (target / "model.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    return target


@case("named twice")
def tfjs_key_given_twice(folder: Path, canary: Canary) -> Path:
    target = tfjs(folder)
    (target / "model.json").write_text('{"format": "layers-model", "format": "x", "modelTopology": {}}')
    return target


# --- MONAI bundles --------------------------------------------------------------------------------


def bundle(folder: Path, change: Callable[[dict[str, Any]], None] | None = None, weights: bytes = b"") -> Path:
    """A small bundle, its inference configuration changed."""
    target = folder / "bundle"
    (target / "configs").mkdir(parents=True)
    (target / "models").mkdir()
    table = bundle_config()
    if change is not None:
        change(table)
    (target / "configs" / "inference.json").write_text(json.dumps(table))
    (target / "configs" / "metadata.json").write_text(json.dumps(bundle_metadata()))
    (target / "models" / "model.pt").write_bytes(weights)
    return target


def torch_zip(data: bytes) -> bytes:
    """The zip layout of torch.save around a pickle."""
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("model/data.pkl", data)
        archive.writestr("model/version", "3\n")
    return buffer.getvalue()


@case(r"network_def\.out_channels holds the expression")
def monai_expression_in_the_network(folder: Path, canary: Canary) -> Path:
    def change(table: dict[str, Any]) -> None:
        table["network_def"]["out_channels"] = f"$exec({canary.code!r})"

    return bundle(folder, change)


@case(r"network_def\._target_ is 'subprocess\.Popen'")
def monai_network_is_a_program(folder: Path, canary: Canary) -> Path:
    def change(table: dict[str, Any]) -> None:
        table["network_def"] = {"_target_": "subprocess.Popen", "args": ["touch", str(canary.file)]}

    return bundle(folder, change)


@case(r"handlers\[0\]\._target_ is 'os\.system'")
def monai_handler_is_a_program(folder: Path, canary: Canary) -> Path:
    def change(table: dict[str, Any]) -> None:
        table["handlers"] = [{"_target_": "os.system", "command": f"touch {canary.file}"}]

    return bundle(folder, change)


@case(r"imports\[0\] holds the expression")
def monai_import_that_runs(folder: Path, canary: Canary) -> Path:
    def change(table: dict[str, Any]) -> None:
        table["imports"] = [f"$exec({canary.code!r})"]

    return bundle(folder, change)


@case("initialize.* holds the expression")
def monai_initialize_that_runs(folder: Path, canary: Canary) -> Path:
    def change(table: dict[str, Any]) -> None:
        table["initialize"] = ["$__import__('os').system('id')"]

    return bundle(folder, change)


@case("surprise holds the expression")
def monai_expression_under_an_unknown_key(folder: Path, canary: Canary) -> Path:
    def change(table: dict[str, Any]) -> None:
        table["surprise"] = "$1 + 1"

    return bundle(folder, change)


@case(r"preprocessing\.transforms\[0\]\._target_ is 'Lambdad'")
def monai_transform_off_the_list(folder: Path, canary: Canary) -> Path:
    def change(table: dict[str, Any]) -> None:
        table["preprocessing"]["transforms"].insert(0, {"_target_": "Lambdad", "keys": "image"})

    return bundle(folder, change)


@case("holds the expression '%")
def monai_macro_that_reads_a_file(folder: Path, canary: Canary) -> Path:
    def change(table: dict[str, Any]) -> None:
        table["inferer"]["roi_size"] = "%/etc/passwd"

    return bundle(folder, change)


@case("_requires_ changes how the configuration is read")
def monai_component_with_requirements(folder: Path, canary: Canary) -> Path:
    def change(table: dict[str, Any]) -> None:
        table["network_def"]["_requires_"] = "@imports"

    return bundle(folder, change)


@case("brings a program: 'scripts/__init__.py'")
def monai_bundle_with_scripts(folder: Path, canary: Canary) -> Path:
    target = bundle(folder)
    (target / "scripts").mkdir()
    (target / "scripts" / "__init__.py").write_text(canary.code)
    return target


@case("link")
def monai_config_is_a_symlink(folder: Path, canary: Canary) -> Path:
    target = bundle(folder)
    (target / "configs" / "train.json").symlink_to("/etc/passwd")
    return target


@case("out_channels is not a whole number")
def monai_huge_network(folder: Path, canary: Canary) -> Path:
    def change(table: dict[str, Any]) -> None:
        table["network_def"]["out_channels"] = 10**12

    return bundle(folder, change)


@case("without holes")
def monai_label_map_with_holes(folder: Path, canary: Canary) -> Path:
    target = bundle(folder)
    stated = bundle_metadata()
    stated["network_data_format"]["outputs"]["pred"]["channel_def"] = {"0": "background", "2": "x"}
    (target / "configs" / "metadata.json").write_text(json.dumps(stated))
    return target


@case("states 4 image channels, the network takes 1")
def monai_wrong_channel_count(folder: Path, canary: Canary) -> Path:
    target = bundle(folder)
    stated = bundle_metadata()
    stated["network_data_format"]["inputs"]["image"]["num_channels"] = 4
    (target / "configs" / "metadata.json").write_text(json.dumps(stated))
    return target


@case("exec|pickle")
def monai_weights_are_a_reduce_trick(folder: Path, canary: Canary) -> Path:
    return bundle(folder, weights=torch_zip(canary.pickle()))


# --- programs and archives ------------------------------------------------------------------------


@case("a Python pickle, which can run any code")
def plain_pickle(folder: Path, canary: Canary) -> Path:
    path = folder / "model.pkl"
    path.write_bytes(canary.pickle())
    return path


@case("an archive, which is not unpacked here")
def zip_that_slips_out(folder: Path, canary: Canary) -> Path:
    path = folder / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"../../../..{canary.file}", "x")
        archive.writestr("model.pkl", canary.pickle())
    return path


@case("a TorchScript program, which is code")
def torchscript(folder: Path, canary: Canary) -> Path:
    path = folder / "model.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("model/data.pkl", canary.pickle())
        archive.writestr("model/code/__torch__.py", canary.code)
        archive.writestr("model/constants.pkl", canary.pickle())
    return path


@case("an exported PyTorch program")
def exported_program(folder: Path, canary: Canary) -> Path:
    path = folder / "model.pt2"
    path.write_bytes(torch_zip(canary.pickle()))
    return path


@case("a Keras model, which may hold Python code")
def keras_model(folder: Path, canary: Canary) -> Path:
    path = folder / "model.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + canary.code.encode())
    return path


@case("exec|pickle|global")
def hippodeep_with_a_reduce_trick(folder: Path, canary: Canary) -> Path:
    for name in ("hippodeep.pt", "params_head_00075_00000.pt", "paramsaffineta_00079_00000.pt"):
        (folder / name).write_bytes(torch_zip(canary.pickle()))
    return folder


@case("exec|pickle|global")
def meshnet_with_a_reduce_trick(folder: Path, canary: Canary) -> Path:
    layer = {"kernel_size": 3, "padding": 1, "stride": 1, "dilation": 1}
    table = {"bnorm": True, "gelu": True, "dropout_p": 0, "layers": [layer, {**layer, "kernel_size": 1}]}
    (folder / "model.json").write_text(json.dumps(table))
    (folder / "model.pth").write_bytes(torch_zip(canary.pickle()))
    return folder


@case("strict JSON")
def lwnet_with_a_program_as_config(folder: Path, canary: Canary) -> Path:
    (folder / "config.cfg").write_text(canary.code)
    (folder / "model_checkpoint.pth").write_bytes(torch_zip(struct.pack("<I", 0)))
    return folder


@case(r"preprocessing\.transforms\[2\] takes its statistics from all image channels together")
def monai_statistics_over_several_channels(folder: Path, canary: Canary) -> Path:
    def change(table: dict[str, Any]) -> None:
        table["network_def"]["in_channels"] = 4

    return bundle(folder, change)
