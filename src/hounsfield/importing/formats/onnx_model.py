"""ONNX: the graph itself is kept; data in other files come inside, and everything is checked first.

External data must lie in the model's own folder, as plain files with one link, under plain names.
Custom operators, other domains, subgraphs and functions are refused by the checks of the package
format (:mod:`hounsfield.packages.onnx_file`).
"""

from __future__ import annotations

import math
import os
import re
import stat
from pathlib import Path
from typing import Any

import numpy as np

from hounsfield.errors import PackageError, SourceRefused
from hounsfield.importing.answers import ASKED, Answers
from hounsfield.importing.basics import QUESTIONS, basic_template, manifest_from
from hounsfield.importing.claim import Claim, printable
from hounsfield.importing.draft import Draft, Golden

HEAVY = ("onnx", "onnx.checker", "onnx.numpy_helper", "hounsfield.importing.onnx_ends")

_MOST_BYTES = 2**31 - 2**20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_OTHER_DOMAINS = ("ai.onnx.ml", "pkg.onnxscript.torch_lib", "pkg.onnxscript.torch_lib.common")
_QUESTIONS = {
    **QUESTIONS,
    "source.output": "The graph has several outputs; name the one that is the segmentation.",
    "input.spacing_mm": "Voxel spacing of the training images (k, j, i) in mm.",
    "input.intensity": 'Steps such as { step = "z-score" }, in order, or [] (docs/reference/model-package.md).',
    "input.window": "Window shape (k, j, i) in voxels, and further window keys.",
    "output.activation": "softmax (background is channel 0), sigmoid (no background), or none (probabilities).",
}


def claims(source: Path) -> Claim | None:
    """A claim on an ``.onnx`` file, or on a folder with exactly one."""
    path = _graph(source)
    if path is None:
        return None
    model = _read(path)
    inputs, outputs = _ends(model)
    channels, window = _input_shape(inputs[0], path)
    found = [("input", _shown(inputs[0])), *(("output", _shown(value)) for value in outputs)]
    found += [("nodes", str(len(model.graph.node))), ("operator set", str(model.opset_import[0].version))]
    template = basic_template(
        [ASKED] * channels,
        [ASKED],
        input_table={
            "spacing_mm": [ASKED],
            "intensity": [ASKED],
            "window": {"shape": list(window) if window else [ASKED], "overlap": 0.5},
        },
    )
    template["output"] = {"activation": ASKED, **template["output"]}
    if len(outputs) > 1:
        template["source"] = {"output": ASKED}
    return Claim("onnx", "an ONNX graph", tuple(found), template, _QUESTIONS)


def convert(source: Path, answers: Answers, folder: Path) -> Draft:
    """The graph with its data inside, one output, and a golden case by ONNX Runtime on the source's graph."""
    from hounsfield.importing.onnx_ends import answer_of

    path = _graph(source)
    if path is None:
        raise SourceRefused("there is no single .onnx file", "give the file itself", source)
    model = _read(path)
    inputs, outputs = _ends(model)
    output = _chosen(outputs, answers.get("source.output"))
    original = model.SerializeToString()
    del model.graph.output[:]
    model.graph.output.append(output)
    (folder / "fp32.onnx").write_bytes(model.SerializeToString())
    channels, _ = _input_shape(inputs[0], path)
    window = _window(answers.at("input.window"))
    image = np.random.default_rng(0).standard_normal((1, channels, *window)).astype(np.float32)
    answer, version = answer_of(original, inputs[0].name, output.name, image)
    np.save(folder / "golden-image.npy", image, allow_pickle=False)
    np.save(folder / "golden-answer.npy", answer, allow_pickle=False)
    input_table = {key: value for key, value in answers.at("input").items() if key not in ("channels", "orientation")}
    graph = {"precision": "fp32", "file": "graphs/fp32.onnx", "input": inputs[0].name, "output": output.name}
    activation = {"activation": answers.at("output.activation")}
    if threshold := answers.get("output.threshold"):
        activation["threshold"] = threshold
    manifest = manifest_from(answers, input_table=input_table, output_table=activation, graphs=[graph])
    golden = Golden("golden-image.npy", "golden-answer.npy", f"onnxruntime {version} on the source's graph")
    facts = (f"The source's own graph of {len(model.graph.node)} nodes; external data were brought inside.",)
    return Draft(manifest, {"graphs/fp32.onnx": "fp32.onnx"}, facts, (), (golden,))


def _graph(source: Path) -> Path | None:
    if source.is_dir():
        found = sorted(source.glob("*.onnx"))
        if len(found) == 1 and not (source / "manifest.toml").exists():
            return _plain(found[0])
        return None
    return _plain(source) if source.suffix.lower() == ".onnx" else None


def _plain(path: Path) -> Path:
    if path.is_symlink() or not path.is_file():
        raise SourceRefused("the graph is a link or no plain file", "give the file itself", path)
    return path


def _read(path: Path) -> Any:
    """The checked model with all data inside.

    Raises
    ------
    SourceRefused
        With the first thing that a package may not hold.
    """
    from hounsfield.packages.onnx_file import read_graph

    try:
        return read_graph(path.parent, path.name, lambda model: _bring_inside(model, path))
    except PackageError as error:
        raise SourceRefused(error.fact, error.remedy, path) from error.__cause__


def _bring_inside(model: Any, path: Path) -> None:
    """Data of other files into the model; imports of domains that no node uses are dropped."""
    used = {node.domain for node in model.graph.node}
    kept = [item for item in model.opset_import if item.domain in used or item.domain not in _OTHER_DOMAINS]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    total = path.stat().st_size
    for tensor in model.graph.initializer:
        if tensor.data_location != 1 and not tensor.external_data:
            continue
        data = _external(tensor, path.parent)
        total += len(data)
        if total > _MOST_BYTES:
            raise SourceRefused("with its external data it is larger than 2 GiB", "export a smaller model", path)
        del tensor.external_data[:]
        tensor.data_location = 0
        tensor.raw_data = data


def _external(tensor: Any, folder: Path) -> bytes:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    numbers = [entries.get("offset", "0") or "0", entries.get("length", "")]
    if not _NAME.fullmatch(location) or ".." in location:
        raise SourceRefused(
            f"external data point to {printable(location, 80)!r}, outside the model's folder", "export it again"
        )
    if len(entries) != len(tensor.external_data) or not all(re.fullmatch(r"[0-9]{1,12}", text) for text in numbers):
        raise SourceRefused("external data have no plain offset and length", "export it again")
    offset, length = map(int, numbers)
    try:
        descriptor = os.open(folder / location, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        fact = f"the external data {location!r} cannot be opened ({error.strerror})"
        raise SourceRefused(fact, "put the plain file beside the graph") from None
    with os.fdopen(descriptor, "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode) or state.st_nlink != 1:
            raise SourceRefused(f"the external data {location!r} are no plain file of their own", "copy the file")
        if offset + length > state.st_size or length > _MOST_BYTES:
            raise SourceRefused(f"the external data {location!r} end before their tensor does", "fetch it again")
        file.seek(offset)
        return file.read(length)


def _ends(model: Any) -> tuple[list[Any], list[Any]]:
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in held]
    if len(inputs) != 1 or not model.graph.output:
        names = ", ".join(printable(value.name, 40) for value in inputs[:4]) or "none"
        raise SourceRefused(f"it has not one input but {names}", "export a graph with the image as its only input")
    return inputs, list(model.graph.output)


def _sizes(value: Any) -> list[int | None]:
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.WhichOneof("value") == "dim_value" else None for dim in dims]


def _shown(value: Any) -> str:
    sizes = " x ".join("free" if size is None else str(size) for size in _sizes(value))
    return f"{printable(value.name, 60)}: {sizes}"


def _input_shape(value: Any, path: Path) -> tuple[int, tuple[int, int, int] | None]:
    """Image channels, and the window where the graph fixes it."""
    sizes = _sizes(value)
    if value.type.tensor_type.elem_type != 1 or len(sizes) != 5:
        raise SourceRefused(
            f"its input {_shown(value)} is not float32 with 5 axes",
            "export it as (batch, channels, slices, rows, columns) in float32",
            path,
        )
    channels = sizes[1]
    if channels is None or not 1 <= channels <= 16:
        raise SourceRefused(f"its input has {channels} channels", "export it with 1 to 16 channels, fixed", path)
    k, j, i = sizes[2:]
    if k is None or j is None or i is None:
        return channels, None
    if math.prod((k, j, i)) > 2**30 or min(k, j, i) < 1:
        raise SourceRefused(f"its window of {k} x {j} x {i} is beyond any scan", "export it with a sane window", path)
    return channels, (k, j, i)


def _chosen(outputs: list[Any], name: str | None) -> Any:
    for value in outputs:
        if len(outputs) == 1 or value.name == name:
            return value
    names = ", ".join(printable(value.name, 40) for value in outputs)
    raise SourceRefused(f"source.output names no output: {printable(str(name), 60)!r}", f"use one of: {names}")


def _window(table: Any) -> tuple[int, int, int]:
    shape = table.get("shape") if isinstance(table, dict) else None
    if not isinstance(shape, list) or len(shape) != 3 or any(type(n) is not int or not 1 <= n <= 1024 for n in shape):
        raise SourceRefused("input.window.shape is not three voxel numbers", "give the window as [k, j, i]")
    return shape[0], shape[1], shape[2]
