"""95 % intervals by resampling patients, not cases (Efron 1979, percentile method).

All cases of a drawn patient come along, so repeated scans of one person never narrow an
interval. Where every patient shows the same proportion of 0 or 1 the resampling cannot see any
uncertainty; there the exact interval of Clopper and Pearson (1934) over *patients* is given
instead. One patient alone has no interval: its bounds are NaN (``null`` in JSON).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

DRAWS: Final = 10_000
_CELLS: Final = 4_000_000
Method = Literal["bootstrap", "exact"]
Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Interval:
    """A statistic with its 95 % interval over ``patients`` patients and ``cases`` cases.

    Parameters
    ----------
    mean
        The statistic of the whole sample: a mean, a pooled ratio, or an AUC.
    low, high
        Bounds of the interval, NaN where one patient only is there. They enclose ``mean`` (in a
        very skewed small sample percentiles might not).
    method
        ``"bootstrap"`` (percentiles over patients) or ``"exact"`` (binomial or Poisson, over patients).
    undefined_draws
        Share of draws in which the statistic has no value (such as an AUC without a
        positive); the percentiles are over the others.
    """

    mean: float
    low: float
    high: float
    cases: int
    patients: int
    method: Method = "bootstrap"
    undefined_draws: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The interval as data for JSON; NaN becomes ``None``."""
        return {
            "mean": finite(self.mean),
            "low": finite(self.low),
            "high": finite(self.high),
            "cases": self.cases,
            "patients": self.patients,
            "method": self.method,
            "undefined_draws": self.undefined_draws,
        }


def finite(value: float) -> float | None:
    """The number, or ``None`` where it is NaN or infinite (which JSON cannot say)."""
    return float(value) if math.isfinite(value) else None


def bootstrap_mean(values: Sequence[float], patients: Sequence[str], seed: int = 0, draws: int = DRAWS) -> Interval:
    """Mean over cases and the percentile interval from drawing patients with replacement.

    Parameters
    ----------
    values
        One finite number per case.
    patients
        The patient of each case.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0 or len(patients) != data.size or not np.isfinite(data).all():
        raise ValueError("bootstrap_mean needs one finite value and one patient per case, at least one case")
    return bootstrap_ratio(data, np.ones(data.size), patients, seed, draws)


def bootstrap_ratio(
    numerators: ArrayLike,
    denominators: ArrayLike,
    patients: Sequence[str],
    seed: int = 0,
    draws: int = DRAWS,
    proportion: bool = False,
) -> Interval:
    """Sum over sum, with its interval over patients: pooled sensitivity, precision, F1, a mean.

    Parameters
    ----------
    numerators, denominators
        One finite number per case, denominators not negative with a positive sum.
    patients
        The patient of each case.
    proportion
        The numerators count successes among the denominators. Where all or none succeed, the
        interval is exact over the patients whose denominator is not 0.
    """
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if top.size == 0 or top.shape != bottom.shape or len(patients) != top.size:
        raise ValueError("bootstrap_ratio needs a numerator, a denominator and a patient per case")
    if not (np.isfinite(top).all() and np.isfinite(bottom).all()) or bottom.min() < 0 or bottom.sum() <= 0:
        raise ValueError("bootstrap_ratio needs finite numerators and denominators with a positive sum")
    counted = bottom > 0
    names, owner = np.unique(np.asarray(patients)[counted], return_inverse=True)
    tops = np.bincount(owner, top[counted], len(names))
    bottoms = np.bincount(owner, bottom[counted], len(names))
    value, cases = float(tops.sum() / bottoms.sum()), int(counted.sum())
    if len(names) == 1:
        return Interval(value, math.nan, math.nan, cases, 1)
    if proportion and (not tops.any() or np.array_equal(tops, bottoms)):
        return Interval(value, *clopper_pearson(round(value * len(names)), len(names)), cases, len(names), "exact")
    return _interval(value, ratio_draws(tops, bottoms, seed, draws), cases, len(names))


def ratio_draws(numerators: NDArray[Any], denominators: NDArray[Any], seed: int = 0, draws: int = DRAWS) -> Floats:
    """Sum over sum in every draw of patients with replacement: (draws,) float64.

    Parameters
    ----------
    numerators, denominators
        (patients,) float64, one pair per patient; denominators positive.
    """
    counted = _patient_counts(len(numerators), seed, draws)
    return np.concatenate([counts @ numerators / (counts @ denominators) for counts in counted])


def bootstrap(statistic: Statistic, patients: Sequence[str], seed: int = 0, draws: int = 2000) -> Interval:
    """Any statistic with its percentile interval over patients.

    Parameters
    ----------
    statistic
        Maps case weights, (draws, cases) float64 counts, to one value per draw, NaN where it
        has none. Weights of 1 everywhere give the statistic of the sample.
    patients
        The patient of each case.
    """
    if not patients:
        raise ValueError("bootstrap needs at least one case")
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    value = float(statistic(np.ones((1, len(patients))))[0])
    if len(names) == 1 or not math.isfinite(value):
        return Interval(value, math.nan, math.nan, len(patients), len(names))
    parts = [statistic(counts[:, owner]) for counts in _patient_counts(len(names), seed, draws, len(patients))]
    return _interval(value, np.concatenate(parts), len(patients), len(names))


def bootstrap_median(values: Sequence[float], patients: Sequence[str], seed: int = 0, draws: int = 2000) -> Interval:
    """Median over cases with its interval; values may be infinite (a missed structure's distance).

    The median of a draw is the smallest value at which half of the weight is reached.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0 or np.isnan(data).any():
        raise ValueError("bootstrap_median needs at least one value and no NaN")
    order = np.argsort(data, kind="stable")

    def median(weights: Floats) -> Floats:
        reached = np.cumsum(weights[:, order], axis=1)
        place = (reached < reached[:, -1:] / 2).sum(axis=1)
        picked: Floats = data[order][place]
        return picked

    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    value = float(median(np.ones((1, data.size)))[0])
    if len(names) == 1:
        return Interval(value, math.nan, math.nan, data.size, 1)
    parts = [median(counts[:, owner]) for counts in _patient_counts(len(names), seed, draws, data.size)]
    low, high = np.percentile(np.concatenate(parts), [2.5, 97.5], method="inverted_cdf").tolist()
    return Interval(value, low, high, int(data.size), len(names))


def event_rate(events: Sequence[int], patients: Sequence[str], seed: int = 0) -> Interval:
    """Events per case. Without any event the upper bound is Poisson's exact one over patients.

    -ln(0.025) / patients: resampling nothing but zeros would pretend to certainty.
    """
    rate = bootstrap_ratio(events, np.ones(len(events)), patients, seed)
    if any(events) or rate.patients < 2:
        return rate
    return replace(rate, low=0.0, high=-math.log(0.025) / rate.patients, method="exact")


def clopper_pearson(successes: int, trials: int) -> tuple[float, float]:
    """Exact 95 % interval of a proportion (Clopper and Pearson 1934)."""
    from scipy.stats import beta

    low = 0.0 if successes == 0 else float(beta.ppf(0.025, successes, trials - successes + 1))
    high = 1.0 if successes == trials else float(beta.ppf(0.975, successes + 1, trials - successes))
    return low, high


def _patient_counts(patients: int, seed: int, draws: int, width: int = 0) -> Iterator[Floats]:
    """How often each patient was drawn: (some draws, patients) float64, in parts of bounded size."""
    random = np.random.default_rng(seed)
    part = max(1, _CELLS // max(patients, width))
    for start in range(0, draws, part):
        size = min(part, draws - start)
        drawn = random.integers(0, patients, size=(size, patients))
        flat = (drawn + np.arange(size)[:, None] * patients).ravel()
        yield np.bincount(flat, minlength=size * patients).reshape(size, patients).astype(np.float64)


def _interval(value: float, drawn: Floats, cases: int, patients: int) -> Interval:
    defined = drawn[~np.isnan(drawn)]
    missing = 1.0 - defined.size / drawn.size
    if defined.size == 0:
        return Interval(value, math.nan, math.nan, cases, patients, undefined_draws=missing)
    low, high = np.percentile(defined, [2.5, 97.5]).tolist()
    return Interval(value, min(low, value), max(high, value), cases, patients, undefined_draws=missing)
