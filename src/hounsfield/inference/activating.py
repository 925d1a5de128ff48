"""From a network's answer for a whole image to numbers with a meaning: probabilities, or quantities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import EngineError, PackageInvalid
from hounsfield.packages.manifest import OutputSpec


def probabilities(logits: NDArray[np.float32], output: OutputSpec) -> NDArray[np.float64]:
    """(n, classes) probabilities of (n, classes) logits, as the manifest's activation says.

    Raises
    ------
    EngineError
        If an answer is not a number.
    PackageInvalid
        If the answers do not fit the manifest's classes, or ``none`` answers something outside 0 to 1.
    """
    values = _checked(logits, len(output.classes))
    if output.activation == "softmax":
        raised = np.exp(values - values.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float64)
    if output.activation == "sigmoid":
        return np.asarray(0.5 * (1 + np.tanh(values / 2)), np.float64)
    if values.min() < -1e-6 or values.max() > 1 + 1e-6:
        raise PackageInvalid("the graph answers numbers outside 0 to 1", "state its activation: softmax or sigmoid")
    return np.clip(values, 0.0, 1.0)


def quantities(answers: NDArray[np.float32], output: OutputSpec) -> NDArray[np.float64]:
    """(n, quantities) numbers in the manifest's units; raises as :func:`probabilities` does."""
    values = _checked(answers, len(output.quantities))
    low = [-np.inf if one.low is None else one.low for one in output.quantities]
    high = [np.inf if one.high is None else one.high for one in output.quantities]
    scaled = values * np.array([one.factor for one in output.quantities])
    return np.asarray(np.clip(scaled, low, high), np.float64)


def _checked(answers: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    values = np.asarray(answers, np.float64)
    if values.ndim != 2 or values.shape[1] != count:
        raise PackageInvalid(
            fact=f"the graph answers the shape {values.shape}, the manifest names {count}",
            remedy="correct [output] in the manifest",
        )
    if not np.isfinite(values).all():
        raise EngineError("the network answered something that is not a number", "check the intensities of the scan")
    return values
