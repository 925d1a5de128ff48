"""The gate: every metric, in every stratum, on the cases that both precisions read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hounsfield.compression.gate_file import LESION_METRICS, Criterion, GateRule
from hounsfield.compression.lesion_changes import LesionChange, Pair, found_lesions, lesion_changes, pair_cases
from hounsfield.compression.noninferiority import Differences, Judgement, Verdict, judge_differences
from hounsfield.errors import SettingsError
from hounsfield.evaluation.lesions import BAND_NAMES
from hounsfield.evaluation.scoring import ScoredSegment, SegmentScores
from hounsfield.evaluation.strata import UNKNOWN
from hounsfield.evaluation.summary import ScoredCase, groups_of

Gain = Callable[[SegmentScores, SegmentScores, str], tuple[float, float]]


@dataclass(frozen=True)
class Gate:
    """What was measured with both precisions, and the rule to judge it by.

    Parameters
    ----------
    reference, candidate
        The scored cases of both, with the same segments.
    """

    rule: GateRule
    reference: Sequence[ScoredCase]
    candidate: Sequence[ScoredCase]

    @property
    def lost_cases(self) -> tuple[str, ...]:
        """Ids of cases that the reference read and the candidate could not."""
        read = {case.case_id for case in self.candidate}
        return tuple(case.case_id for case in self.reference if case.case_id not in read)


@dataclass(frozen=True)
class StratumResult:
    """One metric of one segment in one stratum: ``all``, a size band, or ``column=value``."""

    metric: str
    segment: ScoredSegment
    stratum: str
    margin: float
    judgement: Judgement

    def as_dict(self) -> dict[str, Any]:
        """The result as data for JSON."""
        named = {"metric": self.metric, "segment": self.segment.number, "label": self.segment.label}
        return {**named, "stratum": self.stratum, "margin": self.margin, **self.judgement.as_dict()}


@dataclass(frozen=True)
class GateOutcome:
    """Everything the gate found.

    ``pass`` only where every stratum passed and the candidate read every case that the
    reference read; ``fail`` where one failed; else ``undecided``.
    """

    verdict: Verdict
    cases: int
    patients: int
    strata: tuple[StratumResult, ...]
    changes: tuple[LesionChange, ...]
    lost_cases: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The outcome as data for JSON."""
        return {
            "verdict": self.verdict,
            "cases": self.cases,
            "patients": self.patients,
            "strata": [one.as_dict() for one in self.strata],
            "lesions": {
                change: [one.as_dict() for one in self.changes if one.change == change] for change in ("lost", "gained")
            },
            "lost_cases": list(self.lost_cases),
        }


def judge(gate: Gate) -> GateOutcome:
    """Judge a candidate.

    Raises
    ------
    SettingsError
        If a criterion names a segment that is not there, or wants lesions where none are.
    """
    pairs = pair_cases(gate.reference, gate.candidate)
    results: list[StratumResult] = []
    if gate.reference:
        known = [scores.segment for scores in gate.reference[0].segments]
        for criterion in gate.rule.criteria:
            for place in chosen_segments(criterion, known):
                results += _criterion(criterion, known[place], place, pairs, gate.rule)
    return GateOutcome(
        _overall([one.judgement.verdict for one in results], gate.lost_cases),
        len(pairs),
        len({case.patient_id for case, _ in pairs}),
        tuple(results),
        lesion_changes(pairs),
        gate.lost_cases,
    )


def chosen_segments(criterion: Criterion, known: Sequence[ScoredSegment]) -> list[int]:
    """Places of a criterion's segments; raises as :func:`judge` does."""
    lesions = criterion.metric in LESION_METRICS
    possible = {segment.number: place for place, segment in enumerate(known) if segment.lesion or not lesions}
    if lesions and not possible:
        fact = f"{criterion.metric} needs a segment that is a lesion, and the package has none"
        raise SettingsError(fact, "choose another metric, such as dice")
    for number in criterion.segments:
        if number not in possible:
            numbers = ", ".join(map(str, possible))
            raise SettingsError(f"{criterion.metric} cannot be had of segment {number}", f"choose from: {numbers}")
    return [possible[number] for number in criterion.segments or possible]


def _overall(verdicts: Sequence[Verdict], lost_cases: Sequence[str]) -> Verdict:
    if lost_cases or "fail" in verdicts:
        return "fail"
    return "pass" if verdicts and set(verdicts) == {"pass"} else "undecided"


def _criterion(
    criterion: Criterion, segment: ScoredSegment, place: int, pairs: Sequence[Pair], rule: GateRule
) -> Iterator[StratumResult]:
    gain = _GAINS[criterion.metric]
    for stratum, band, own in _strata(criterion, pairs):
        gains = [gain(before.segments[place], after.segments[place], band) for before, after in own]
        differences = Differences(
            [top for top, _ in gains],
            [bottom for _, bottom in gains],
            [case.patient_id for case, _ in own],
            criterion.metric == "lesion-sensitivity",
        )
        judgement = judge_differences(differences, criterion.margin, rule)
        yield StratumResult(criterion.metric, segment, stratum, criterion.margin, judgement)


def _strata(criterion: Criterion, pairs: Sequence[Pair]) -> Iterator[tuple[str, str, Sequence[Pair]]]:
    """Name, size band (empty: every size) and cases. A column that nobody filled is one empty stratum."""
    yield "all", "", pairs
    for band in criterion.size_bands:
        yield band, band, pairs
    for column in criterion.by:
        groups = [value.strip() or UNKNOWN for value in groups_of([case for case, _ in pairs], column)]
        if set(groups) <= {UNKNOWN}:
            yield f"{column} (no case tells it)", "", ()
            continue
        for value in sorted(set(groups), key=lambda one: (one == UNKNOWN, one)):
            yield f"{column}={value}", "", [pair for pair, own in zip(pairs, groups, strict=True) if own == value]


def _of_case(better: Callable[[SegmentScores], float]) -> Gain:
    return lambda before, after, _: (better(after) - better(before), 1.0)


def _of_lesions(worth: Callable[[float], float]) -> Gain:
    """Summed over the reference standard's lesions of a band; a lesion that was not found is worth 0."""

    def gain(before: SegmentScores, after: SegmentScores, band: str) -> tuple[float, float]:
        if before.lesions is None or after.lesions is None:
            return 0.0, 0.0
        own = [x.number for x in before.lesions.reference if not band or BAND_NAMES[x.band] == band]
        had, has = found_lesions(before.lesions), found_lesions(after.lesions)
        gained = sum((worth(has[n]) if n in has else 0.0) - (worth(had[n]) if n in had else 0.0) for n in own)
        return gained, float(len(own))

    return gain


def _fewer_false(before: SegmentScores, after: SegmentScores, _: str) -> tuple[float, float]:
    if before.lesions is None or after.lesions is None:
        return 0.0, 0.0
    return float(len(before.lesions.false) - len(after.lesions.false)), 1.0


_GAINS: Final[Mapping[str, Gain]] = {
    "dice": _of_case(lambda scores: scores.dice),
    "iou": _of_case(lambda scores: scores.iou),
    "nsd": _of_case(lambda scores: scores.nsd),
    "volume-error-abs": _of_case(lambda scores: -abs(scores.volume_error_ml)),
    "lesion-sensitivity": _of_lesions(lambda _: 1.0),
    "lesion-dice": _of_lesions(lambda dice: dice),
    "false-lesions": _fewer_false,
}
