"""Make packages to spoil: a complete small one, and ways to write it again after a change."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hounsfield.packages import ModelPackage, build
from hounsfield.packages.digests import encode
from hounsfield.testing.packages import TinyModel, tiny_evidence, tiny_files, tiny_graph, tiny_manifest

ARCHITECTURE = {"name": "plain-unet", "channels_in": 1, "channels_out": 2, "filters": [4, 8]}
EVIDENCE = [{"precision": "fp32", "file": "evidence/fp32.json"}]


def safetensors_bytes(table: dict[str, Any], data: bytes) -> bytes:
    """A safetensors file with any header."""
    header = json.dumps(table).encode()
    return struct.pack("<Q", len(header)) + header + data


def good_weights() -> bytes:
    table = {
        "a.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b.bias": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
    }
    return safetensors_bytes(table, np.arange(6, dtype="<f4").tobytes() + bytes(8))


def full_package(folder: Path) -> ModelPackage:
    """A package with everything that one may hold but a signature and external data."""
    model = TinyModel(manifest={"architecture": ARCHITECTURE, "evidence": EVIDENCE})
    sha = hashlib.sha256(tiny_graph(model)).hexdigest()
    files = {
        **tiny_files(model),
        "weights.safetensors": good_weights(),
        "evidence/fp32.json": tiny_evidence({"graphs/fp32.onnx": sha}),
    }
    return build(folder, tiny_manifest(model), files)


def redigest(root: Path) -> None:
    """Write digests.json anew, as the author of a hostile package would."""
    table = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if stat.S_ISREG(path.lstat().st_mode) and name not in ("digests.json", "signature.ed25519"):
            table[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (root / "digests.json").write_bytes(encode(table))


def edit_manifest(root: Path, old: str, new: str) -> None:
    text = (root / "manifest.toml").read_text()
    assert old in text
    (root / "manifest.toml").write_text(text.replace(old, new, 1))


def edit_graph(root: Path, change: Callable[[Any], None]) -> None:
    """Change the ONNX model, and bind the evidence to it again so that only the change is wrong."""
    model = onnx.load(root / "graphs/fp32.onnx", load_external_data=False)
    change(model)
    write_graph(root, model.SerializeToString())


def write_graph(root: Path, data: bytes) -> None:
    (root / "graphs/fp32.onnx").write_bytes(data)
    files = {"graphs/fp32.onnx": hashlib.sha256(data).hexdigest()}
    (root / "evidence/fp32.json").write_bytes(tiny_evidence(files))


def put_node_first(model: Any, operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
    model.graph.node.insert(0, helper.make_node(operator, inputs, outputs, **attributes))


def add_constant(model: Any, name: str, values: list[int]) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.int64), name))


def make_external(model: Any, **entries: str) -> None:
    """Turn the weight into external data with these keys."""
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        entry = weight.external_data.add()
        entry.key, entry.value = key, value


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every entry below a folder with mode, size and time of change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        found[os.fspath(path)] = (state.st_mode, state.st_size, state.st_mtime_ns)
    return found
