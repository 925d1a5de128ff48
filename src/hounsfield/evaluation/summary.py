"""From scored cases to tables: every metric with its interval, by segment, lesion size and stratum."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hounsfield.evaluation.agreement import Agreement, summarise_agreement
from hounsfield.evaluation.bootstrap import Interval, bootstrap_mean, bootstrap_median, bootstrap_ratio
from hounsfield.evaluation.comparison import Comparison, compare_paired, holm
from hounsfield.evaluation.lesion_tables import LesionTable, lesion_table
from hounsfield.evaluation.lesions import BAND_NAMES, size_band
from hounsfield.evaluation.scoring import ScoredSegment, SegmentScores
from hounsfield.evaluation.strata import MINIMUM_PATIENTS, UNKNOWN, GroupedValues, StrataTable, age_band, strata_table


@dataclass(frozen=True)
class MetricKind:
    """One number per segment and case: its name, UCUM unit, decimals (−1: three figures), and where it is."""

    key: str
    name: str
    unit: str
    digits: int
    of: Callable[[SegmentScores], float]
    higher_is_better: bool = True


METRICS: Final = (
    MetricKind("dice", "Dice", "1", 3, lambda s: s.dice),
    MetricKind("iou", "IoU", "1", 3, lambda s: s.iou),
    MetricKind("nsd", "NSD", "1", 3, lambda s: s.nsd),
    MetricKind("hd95", "HD95", "mm", 2, lambda s: s.hd95_mm, False),
    MetricKind("volume-error", "volume error", "ml", -1, lambda s: s.volume_error_ml, False),
    MetricKind("volume-error-abs", "absolute volume error", "ml", -1, lambda s: abs(s.volume_error_ml), False),
    MetricKind("volume-error-rel", "relative volume error", "1", 3, lambda s: s.relative_volume_error, False),
)


@dataclass(frozen=True)
class ScoredCase:
    """A case that was read and compared; ``columns`` are the table's other cells."""

    case_id: str
    patient_id: str = field(repr=False)
    segments: tuple[SegmentScores, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class MetricRow:
    """A metric of a segment over all cases.

    Parameters
    ----------
    mean
        Over the cases where it is finite; ``None`` where it is nowhere.
    median
        Over all cases, infinite ones included.
    infinite
        Cases without a finite value (one side empty); they are not in the mean.
    empty
        Cases where neither side has a voxel; they count as perfect agreement.
    """

    metric: str
    name: str
    unit: str
    digits: int
    segment: ScoredSegment
    mean: Interval | None
    median: Interval
    infinite: int
    empty: int

    def as_dict(self) -> dict[str, Any]:
        """The row as data for JSON."""
        return {
            "metric": self.metric,
            "unit": self.unit,
            "segment": self.segment.number,
            "mean": None if self.mean is None else self.mean.as_dict(),
            "median": self.median.as_dict(),
            "infinite": self.infinite,
            "empty": self.empty,
        }


@dataclass(frozen=True)
class Presence:
    """Whether a segment is there at all, case by case: sensitivity and specificity of presence."""

    segment: ScoredSegment
    sensitivity: Interval | None
    specificity: Interval | None

    def as_dict(self) -> dict[str, Any]:
        """The rates as data for JSON."""
        rates = {"sensitivity": self.sensitivity, "specificity": self.specificity}
        return {"segment": self.segment.number} | {k: None if v is None else v.as_dict() for k, v in rates.items()}


@dataclass(frozen=True)
class AgreementRow:
    """Annotators with each other beside the model with them, in all, for one size band, or for one stratum.

    The size band is that of the ball with the volume of the reference segment; a stratum is
    named ``column=value``, and has a row only with the minimum number of patients.
    """

    segment: ScoredSegment
    band: str
    cases: int
    agreement: Agreement

    def as_dict(self) -> dict[str, Any]:
        """The row as data for JSON."""
        return {
            "segment": self.segment.number,
            "band": self.band,
            "cases": self.cases,
            "between_annotators": self.agreement.between.as_dict(),
            "model_with_annotators": self.agreement.with_model.as_dict(),
            "model_minus_between": self.agreement.model_minus_between.as_dict(),
        }


@dataclass(frozen=True)
class SegmentationSummary:
    """All tables of one evaluation."""

    cases: int
    patients: int
    metrics: tuple[MetricRow, ...]
    presence: tuple[Presence, ...]
    lesions: tuple[tuple[ScoredSegment, LesionTable], ...]
    agreement: tuple[AgreementRow, ...]
    strata: tuple[tuple[ScoredSegment, StrataTable], ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything as data for JSON."""
        return {
            "cases": self.cases,
            "patients": self.patients,
            "metrics": [row.as_dict() for row in self.metrics],
            "presence": [row.as_dict() for row in self.presence],
            "lesions": [{"segment": segment.number, **table.as_dict()} for segment, table in self.lesions],
            "annotators": [row.as_dict() for row in self.agreement],
            "strata": [{"segment": segment.number, **table.as_dict()} for segment, table in self.strata],
        }


def summarise(
    cases: Sequence[ScoredCase],
    strata: Sequence[str],
    seed: int = 0,
    minimum_patients: int = MINIMUM_PATIENTS,
) -> SegmentationSummary:
    """Tables over all cases; every interval is over patients.

    Parameters
    ----------
    cases
        At least one, all with the same segments.
    strata
        Columns to split by. ``age_years`` is split by :func:`age_band`.
    """
    patients = [case.patient_id for case in cases]
    segments = [scores.segment for scores in cases[0].segments]
    columns = [[case.segments[n] for case in cases] for n in range(len(segments))]
    return SegmentationSummary(
        len(cases),
        len(set(patients)),
        tuple(_metric_row(kind, own, patients, seed) for own in columns for kind in METRICS),
        tuple(_presence(own, patients, seed) for own in columns),
        tuple(
            (own[0].segment, lesion_table([s.lesions for s in own if s.lesions], patients, seed))
            for own in columns
            if own[0].segment.lesion
        ),
        tuple(
            row for place in range(len(segments)) for row in _agreement(cases, place, strata, seed, minimum_patients)
        ),
        tuple(
            row
            for place in range(len(segments))
            for column in strata
            for row in _strata(cases, place, column, seed, minimum_patients)
        ),
    )


def groups_of(cases: Sequence[ScoredCase], column: str) -> list[str]:
    """The stratum of each case; ages in years become bands."""
    cells = [case.columns.get(column, "") for case in cases]
    return [age_band(_number(cell)) for cell in cells] if column == "age_years" else cells


def compare_models(
    first: Sequence[ScoredCase], second: Sequence[ScoredCase], seed: int = 0
) -> tuple[tuple[ScoredSegment, MetricKind, int, Comparison, float], ...]:
    """Two models on the cases that both answered: segment, metric, cases, comparison, Holm's p-value.

    Only cases where both values are finite take part; the others are counted out, not in.
    """
    partner = {case.case_id: case for case in second}
    pairs = [(case, partner[case.case_id]) for case in first if case.case_id in partner]
    rows = []
    for place, scores in enumerate(first[0].segments if first else ()):
        for kind in METRICS[:4]:
            values = [(kind.of(a.segments[place]), kind.of(b.segments[place]), a.patient_id) for a, b in pairs]
            kept = [row for row in values if math.isfinite(row[0]) and math.isfinite(row[1])]
            if kept:
                one, two, patients = ([row[n] for row in kept] for n in range(3))
                comparison = compare_paired(one, two, patients, seed)  # type: ignore[arg-type]
                rows.append((scores.segment, kind, len(kept), comparison))
    adjusted = holm([row[3].p_value for row in rows])
    return tuple((*row, p) for row, p in zip(rows, adjusted, strict=True))


def _metric_row(kind: MetricKind, scores: Sequence[SegmentScores], patients: Sequence[str], seed: int) -> MetricRow:
    values = [kind.of(one) for one in scores]
    kept = [(value, who) for value, who in zip(values, patients, strict=True) if math.isfinite(value)]
    mean = bootstrap_mean([v for v, _ in kept], [who for _, who in kept], seed) if kept else None
    return MetricRow(
        kind.key,
        kind.name,
        kind.unit,
        kind.digits,
        scores[0].segment,
        mean,
        bootstrap_median(values, patients, seed),
        len(values) - len(kept),
        sum(one.is_empty for one in scores),
    )


def _presence(scores: Sequence[SegmentScores], patients: Sequence[str], seed: int) -> Presence:
    there = [one.reference_ml > 0 for one in scores]
    said = [one.found_ml > 0 for one in scores]

    def rate(wanted: bool) -> Interval | None:
        bottom = [float(t == wanted) for t in there]
        top = [float(t == wanted and s == wanted) for t, s in zip(there, said, strict=True)]
        return bootstrap_ratio(top, bottom, patients, seed, proportion=True) if any(bottom) else None

    return Presence(scores[0].segment, rate(True), rate(False))


def _agreement(
    cases: Sequence[ScoredCase], place: int, strata: Sequence[str], seed: int, minimum: int
) -> list[AgreementRow]:
    """Rows for all cases with several annotators, for the size bands of lesions, and for the strata."""
    kept = [case for case in cases if case.segments[place].agreement is not None]
    if not kept:
        return []
    groups: list[tuple[str, list[ScoredCase]]] = [("all", kept)]
    if kept[0].segments[place].segment.lesion:
        bands = [_band(case.segments[place]) for case in kept]
        groups += [(name, _chosen(kept, bands, number)) for number, name in enumerate(BAND_NAMES)]
    for column in strata:
        values = [value.strip() or UNKNOWN for value in groups_of(kept, column)]
        named = [(f"{column}={value}", _chosen(kept, values, value)) for value in sorted(set(values))]
        groups += [(name, own) for name, own in named if len({case.patient_id for case in own}) >= minimum]
    return [_agreement_row(name, own, place, seed) for name, own in groups if own]


def _chosen(cases: Sequence[ScoredCase], keys: Sequence[object], wanted: object) -> list[ScoredCase]:
    return [case for case, key in zip(cases, keys, strict=True) if key == wanted]


def _agreement_row(name: str, cases: Sequence[ScoredCase], place: int, seed: int) -> AgreementRow:
    scores = [case.segments[place] for case in cases]
    pairs = [one.agreement for one in scores if one.agreement is not None]
    agreement = summarise_agreement(pairs, [case.patient_id for case in cases], seed)
    return AgreementRow(scores[0].segment, name, len(pairs), agreement)


def _band(scores: SegmentScores) -> int:
    return size_band((6000.0 * scores.reference_ml / math.pi) ** (1 / 3))


def _strata(
    cases: Sequence[ScoredCase], place: int, column: str, seed: int, minimum: int
) -> list[tuple[ScoredSegment, StrataTable]]:
    """Dice by a column, and for lesions the share of each case's lesions that was found."""
    segment = cases[0].segments[place].segment
    groups, patients = groups_of(cases, column), [case.patient_id for case in cases]
    dice = [case.segments[place].dice for case in cases]
    tables = [(segment, strata_table(GroupedValues(column, "Dice", dice, groups, patients), seed, minimum))]
    matches = [case.segments[place].lesions for case in cases]
    kept = [n for n, match in enumerate(matches) if match is not None and match.reference]
    if kept:
        shares = [len(m.matches) / len(m.reference) for m in (matches[n] for n in kept) if m is not None]
        own = ([groups[n] for n in kept], [patients[n] for n in kept])
        found = GroupedValues(column, "lesions found per case", shares, *own, proportion=True)
        tables.append((segment, strata_table(found, seed, minimum)))
    return tables


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
