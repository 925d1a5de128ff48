"""A tiny classifying package whose answer is known exactly: it looks at the mean of its window.

The logit of class c is ``2 m_c x - m_c**2`` for the window's mean x and the level m_c, so that the
probabilities follow from the mean alone: :func:`expected_probabilities`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.packages import Manifest, ModelPackage, build
from hounsfield.packages.manifest import FORMAT_VERSION

_CODES = (("260385009", "Negative"), ("10828004", "Positive"), ("82334004", "Indeterminate"))


@dataclass(frozen=True)
class TinyClasses:
    """What the tiny package should be.

    Parameters
    ----------
    levels
        One per class, in the units that the network sees.
    modality
        Of its one channel.
    input, output, manifest
        Keys to add to or replace in these tables (``manifest``: the top one).
    """

    levels: Sequence[float] = (0.0, 1.0)
    modality: str = "CR"
    window: tuple[int, int, int] = (1, 32, 32)
    input: Mapping[str, Any] = field(default_factory=dict)
    output: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)


def tiny_classifier(folder: Path, model: TinyClasses | None = None) -> ModelPackage:
    """Build and verify the package in ``folder``; see :class:`TinyClasses`."""
    tiny = TinyClasses() if model is None else model
    files: dict[str, Path | bytes] = {
        "card.md": b"# tiny-classes\n\nFor tests.\n",
        "graphs/fp32.onnx": class_graph(tiny),
    }
    return build(folder, classifier_manifest(tiny), files)


def classifier_manifest(tiny: TinyClasses) -> Manifest:
    """The manifest of :func:`tiny_classifier`."""
    classes = [
        {
            "label": f"class {number}",
            "concept": {"value": value, "scheme": "SCT", "meaning": meaning},
            "reported": number > 0,
            "operating_points": [] if number == 0 else [{"name": "middle", "threshold": 0.5}],
        }
        for number, (_, (value, meaning)) in enumerate(zip(tiny.levels, _CODES, strict=False))
    ]
    table: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "id": "tiny-classes",
        "version": "1.0.0",
        "title": "Mean against levels",
        "task": "classification",
        "intended_use": "Tests only.",
        "licence": {"weights": "CC0-1.0", "data": "none"},
        "input": {
            "channels": [{"name": "image", "modality": tiny.modality}],
            "window": {"shape": tiny.window},
            **tiny.input,
        },
        "domain": {"modality": {"allowed": [tiny.modality, "DX"], "breach": "refuse"}},
        "output": {"classes": classes, "target": "finding", **tiny.output},
        "graphs": [{"precision": "fp32", "file": "graphs/fp32.onnx", "input": "image", "output": "logits"}],
    }
    return Manifest.model_validate({**table, **tiny.manifest})


def class_graph(tiny: TinyClasses) -> bytes:
    """The ONNX graph: (batch, 1, k, j, i) float32 to (batch, classes) float32."""
    from onnx import TensorProto, helper, numpy_helper

    levels = np.asarray(tiny.levels, np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["mean"]),
        helper.make_node("Gemm", ["mean", "weight", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, *tiny.window])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(levels)])],
        [numpy_helper.from_array((2 * levels)[None], "weight"), numpy_helper.from_array(-(levels**2), "bias")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def expected_probabilities(mean: float, levels: Sequence[float]) -> NDArray[np.float64]:
    """Softmax of ``2 m x - m**2``."""
    one = np.asarray(levels, np.float64)
    raised = np.exp(2 * one * mean - one**2)
    return np.asarray(raised / raised.sum(), np.float64)
