"""Two models on the same cases: the difference with its interval, and how surely it is none.

The p-value is of the sign-flip permutation test over patients: if both models were alike, the
two results of a patient could be swapped without anybody noticing (Good 2005, "paired
permutation"). All swaps are tried for up to 16 patients, else 20 000 random ones, and the observed
one counts too, so p is never 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hounsfield.evaluation.bootstrap import Interval, bootstrap, bootstrap_mean
from hounsfield.evaluation.classification import WeightedAuc, checked

_EXACT_UP_TO: Final = 16
_SWAPS: Final = 20_000
_AUC_SWAPS: Final = 4_000
_CELLS: Final = 4_000_000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """First minus second, with its interval, the two-sided p-value and how it was computed."""

    difference: Interval
    p_value: float
    test: str

    def as_dict(self) -> dict[str, Any]:
        """The comparison as data for JSON."""
        return {"difference": self.difference.as_dict(), "p_value": self.p_value, "test": self.test}


def compare_paired(
    first: Sequence[float], second: Sequence[float], patients: Sequence[str], seed: int = 0
) -> Comparison:
    """Compare a metric case by case: mean difference over cases, tested over patients.

    Parameters
    ----------
    first, second
        One finite value per case, the same cases in the same order.
    patients
        The patient of each case.
    """
    gaps = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    interval = bootstrap_mean(gaps.tolist(), patients, seed)
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    sums = np.bincount(owner, gaps, len(names))
    is_exact, test = _plan(len(names), _SWAPS)
    swapped = np.concatenate([np.abs(signs @ sums) for signs in _signs(len(names), seed, _SWAPS, is_exact)])
    p_value = _p_value(swapped, abs(float(sums.sum())), is_exact)
    return Comparison(interval, p_value, test)


def compare_auc(
    positive: ArrayLike, first: ArrayLike, second: ArrayLike, patients: Sequence[str], seed: int = 0
) -> Comparison:
    """Compare two models' AUC on the same cases, swapping whole patients between them.

    The scores are swapped as ranks, so the two models may use different scales (Venkatraman and
    Begg 1996).

    Raises
    ------
    ValueError
        If a class is absent.
    """
    from scipy.stats import rankdata

    truth, one = checked(positive, first)
    _, two = checked(positive, second)
    if truth.all() or not truth.any():
        raise ValueError("comparing AUC needs positive and negative cases")
    of_one, of_two = WeightedAuc(truth, one), WeightedAuc(truth, two)
    interval = bootstrap(lambda weights: of_one(weights) - of_two(weights), patients, seed)
    ranks = np.stack([rankdata(one), rankdata(two)])
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    is_exact, test = _plan(len(names), _AUC_SWAPS)
    even = np.ones((1, truth.size))
    differences = []
    for signs in _signs(len(names), seed, _AUC_SWAPS, is_exact):
        for row in signs[:, owner]:
            kept = np.where(row > 0, ranks[0], ranks[1]), np.where(row > 0, ranks[1], ranks[0])
            areas = [float(WeightedAuc(truth, values)(even)[0]) for values in kept]
            differences.append(abs(areas[0] - areas[1]))
    return Comparison(interval, _p_value(np.array(differences), abs(interval.mean), is_exact), test)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """The p-values adjusted for being several (Holm 1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    running = 0.0
    for place, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = running
    return tuple(adjusted.tolist())


def _plan(patients: int, draws: int) -> tuple[bool, str]:
    """Whether all swaps are tried, and the test in words."""
    if 2**patients <= (2**_EXACT_UP_TO if draws == _SWAPS else draws):
        return True, f"exact sign-flip permutation over {patients} patients"
    return False, f"sign-flip permutation over {patients} patients, {draws} random swaps"


def _signs(patients: int, seed: int, draws: int, is_exact: bool) -> Iterator[Floats]:
    """(some swaps, patients) of +1 and -1, in parts of bounded size: all of them, or random ones."""
    total, part = (2**patients if is_exact else draws), max(1, _CELLS // patients)
    random = np.random.default_rng(seed)
    for start in range(0, total, part):
        stop = min(total, start + part)
        if is_exact:
            bits = (np.arange(start, stop)[:, None] >> np.arange(patients)) & 1
        else:
            bits = random.integers(0, 2, size=(stop - start, patients))
        yield (1 - 2 * bits).astype(np.float64)


def _p_value(swapped: Floats, observed: float, exact: bool) -> float:
    extreme = int((swapped >= observed * (1 - 1e-9) - 1e-15).sum())
    return extreme / swapped.size if exact else (extreme + 1) / (swapped.size + 1)
