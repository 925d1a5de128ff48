"""One class against the rest: ROC, AUC, operating points, predictive values.

A case is called positive when its score is at least the threshold. Every function takes
``positive`` (cases,) bool, the reference, and ``scores`` (cases,), higher is surer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hounsfield.evaluation.bootstrap import Interval, bootstrap, bootstrap_ratio, finite

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Roc:
    """The ROC curve: thresholds falling, the first infinite (nobody is called positive).

    Parameters
    ----------
    thresholds, sensitivity, specificity
        (points,) float64.
    """

    thresholds: Floats
    sensitivity: Floats
    specificity: Floats

    def as_dict(self) -> dict[str, Any]:
        """The curve as data for JSON."""
        return {
            "thresholds": [finite(v) for v in self.thresholds],
            "sensitivity": self.sensitivity.tolist(),
            "specificity": self.specificity.tolist(),
        }


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold means: counts, and rates with intervals (``None`` where nothing is counted).

    PPV and NPV hold at the prevalence of the sample; see :func:`predictive_values`.
    """

    name: str
    threshold: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    sensitivity: Interval | None
    specificity: Interval | None
    ppv: Interval | None
    npv: Interval | None

    def as_dict(self) -> dict[str, Any]:
        """The point as data for JSON."""
        counts = ("name", "true_positives", "false_positives", "true_negatives", "false_negatives")
        rates = {name: getattr(self, name) for name in ("sensitivity", "specificity", "ppv", "npv")}
        return (
            {name: getattr(self, name) for name in counts}
            | {"threshold": finite(self.threshold)}
            | {name: None if value is None else value.as_dict() for name, value in rates.items()}
        )


def checked(positive: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    """Reference and scores as arrays; ValueError if they do not fit or a score is not finite."""
    truth, values = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != values.shape or truth.size == 0 or not np.isfinite(values).all():
        raise ValueError("give one reference and one finite score per case, at least one case")
    return truth, values


def roc(positive: ArrayLike, scores: ArrayLike) -> Roc:
    """The ROC curve, one point per distinct score; NaN rates where a class is absent."""
    truth, values = checked(positive, scores)
    order = np.argsort(-values, kind="stable")
    last = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    true_positives = np.concatenate([[0.0], np.cumsum(truth[order])[last]])
    called = np.concatenate([[0.0], last + 1.0])
    positives, negatives = float(truth.sum()), float((~truth).sum())
    return Roc(
        np.concatenate([[math.inf], values[order][last]]),
        _over(true_positives, positives),
        1.0 - _over(called - true_positives, negatives),
    )


def auc(positive: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties half.

    NaN where a class is absent (Hanley and McNeil 1982).
    """
    truth, values = checked(positive, scores)
    return float(WeightedAuc(truth, values)(np.ones((1, truth.size)))[0])


def auc_interval(
    positive: ArrayLike, scores: ArrayLike, patients: Sequence[str], seed: int = 0, draws: int = 2000
) -> Interval:
    """AUC with its bootstrap interval over patients."""
    truth, values = checked(positive, scores)
    return bootstrap(WeightedAuc(truth, values), patients, seed, draws)


def auc_delong(positive: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """AUC and its standard error by DeLong et al. 1988, for one case per patient.

    NaN error where a class has fewer than two cases.
    """
    truth, values = checked(positive, scores)
    of_positives, of_negatives = placements(truth, values)
    if min(of_positives.size, of_negatives.size) < 2:
        return auc(truth, values), math.nan
    variance = of_positives.var(ddof=1) / of_positives.size + of_negatives.var(ddof=1) / of_negatives.size
    return float(of_positives.mean()), float(math.sqrt(variance))


def placements(truth: NDArray[np.bool_], values: Floats) -> tuple[Floats, Floats]:
    """DeLong's placement values of the positives and of the negatives; both average to the AUC."""
    high, low = values[truth], values[~truth]

    def below(of: Floats, among: Floats) -> Floats:
        ordered = np.sort(among)
        left, right = np.searchsorted(ordered, of, "left"), np.searchsorted(ordered, of, "right")
        share: Floats = (left + right) / (2.0 * max(1, among.size))
        return share

    return below(high, low), 1.0 - below(low, high)


def average_precision(positive: ArrayLike, scores: ArrayLike) -> float:
    """Area under the precision-recall steps: sum of precision times gained sensitivity; NaN without a positive."""
    truth, values = checked(positive, scores)
    if not truth.any():
        return math.nan
    order = np.argsort(-values, kind="stable")
    last = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    hits = np.cumsum(truth[order])[last]
    precision = hits / (last + 1)
    return float((precision * np.diff(hits, prepend=0)).sum() / truth.sum())


def operating_point(
    positive: ArrayLike, scores: ArrayLike, patients: Sequence[str], threshold: float, name: str = "", seed: int = 0
) -> OperatingPoint:
    """Counts and rates at a threshold, each rate with its interval over patients."""
    truth, values = checked(positive, scores)
    called = values >= threshold
    cells = {
        "tp": (truth & called).astype(float),
        "fp": (~truth & called).astype(float),
        "tn": (~truth & ~called).astype(float),
        "fn": (truth & ~called).astype(float),
    }

    def rate(top: str, other: str) -> Interval | None:
        bottom = cells[top] + cells[other]
        return bootstrap_ratio(cells[top], bottom, patients, seed, proportion=True) if bottom.any() else None

    tp, fp, tn, fn = (int(cells[key].sum()) for key in ("tp", "fp", "tn", "fn"))
    rates = (rate("tp", "fn"), rate("tn", "fp"), rate("tp", "fp"), rate("tn", "fn"))
    return OperatingPoint(name, threshold, tp, fp, tn, fn, *rates)


def threshold_for_sensitivity(positive: ArrayLike, scores: ArrayLike, sensitivity: float) -> float:
    """The highest threshold that reaches the sensitivity. Choose it on validation data, never on the test part."""
    curve = roc(positive, scores)
    reached = np.flatnonzero(curve.sensitivity >= sensitivity)
    return float(curve.thresholds[reached[0]]) if reached.size else math.nan


def threshold_youden(positive: ArrayLike, scores: ArrayLike) -> float:
    """The threshold with the largest sensitivity + specificity (Youden 1950), the highest among equals."""
    curve = roc(positive, scores)
    index = curve.sensitivity + curve.specificity
    if np.isnan(index).any():
        return math.nan
    best = np.flatnonzero(index >= index.max() - 1e-12)
    return float(curve.thresholds[best[0]])


def predictive_values(sensitivity: float, specificity: float, prevalence: float) -> tuple[float, float]:
    """PPV and NPV at another prevalence, by Bayes' rule; NaN where nobody would be called so."""
    called = sensitivity * prevalence + (1 - specificity) * (1 - prevalence)
    spared = (1 - sensitivity) * prevalence + specificity * (1 - prevalence)
    ppv = sensitivity * prevalence / called if called else math.nan
    npv = specificity * (1 - prevalence) / spared if spared else math.nan
    return ppv, npv


def _over(top: Floats, bottom: float) -> Floats:
    return top / bottom if bottom else np.full_like(top, math.nan)


class WeightedAuc:
    """AUC of weighted cases, many draws at once: (draws, cases) weights to (draws,)."""

    def __init__(self, truth: NDArray[np.bool_], values: Floats) -> None:
        self._order = np.argsort(values, kind="stable")
        self._truth = truth[self._order].astype(np.float64)
        self._starts = np.flatnonzero(np.append(True, np.diff(values[self._order]) != 0))

    def __call__(self, weights: Floats) -> Floats:
        ordered = weights[:, self._order]
        positives = np.add.reduceat(ordered * self._truth, self._starts, axis=1)
        negatives = np.add.reduceat(ordered * (1 - self._truth), self._starts, axis=1)
        below = np.cumsum(negatives, axis=1) - negatives / 2
        pairs = positives.sum(axis=1) * negatives.sum(axis=1)
        won = (positives * below).sum(axis=1)
        out = np.full(len(weights), math.nan)
        np.divide(won, pairs, out=out, where=pairs > 0)
        return out
