"""Everything about one kind of lesion that a detector finds: FROC, CPM, sensitivity by size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hounsfield.evaluation.bootstrap import Interval
from hounsfield.evaluation.detection import (
    CPM_RATES,
    Candidate,
    Froc,
    HitRule,
    ScanDetections,
    Target,
    cpm_interval,
    froc,
    judge,
    sensitivity_interval,
)
from hounsfield.evaluation.lesions import BAND_NAMES, size_band


@dataclass(frozen=True)
class DetectedCase:
    """The candidates and the targets of one scan, of one kind of lesion."""

    case_id: str
    patient_id: str
    candidates: tuple[Candidate, ...]
    targets: tuple[Target, ...]


@dataclass(frozen=True)
class DetectionSummary:
    """All figures of one kind of lesion.

    Parameters
    ----------
    at_rates
        (false positives per scan, sensitivity) of the seven rates of the CPM.
    by_size
        (band of the diameter, targets, targets that a candidate of any score hits).
    """

    name: str
    scans: int
    targets: int
    froc: Froc
    cpm: Interval
    at_rates: tuple[tuple[float, Interval], ...]
    by_size: tuple[tuple[str, int, int], ...]
    rule: str

    def as_dict(self) -> dict[str, Any]:
        """The figures as data for JSON."""
        return {
            "name": self.name,
            "scans": self.scans,
            "targets": self.targets,
            "rule": self.rule,
            "cpm": self.cpm.as_dict(),
            "sensitivity": [{"false_per_scan": rate, **one.as_dict()} for rate, one in self.at_rates],
            "by_size": [{"band": band, "targets": n, "hit": hit} for band, n, hit in self.by_size],
            "froc": self.froc.as_dict(),
        }


def summarise_detections(
    name: str, cases: Sequence[DetectedCase], rule: HitRule | None = None, seed: int = 0
) -> DetectionSummary:
    """Figures over scans; every interval is over patients.

    Raises
    ------
    ValueError
        If no scan holds a target.
    """
    used = HitRule() if rule is None else rule
    judged = [judge(case.candidates, case.targets, used) for case in cases]
    patients = [case.patient_id for case in cases]
    curve = froc(judged)
    return DetectionSummary(
        name,
        len(cases),
        sum(len(case.targets) for case in cases),
        curve,
        cpm_interval(judged, patients, seed),
        tuple((rate, sensitivity_interval(judged, patients, rate, seed)) for rate in CPM_RATES),
        _by_size(cases, judged),
        str(used),
    )


def _by_size(cases: Sequence[DetectedCase], judged: Sequence[ScanDetections]) -> tuple[tuple[str, int, int], ...]:
    counts = {band: [0, 0] for band in range(len(BAND_NAMES))}
    for case, result in zip(cases, judged, strict=True):
        for number, target in enumerate(case.targets):
            band = size_band(target.diameter_mm)
            counts[band][0] += 1
            counts[band][1] += number in result.hit_targets
    return tuple((BAND_NAMES[band], n, hit) for band, (n, hit) in counts.items())
