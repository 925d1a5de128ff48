"""Detection by scored points: FROC and the competition performance metric (CPM).

Matching (as in LUNA16, Setio et al. 2017): a candidate hits a target when its point lies within
the target's radius of its centre. Candidates take targets in the order of their scores, each
the nearest target that is not taken yet; a candidate that reaches only taken targets is a
duplicate and counts neither way; all others are false positives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.evaluation.bootstrap import Interval, bootstrap, finite

CPM_RATES: Final = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Target:
    """A reference lesion: centre in LPS mm and diameter in mm."""

    centre_mm: Point
    diameter_mm: float


@dataclass(frozen=True)
class Candidate:
    """A found point in LPS mm with its score; higher is surer."""

    point_mm: Point
    score: float


@dataclass(frozen=True)
class HitRule:
    """How near is a hit: within the radius times ``factor``, but at least ``minimum_mm``."""

    factor: float = 1.0
    minimum_mm: float = 0.0

    def reach_mm(self, target: Target) -> float:
        """Largest distance that hits the target, mm."""
        return max(self.factor * target.diameter_mm / 2, self.minimum_mm)

    def __str__(self) -> str:
        least = f", at least {self.minimum_mm:g} mm" if self.minimum_mm else ""
        near = f"a point hits within {self.factor:g} x the radius of a target{least}"
        return f"{near}; one hit per target, duplicates are ignored"


@dataclass(frozen=True)
class ScanDetections:
    """One scan, judged: scores of hits and of false positives, targets, duplicates.

    Parameters
    ----------
    hits
        Score of the candidate that took each hit target, aligned with ``hit_targets``.
    hit_targets
        Index of these targets.
    """

    hits: tuple[float, ...]
    hit_targets: tuple[int, ...]
    false_positives: tuple[float, ...]
    targets: int
    duplicates: int


@dataclass(frozen=True, eq=False)
class Froc:
    """The free-response curve (Bunch et al. 1978): one point per distinct score, falling.

    Parameters
    ----------
    thresholds, false_per_scan, sensitivity
        (points,) float64; a candidate counts when its score is at least the threshold.
    """

    thresholds: NDArray[np.float64]
    false_per_scan: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    targets: int
    scans: int

    def sensitivity_at(self, rate: float) -> float:
        """Highest sensitivity that was reached with at most ``rate`` false positives per scan."""
        reached = self.sensitivity[self.false_per_scan <= rate]
        return float(reached[-1]) if reached.size else 0.0

    @property
    def cpm(self) -> float:
        """Mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per scan."""
        return float(np.mean([self.sensitivity_at(rate) for rate in CPM_RATES]))

    def as_dict(self) -> dict[str, Any]:
        """The curve as data for JSON."""
        return {
            "thresholds": [finite(v) for v in self.thresholds],
            "false_per_scan": self.false_per_scan.tolist(),
            "sensitivity": self.sensitivity.tolist(),
            "targets": self.targets,
            "scans": self.scans,
        }


def judge(candidates: Sequence[Candidate], targets: Sequence[Target], rule: HitRule | None = None) -> ScanDetections:
    """Match the candidates of one scan to its targets (the rule is in the module's text)."""
    rule = HitRule() if rule is None else rule
    if any(not math.isfinite(c.score) for c in candidates):
        raise ValueError("every candidate needs a finite score")
    hits: list[float] = []
    taken: list[int] = []
    false: list[float] = []
    duplicates = 0
    for candidate in sorted(candidates, key=lambda c: -c.score):
        distances = {n: math.dist(candidate.point_mm, target.centre_mm) for n, target in enumerate(targets)}
        near = {n: d for n, d in distances.items() if d <= rule.reach_mm(targets[n])}
        free = {n: d for n, d in near.items() if n not in taken}
        if free:
            taken.append(min(free, key=lambda n: free[n]))
            hits.append(candidate.score)
        elif near:
            duplicates += 1
        else:
            false.append(candidate.score)
    return ScanDetections(tuple(hits), tuple(taken), tuple(false), len(targets), duplicates)


def froc(scans: Sequence[ScanDetections]) -> Froc:
    """The curve over all scans, those without a target included.

    Raises
    ------
    ValueError
        If there is no scan or no target.
    """
    events = _Events(scans)
    hits, false = events.cumulative(np.ones((1, len(scans))))
    targets = sum(scan.targets for scan in scans)
    return Froc(events.thresholds, false[0] / len(scans), hits[0] / targets, targets, len(scans))


def cpm_interval(
    scans: Sequence[ScanDetections], patients: Sequence[str], seed: int = 0, draws: int = 2000
) -> Interval:
    """CPM with its interval over patients."""
    return bootstrap(_Events(scans).cpm, patients, seed, draws)


def sensitivity_interval(
    scans: Sequence[ScanDetections], patients: Sequence[str], rate: float, seed: int = 0, draws: int = 2000
) -> Interval:
    """Sensitivity at ``rate`` false positives per scan, with its interval over patients."""
    events = _Events(scans)
    return bootstrap(lambda weights: events.sensitivity(weights, (rate,))[:, 0], patients, seed, draws)


class _Events:
    """All hits and false positives by falling score, ready to be weighted scan by scan."""

    def __init__(self, scans: Sequence[ScanDetections]) -> None:
        if not scans or not any(scan.targets for scan in scans):
            raise ValueError("FROC needs at least one scan and one target")
        rows = [
            (score, n, is_hit)
            for n, scan in enumerate(scans)
            for is_hit, scores in ((1.0, scan.hits), (0.0, scan.false_positives))
            for score in scores
        ]
        rows.sort(key=lambda row: -row[0])
        scores = np.array([row[0] for row in rows], dtype=np.float64)
        self._owner = np.array([row[1] for row in rows], dtype=np.intp)
        self._is_hit = np.array([row[2] for row in rows], dtype=np.float64)
        self._targets = np.array([scan.targets for scan in scans], dtype=np.float64)
        self._last = np.flatnonzero(np.append(np.diff(scores) != 0, True)) if rows else np.zeros(0, np.intp)
        self.thresholds: NDArray[np.float64] = scores[self._last]

    def cumulative(self, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(draws, points) hits and false positives with a score of at least each threshold."""
        each = weights[:, self._owner]
        hits = np.cumsum(each * self._is_hit, axis=1)[:, self._last]
        false = np.cumsum(each * (1 - self._is_hit), axis=1)[:, self._last]
        return hits, false

    def sensitivity(self, weights: NDArray[np.float64], rates: Sequence[float]) -> NDArray[np.float64]:
        """(draws, rates); NaN where a draw holds no target."""
        hits, false = self.cumulative(weights)
        hits = np.concatenate([np.zeros((len(weights), 1)), hits], axis=1)
        targets, scans = weights @ self._targets, weights.sum(axis=1)
        out = np.full((len(weights), len(rates)), np.nan)
        some = targets > 0
        for column, rate in enumerate(rates):
            place = (false <= rate * scans[:, None]).sum(axis=1)
            out[some, column] = hits[np.arange(len(weights)), place][some] / targets[some]
        return out

    def cpm(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """(draws,) mean sensitivity at the seven rates."""
        mean: NDArray[np.float64] = self.sensitivity(weights, CPM_RATES).mean(axis=1)
        return mean
