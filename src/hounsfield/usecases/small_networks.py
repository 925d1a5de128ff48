"""Networks that are run once per scan or person on named inputs: records, sequences, images with a record."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import SettingsError
from hounsfield.inference.named import NamedAnswer, run_named
from hounsfield.packages import ModelPackage
from hounsfield.usecases.job import Choices
from hounsfield.usecases.sessions import proven_precision


def reads_named_inputs(package: ModelPackage) -> bool:
    """Whether the package's graph takes more, or something else, than windows of a scan."""
    return bool(package.manifest.input.record) or package.manifest.input.times is not None


def run_small(
    package: ModelPackage,
    choices: Choices,
    image: NDArray[np.float32] | None = None,
    record: NDArray[np.float32] | None = None,
) -> NamedAnswer:
    """The graph's answer for an image (batch, ...) and a record (batch, columns), whichever it reads.

    Raises
    ------
    SettingsError
        For another precision than fp32.
    PackageInvalid, EngineUnavailable, EngineError
        From the package and the engine.
    """
    precision = proven_precision(package, choices)
    if precision != "fp32":
        raise SettingsError(f"{package.reference} is read in fp32, not in {precision}", "leave --precision out")
    graph = package.graph("fp32")
    inputs = {} if image is None else {graph.input: image}
    if record is not None:
        inputs[graph.record or graph.input] = record
    return run_named(package.root / graph.file, inputs, choices.engine or "openvino", choices.threads)
