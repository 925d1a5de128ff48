"""nnU-Net models that nnU-Net itself wrote, their images, and how imported packages answer them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from answering import answers
from numpy.typing import NDArray

from hounsfield.inference import Loaded, LoadSettings, OnnxGraph, decision, engine, load_network, segment
from hounsfield.inference.window_steps import run_window_steps
from hounsfield.packages import ModelPackage
from hounsfield.packages.steps import WindowStep
from hounsfield.preparing import prepare
from hounsfield.volume import Geometry, Volume

MODELS = Path(__file__).with_name("nnunet_models")
FOLDERS = Path(__file__).with_name("nnunet_folders")
CT = ("3d-anisotropic", "118-classes", "totalsegmentator")


def given(source: Path, labels: list[str] | None = None, **told: Any) -> dict[str, Any]:
    """Answers for a model or a folder of models; ``told`` is the table ``source``."""
    tables = [json.loads(path.read_text()) for path in sorted(source.rglob("dataset.json"))]
    modality, quantity = ("CT", "HU") if source.name in CT else ("MR", "arbitrary")
    names = tables[0]["channel_names"].values()
    channels = [{"name": name, "modality": modality, "quantity": quantity} for name in names]
    named = dict.fromkeys(label for table in tables for label in table["labels"] if label != "background")
    more = {"source": told} if told else {}
    scan = {"channels": channels, "orientation": "LPS"}
    return answers(labels or list(named), channels=channels, modality=modality, input=scan, **more)


def scans(recorded: Path) -> list[Volume]:
    """The channels of an image that nnU-Net answered, along LPS."""
    case = np.load(recorded)
    affine = np.diag([*case["spacing"][::-1], 1.0])[:, [2, 1, 0, 3]]
    return [Volume(array, Geometry(array.shape, affine)) for array in case["image"]]


def labels_of(
    package: ModelPackage, volumes: list[Volume], runtime: str = "onnxruntime", precision: Any = "fp32"
) -> NDArray[Any]:
    """The package's labels for one image, whatever its number of channels."""
    opened = opener(package, runtime, precision)
    steps = tuple(step for step in package.manifest.steps if isinstance(step, WindowStep))
    if steps:
        return run_window_steps(volumes, steps, lambda step: opened(step.name, *step.ends()[:2])).labels.array
    spec, output = package.manifest.input, package.manifest.output
    loaded = opened(None, len(spec.channels), spec.window.shape)
    rule = decision(output, output.channels)
    try:
        return segment(prepare(volumes, spec), loaded.session, spec.window, rule, head=loaded.head).labels.array
    finally:
        loaded.session.close()


def opener(package: ModelPackage, runtime: str, precision: Any) -> Callable[[str | None, int, Any], Loaded]:
    """Loads a graph of the package on one thread, by step, channels and window."""

    def opened(step: str | None, channels: int, window: tuple[int, int, int]) -> Loaded:
        settings = LoadSettings(precision, window, channels=channels, threads=1)
        return load_network(engine(runtime), OnnxGraph(package.graph_path(precision, step)), settings)

    return opened
