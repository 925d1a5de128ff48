"""How far a graph's answers lie from the fp32 graph's, and what each layer in int8 adds to that.

The difference of two answers is one minus the soft Dice of their foreground probabilities, the mean over
windows: it looks at what is found, however small, and not at the background that both agree on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.compression.layers import copies_by_layer, with_float
from hounsfield.inference.engine import Floats
from hounsfield.packages.manifest import OutputSpec

_LEAST_FOREGROUND: Final = 1.0
Answer = Callable[[Any, Sequence[Floats]], Iterator[Floats]]


@dataclass(frozen=True)
class LayerSensitivity:
    """What one layer in int8, all others in fp32, changes: 0 nothing, 1 everything.

    Parameters
    ----------
    layer
        The first of those that read the same weight.
    copies
        How often the graph has it.
    """

    layer: str
    difference: float
    copies: int = 1


def difference(one: Floats, other: Floats, output: OutputSpec) -> float:
    """One minus the soft Dice of two answers' foreground probabilities; NaN where neither finds a voxel.

    Parameters
    ----------
    one, other
        (n, channels, ...) float32 as the graph answers.
    output
        What the channels mean; of ``softmax`` labels the first is the background, which is left out.
    """
    p, q = (_foreground(values, output) for values in (one, other))
    total = float(p.sum() + q.sum())
    return 1 - 2 * float(np.minimum(p, q).sum()) / total if total > _LEAST_FOREGROUND else float("nan")


def mean_difference(one: Sequence[Floats], other: Iterator[Floats], output: OutputSpec) -> float:
    """The mean over windows in which something is found; 0 where nothing is in any."""
    found = [difference(a, b, output) for a, b in zip(one, other, strict=True)]
    told = [value for value in found if np.isfinite(value)]
    return float(np.mean(told)) if told else 0.0


def layer_sensitivities(
    quantised: Any,
    original: Any,
    layers: Sequence[str],
    windows: Sequence[Floats],
    answer: Answer,
    output: OutputSpec,
    told: Callable[[int, int], None],
) -> tuple[LayerSensitivity, ...]:
    """Measure every layer by itself, all that read its weight together; the most sensitive first.

    Parameters
    ----------
    quantised, original
        The QDQ graph with all its layers in int8, and the fp32 graph.
    answer
        Runs a model over windows.
    told
        Called with the layers done and their number.
    """
    exact = [values.copy() for values in answer(original, windows)]
    found = []
    copies = copies_by_layer(original)
    firsts = list(dict.fromkeys(next(one for one in copies[name] if one in layers) for name in layers))
    for number, layer in enumerate(firsts, start=1):
        alone = with_float(quantised, original, set(layers) - set(copies[layer]))
        value = mean_difference(exact, answer(alone, windows), output)
        found.append(LayerSensitivity(layer, value, len(copies[layer])))
        told(number, len(firsts))
    return tuple(sorted(found, key=lambda one: -one.difference))


def _foreground(values: Floats, output: OutputSpec) -> NDArray[np.float64]:
    if output.activation == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-values.astype(np.float64))))
    if output.activation == "none":
        return np.asarray(values[:, 1:], np.float64)
    shifted = np.exp(values.astype(np.float64) - values.max(1, keepdims=True))
    return np.asarray((shifted / shifted.sum(1, keepdims=True))[:, 1:])
