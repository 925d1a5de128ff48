"""Whether a probability means what it says: Brier score, reliability, expected calibration error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hounsfield.evaluation.bootstrap import Interval, bootstrap, bootstrap_mean
from hounsfield.evaluation.classification import checked

Floats = NDArray[np.float64]
Binning = Literal["width", "count"]


@dataclass(frozen=True)
class Bin:
    """One bar of the reliability diagram: what was said on average, and how often it was so."""

    low: float
    high: float
    cases: int
    predicted: float
    observed: float


@dataclass(frozen=True)
class Calibration:
    """Brier score and calibration error with intervals, the bars, and said minus observed on the whole."""

    bins: tuple[Bin, ...]
    brier: Interval
    ece: Interval
    bias: Interval

    def as_dict(self) -> dict[str, Any]:
        """The numbers as data for JSON."""
        return {
            "bins": [vars(one) for one in self.bins],
            "brier": self.brier.as_dict(),
            "ece": self.ece.as_dict(),
            "bias": self.bias.as_dict(),
        }


def brier_score(positive: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean squared difference of probability and outcome (Brier 1950)."""
    truth, said = _checked(positive, probabilities)
    return float(((said - truth) ** 2).mean())


def expected_calibration_error(
    positive: ArrayLike, probabilities: ArrayLike, bins: int = 10, binning: Binning = "width"
) -> float:
    """Mean of |said - observed| over bins, weighed by cases (Naeini et al. 2015)."""
    truth, said = _checked(positive, probabilities)
    place, count = _places(said, bins, binning)
    return float(_ece(truth, said, place, count)(np.ones((1, truth.size)))[0])


def reliability(
    positive: ArrayLike, probabilities: ArrayLike, bins: int = 10, binning: Binning = "width"
) -> tuple[Bin, ...]:
    """The bars of the reliability diagram; bins without a case are left out.

    Parameters
    ----------
    bins, binning
        ``"width"``: equal parts of [0, 1]; ``"count"``: quantiles, about equally many cases each.
    """
    truth, said = _checked(positive, probabilities)
    place, count = _places(said, bins, binning)
    edges = _edges(said, bins, binning)
    return tuple(
        Bin(float(edges[n]), float(edges[n + 1]), int(own.sum()), float(said[own].mean()), float(truth[own].mean()))
        for n, own in ((n, place == n) for n in range(count))
        if own.any()
    )


def calibrate(
    positive: ArrayLike, probabilities: ArrayLike, patients: Sequence[str], bins: int = 10, seed: int = 0
) -> Calibration:
    """All of it, intervals over patients; bins of equal width, fixed over the draws.

    The calibration error of a small sample is biased upwards (chance alone gives a positive
    value); read it beside its interval and the counts of the bars.
    """
    truth, said = _checked(positive, probabilities)
    place, count = _places(said, bins, "width")
    return Calibration(
        reliability(truth, said, bins),
        bootstrap_mean(((said - truth) ** 2).tolist(), patients, seed),
        bootstrap(_ece(truth, said, place, count), patients, seed),
        bootstrap_mean((said - truth).tolist(), patients, seed),
    )


def _checked(positive: ArrayLike, probabilities: ArrayLike) -> tuple[Floats, Floats]:
    truth, said = checked(positive, probabilities)
    if said.min() < 0 or said.max() > 1:
        raise ValueError("probabilities lie in 0 to 1")
    return truth.astype(np.float64), said


def _edges(said: Floats, bins: int, binning: Binning) -> Floats:
    if binning == "width":
        return np.linspace(0.0, 1.0, bins + 1)
    return np.unique(np.quantile(said, np.linspace(0.0, 1.0, bins + 1)))


def _places(said: Floats, bins: int, binning: Binning) -> tuple[NDArray[np.intp], int]:
    """The bin of each case: [low, high), the last one closed; and how many bins there are."""
    edges = _edges(said, bins, binning)
    inner = edges[1:-1]
    return np.searchsorted(inner, said, side="right"), max(1, len(edges) - 1)


class _Ece:
    """Calibration error of weighted cases: (draws, cases) weights to (draws,)."""

    def __init__(self, gap: Floats, place: NDArray[np.intp], count: int) -> None:
        self._gap = gap
        self._in_bin = np.eye(count)[place]

    def __call__(self, weights: Floats) -> Floats:
        gaps = np.abs((weights * self._gap) @ self._in_bin).sum(axis=1)
        result: Floats = gaps / weights.sum(axis=1)
        return result


def _ece(truth: Floats, said: Floats, place: NDArray[np.intp], count: int) -> _Ece:
    return _Ece(said - truth, place, count)
