"""A number that a model answers beside the known one: error, agreement, correlation, with intervals over patients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.evaluation.bootstrap import Interval, bootstrap, bootstrap_mean

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class QuantitySummary:
    """All figures of one quantity.

    Parameters
    ----------
    bias, absolute_error
        Mean of found minus known, and of its size, in ``unit``.
    limits
        Bias -/+ 1.96 standard deviations (Bland and Altman 1986).
    concordance
        Lin's coefficient (1989): 1 where every answer equals the known number.
    known, found
        Of every case, for the plot.
    """

    name: str
    unit: str
    bias: Interval
    absolute_error: Interval
    limits: tuple[float, float]
    concordance: Interval
    known: tuple[float, ...]
    found: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """The figures as data for JSON."""
        intervals = {key: getattr(self, key).as_dict() for key in ("bias", "absolute_error", "concordance")}
        return {"name": self.name, "unit": self.unit, "limits": list(self.limits), **intervals}


def summarise_quantity(
    name: str, unit: str, known: Sequence[float], found: Sequence[float], patients: Sequence[str], seed: int = 0
) -> QuantitySummary:
    """Figures over cases; every interval is over patients."""
    one, two = np.asarray(known, np.float64), np.asarray(found, np.float64)
    gaps = two - one
    spread = 1.96 * float(gaps.std(ddof=1)) if gaps.size > 1 else math.nan
    bias = bootstrap_mean(gaps.tolist(), patients, seed)
    return QuantitySummary(
        name,
        unit,
        bias,
        bootstrap_mean(np.abs(gaps).tolist(), patients, seed),
        (bias.mean - spread, bias.mean + spread),
        bootstrap(lambda weights: concordance(one, two, weights), patients, seed),
        tuple(one.tolist()),
        tuple(two.tolist()),
    )


def concordance(known: Floats, found: Floats, weights: Floats) -> Floats:
    """(draws,) Lin's concordance of weighted cases, (draws, cases) weights; NaN where nothing varies."""
    total = weights.sum(axis=1, keepdims=True)
    share = weights / total
    x, y = share @ known, share @ found
    xx, yy, xy = share @ known**2 - x**2, share @ found**2 - y**2, share @ (known * found) - x * y
    bottom = xx + yy + (x - y) ** 2
    out = np.full(len(weights), np.nan)
    np.divide(2 * xy, bottom, out=out, where=bottom > 1e-300)
    return out
