"""A package whose int8 is known to fail: one channel is a thousand times the other, and both share one range."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from evaluation_scenes import make_dataset
from onnx import TensorProto, helper, numpy_helper

from hounsfield.packages import ModelPackage, build
from hounsfield.testing.packages import TinyModel, tiny_files, tiny_manifest

LESION = {
    "number": 1,
    "label": "Nodule",
    "category": {"value": "49755003", "scheme": "SCT", "meaning": "Morphologically Abnormal Structure"},
    "type": {"value": "27925004", "scheme": "SCT", "meaning": "Nodule"},
    "lesion": True,
}
TINY = TinyModel(quantity="arbitrary", window=(24, 32, 28), output={"segments": [LESION]})
RULE = """
format = 1
resamples = 1000
minimum_patients = 5
[[criteria]]
metric = "dice"
margin = 0.01
[[criteria]]
metric = "lesion-sensitivity"
margin = 0.5
"""
WIDE, PLAIN = 1000.0, 1.0


def network(other: float, level: float = 100.0) -> bytes:
    """x → (x, other * x) → blur-free 3x3x3 copy → which level is nearer; nodes are called spread, copy and decide.

    With ``other`` at 1000 the copy's and the decision's inputs have a range in which x is nothing.
    """
    spread = np.zeros((8, 1, 1, 1, 1), np.float32)
    spread[0], spread[1] = 1.0, other
    copy = np.zeros((8, 8, 3, 3, 3), np.float32)
    for channel in range(8):
        copy[channel, channel, 1, 1, 1] = 1.0
    decide = np.zeros((2, 8, 1, 1, 1), np.float32)
    decide[1, 0] = 2 * level
    tensors = {"w0": spread, "w1": copy, "w2": decide, "b2": np.array([0, -(level**2)], np.float32)}
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["a"], name="spread", kernel_shape=[1, 1, 1]),
        helper.make_node("Conv", ["a", "w1"], ["b"], name="copy", kernel_shape=[3, 3, 3], pads=[1] * 6),
        helper.make_node("Conv", ["b", "w2", "b2"], ["logits"], name="decide", kernel_shape=[1, 1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "wide",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, "k", "j", "i"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2, "k", "j", "i"])],
        [numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def fp32_package(folder: Path, other: float) -> ModelPackage:
    """The package with an fp32 graph only."""
    files = {**tiny_files(TINY), "graphs/fp32.onnx": network(other)}
    return build(folder, tiny_manifest(TINY), files)


def split_table(folder: Path, cases: int = 9, calibration: int = 3) -> Path:
    """Cases of which the first are for validation and the others for the test."""
    table = make_dataset(folder, cases)
    with table.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for number, row in enumerate(rows):
        row["split"] = "validation" if number < calibration else "test"
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return table
