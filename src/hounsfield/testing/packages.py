"""A tiny model package whose truth is known exactly: each voxel goes to the nearest level.

The network is one 1x1x1 convolution. With levels m0, m1 ... the logit of class c at value x is
``steepness * (2 m_c x - m_c**2)``, which is largest for the level nearest to x (drop x**2 from
-(x - m_c)**2). So labels are known without any engine: :func:`nearest_level`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.packages import Evidence, Manifest, ModelPackage, Precision, build, evidence_json
from hounsfield.packages.manifest import FORMAT_VERSION

_SCT = {"scheme": "SCT"}
CARD = """# tiny-levels

A package for tests: each voxel goes to the nearest of a few grey levels. No data, no training.
"""


@dataclass(frozen=True)
class TinyModel:
    """What the tiny package should be.

    Parameters
    ----------
    levels
        Level of the background, then of segment 1, 2 ... in the units that the network sees
        (after the ``intensity`` steps).
    modality, quantity
        Of its one channel.
    orientation, spacing_mm
        The grid that the network wants; None takes the scan's own spacing. Order (k, j, i).
    window
        Window shape (k, j, i) in voxels.
    overlap
        Of neighbouring windows, 0 to below 1.
    intensity
        ``[[input.intensity]]`` tables.
    steepness
        Factor on the logits.
    precisions
        One graph each; fp16 casts inside, input and output stay 32-bit float.
    domain, output, manifest
        Keys to add to or replace in these tables (``manifest``: the top one).
    """

    levels: Sequence[float] = (0.0, 100.0)
    modality: str = "CT"
    quantity: str = "HU"
    orientation: str = "LPS"
    spacing_mm: tuple[float, float, float] | None = None
    window: tuple[int, int, int] = (16, 16, 16)
    overlap: float = 0.5
    intensity: Sequence[Mapping[str, Any]] = ()
    steepness: float = 1.0
    precisions: Sequence[Precision] = ("fp32",)
    domain: Mapping[str, Any] = field(default_factory=dict)
    output: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)


def tiny_package(folder: Path, model: TinyModel | None = None) -> ModelPackage:
    """Build and verify the package in ``folder``; see :class:`TinyModel`."""
    return build(folder, tiny_manifest(model), tiny_files(model))


def tiny_manifest(model: TinyModel | None = None) -> Manifest:
    """The manifest of :func:`tiny_package`."""
    tiny = TinyModel() if model is None else model
    table: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "id": "tiny-levels",
        "version": "1.0.0",
        "title": "Nearest grey level",
        "task": "segmentation",
        "intended_use": "Tests only.",
        "licence": {"weights": "CC0-1.0", "data": "none"},
        "input": {
            "channels": [{"name": "image", "modality": tiny.modality, "quantity": tiny.quantity}],
            "orientation": tiny.orientation,
            "spacing_mm": tiny.spacing_mm,
            "intensity": [dict(step) for step in tiny.intensity],
            "window": {"shape": tiny.window, "overlap": tiny.overlap},
        },
        "domain": {"modality": {"allowed": [tiny.modality], "breach": "refuse"}, **tiny.domain},
        "output": {"segments": [_segment(number) for number in range(1, len(tiny.levels))], **tiny.output},
        "graphs": [
            {"precision": name, "file": f"graphs/{name}.onnx", "input": "image", "output": "logits"}
            for name in tiny.precisions
        ],
    }
    return Manifest.model_validate({**table, **tiny.manifest})


def tiny_files(model: TinyModel | None = None) -> dict[str, Path | bytes]:
    """The files of :func:`tiny_package`, without the manifest."""
    tiny = TinyModel() if model is None else model
    graphs: dict[str, Path | bytes] = {f"graphs/{name}.onnx": tiny_graph(tiny, name) for name in tiny.precisions}
    return {"card.md": CARD.encode("utf-8"), **graphs}


def tiny_graph(model: TinyModel | None = None, precision: Precision = "fp32") -> bytes:
    """The ONNX graph: (batch, 1, k, j, i) float32 to (batch, levels, k, j, i) float32, free sizes."""
    from onnx import TensorProto, helper, numpy_helper

    tiny = TinyModel() if model is None else model
    levels = np.asarray(tiny.levels, np.float32)
    half = precision == "fp16"
    kind = np.float16 if half else np.float32
    weight = (tiny.steepness * 2 * levels).reshape(-1, 1, 1, 1, 1).astype(kind)
    bias = (-tiny.steepness * levels**2).astype(kind)
    names = ("image16", "logits16") if half else ("image", "logits")
    nodes = [helper.make_node("Conv", [names[0], "weight", "bias"], [names[1]], kernel_shape=[1, 1, 1])]
    if half:
        nodes.insert(0, helper.make_node("Cast", ["image"], ["image16"], to=TensorProto.FLOAT16))
        nodes.append(helper.make_node("Cast", ["logits16"], ["logits"], to=TensorProto.FLOAT))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, "k", "j", "i"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(levels), "k", "j", "i"])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def tiny_evidence(graph_sha256: Mapping[str, str], precision: Precision = "fp32") -> bytes:
    """An ``evidence/*.json`` for a graph, with scores that are true of it: it makes no error."""
    table = {
        "format": 1,
        "precision": precision,
        "graph_sha256": dict(graph_sha256),
        "engine": "none: exact by construction",
        "data": {"name": "two-level phantom", "digest": "0" * 64, "cases": 1, "use": "test"},
        "scores": [{"metric": "Dice", "segment": 1, "n": 1, "value": 1.0, "low": 1.0, "high": 1.0}],
    }
    return evidence_json(Evidence.model_validate(table))


def nearest_level(array: npt.NDArray[np.float32], levels: Sequence[float]) -> npt.NDArray[np.uint8]:
    """The labels that the tiny network means for an array of any shape; ties go to the lower label."""
    distances = np.abs(array[..., None].astype(np.float64) - np.asarray(levels, np.float64))
    return np.asarray(distances.argmin(axis=-1), np.uint8)


def _segment(number: int) -> dict[str, Any]:
    return {
        "number": number,
        "label": f"Level {number}",
        "category": {"value": "123037004", "meaning": "Anatomical Structure", **_SCT},
        "type": {"value": "85756007", "meaning": "Tissue", **_SCT},
    }
