"""95 % intervals by resampling patients, not cases (Efron 1979, percentile method)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % bootstrap interval over ``patients`` patients and ``cases`` cases."""

    mean: float
    low: float
    high: float
    cases: int
    patients: int


def bootstrap_mean(values: Sequence[float], patients: Sequence[str], seed: int = 0, draws: int = 10000) -> Interval:
    """Mean over cases and the percentile interval from drawing patients with replacement.

    Parameters
    ----------
    values
        One finite number per case.
    patients
        The patient of each case; all cases of a drawn patient come along.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0 or len(patients) != data.size or not np.isfinite(data).all():
        raise ValueError("bootstrap_mean needs one finite value and one patient per case, at least one case")
    names = sorted(set(patients))
    index = {name: n for n, name in enumerate(names)}
    owner = np.array([index[name] for name in patients])
    sums = np.bincount(owner, weights=data, minlength=len(names))
    counts = np.bincount(owner, minlength=len(names))
    drawn = np.random.default_rng(seed).integers(0, len(names), size=(draws, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(data.mean()), float(low), float(high), int(data.size), len(names))
