"""Is the candidate at most a margin worse? A one-sided bound of the paired difference, over patients.

The bound is a percentile of the mean paired difference over bootstrap draws of patients; the
level is widened for few patients with Student's t ("expanded percentile", Hesterberg 2015,
The American Statistician 69, 371-386, section 4.2). Where *lost lesions* are counted, one imagined
patient who loses all lesions joins the draws: with no loss seen, resampling would see no
uncertainty at all, while the exact bound for no loss among n patients is near 3 / n (Hanley and
Lippman-Hand 1983); with that patient the bound follows the exact one (measured in
``benchmarks/gate_power.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hounsfield.compression.gate_file import GateRule
from hounsfield.evaluation.bootstrap import finite, ratio_draws

Verdict = Literal["pass", "fail", "undecided"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Differences:
    """Candidate against reference, one entry per case; positive numerators mean that the candidate is better.

    Parameters
    ----------
    numerators
        What the candidate gained in the case, summed over what is counted there.
    denominators
        How many were counted: 1 for a metric of the case, the lesions for a metric of lesions.
        Cases with 0 take no part.
    patients
        The patient of each case.
    counts_losses
        The numerators count found minus lost lesions.
    """

    numerators: Sequence[float]
    denominators: Sequence[float]
    patients: Sequence[str]
    counts_losses: bool = False


@dataclass(frozen=True)
class Judgement:
    """Verdict on one stratum.

    Parameters
    ----------
    mean
        Mean difference, positive where the candidate is better; NaN without a case.
    bound
        Lower one-sided confidence bound of it; NaN with fewer than two patients.
    patient_sd
        Standard deviation of a patient's contribution to the mean difference.
    items
        Cases, or lesions where the metric is one of lesions.
    patients_needed
        Where undecided: patients with which it would pass with the rule's power, if they
        differ like these; ``None`` where these cannot tell.
    """

    verdict: Verdict
    reason: str
    mean: float
    bound: float
    patient_sd: float
    items: int
    patients: int
    patients_needed: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The judgement as data for JSON; NaN becomes ``None``."""
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "mean_difference": finite(self.mean),
            "bound": finite(self.bound),
            "patient_sd": finite(self.patient_sd),
            "items": self.items,
            "patients": self.patients,
            "patients_needed": self.patients_needed,
        }


def judge_differences(differences: Differences, margin: float, rule: GateRule) -> Judgement:
    """Non-inferiority: passed where the bound lies above ``-margin``, failed where the mean does not.

    Raises
    ------
    ValueError
        If the entries differ in number, are not finite, or a denominator is negative.
    """
    tops, bottoms = _by_patient(differences)
    patients, items = len(tops), round(float(bottoms.sum()))
    if patients == 0:
        return Judgement("undecided", "no case belongs here", math.nan, math.nan, math.nan, 0, 0)
    mean = float(tops.sum() / bottoms.sum())
    if patients == 1:
        fact = f"one patient, the gate wants {rule.minimum_patients}"
        return Judgement("undecided", fact, mean, math.nan, math.nan, items, 1)
    if differences.counts_losses:
        tops, bottoms = np.append(tops, -bottoms.mean()), np.append(bottoms, bottoms.mean())
    sd = float(np.std((tops - tops.sum() / bottoms.sum() * bottoms) / bottoms.mean(), ddof=1))
    drawn = ratio_draws(tops, bottoms, rule.seed, rule.resamples)
    bound = min(mean, float(np.quantile(drawn, _level(rule.confidence, len(tops)))))
    verdict, reason = _verdict(mean, bound, margin, patients, rule)
    needed = None
    if verdict == "undecided":
        needed = _needed(mean, sd, margin, patients, rule, differences.counts_losses)
    return Judgement(verdict, reason, mean, bound, sd, items, patients, needed)


def _by_patient(differences: Differences) -> tuple[Floats, Floats]:
    """Sums per patient, of those who have something to count."""
    top, bottom = (np.asarray(one, np.float64) for one in (differences.numerators, differences.denominators))
    if not len(top) == len(bottom) == len(differences.patients):
        raise ValueError("differences need a numerator, a denominator and a patient per case")
    if not (np.isfinite(top).all() and np.isfinite(bottom).all()) or (bottom < 0).any():
        raise ValueError("differences must be finite, and denominators not negative")
    counted = bottom > 0
    names, owner = np.unique(np.asarray(differences.patients, dtype=str)[counted], return_inverse=True)
    tops, bottoms = (np.bincount(owner, one[counted], len(names)) for one in (top, bottom))
    return tops.astype(np.float64), bottoms.astype(np.float64)


def _level(confidence: float, patients: int) -> float:
    """The share of draws below the bound: ``1 - confidence`` for many patients, less for few."""
    from scipy.stats import t

    wide = math.sqrt(patients / (patients - 1)) * float(t.ppf(confidence, patients - 1))
    return NormalDist().cdf(-wide)


def _verdict(mean: float, bound: float, margin: float, patients: int, rule: GateRule) -> tuple[Verdict, str]:
    if patients < rule.minimum_patients:
        return "undecided", f"{patients} patients, the gate wants {rule.minimum_patients}"
    if bound > -margin:
        return "pass", "the bound lies above minus the margin"
    if mean <= -margin:
        return "fail", "on average the candidate is worse by the margin or more"
    return "undecided", "the mean lies within the margin, its bound does not"


def _needed(mean: float, sd: float, margin: float, patients: int, rule: GateRule, counts: bool) -> int | None:
    """Patients for the rule's power, if the true difference is the mean seen (or 0, if that is above)."""
    room = margin + min(mean, 0.0)
    if room <= 0:
        return None
    wide = NormalDist().inv_cdf(rule.confidence) + NormalDist().inv_cdf(rule.power)
    more = patients + 1 if patients >= rule.minimum_patients else rule.minimum_patients
    least = [more, math.ceil((wide * sd / room) ** 2)]
    if counts:
        least.append(math.ceil(math.log(1 - rule.confidence) / math.log(1 - margin)))
    return max(least)
