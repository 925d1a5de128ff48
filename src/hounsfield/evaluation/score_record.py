"""One evaluation of a model that answers scores or numbers instead of labels, and its evidence file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hounsfield.errors import InputError
from hounsfield.evaluation.bootstrap import Interval
from hounsfield.evaluation.class_summary import ClassSummary
from hounsfield.evaluation.comparison import Comparison
from hounsfield.evaluation.detection_summary import DetectionSummary
from hounsfield.evaluation.quantities import QuantitySummary
from hounsfield.evaluation.record import Evaluated, class_scores, evidence_table, score_of


@dataclass(frozen=True)
class AnsweredCase:
    """A case that was read.

    Parameters
    ----------
    answers
        By label: a probability or a quantity.
    known
        By label: 1.0 or 0.0 for classes, the known number for quantities.
    columns
        The table's other cells.
    """

    case_id: str
    patient_id: str = field(repr=False)
    answers: Mapping[str, float] = field(default_factory=dict)
    known: Mapping[str, float] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScoreSummary:
    """All figures of one evaluation; what the model does not answer is empty."""

    cases: int
    patients: int
    classes: tuple[ClassSummary, ...] = ()
    quantities: tuple[QuantitySummary, ...] = ()
    detections: tuple[DetectionSummary, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Everything as data for JSON."""
        return {
            "cases": self.cases,
            "patients": self.patients,
            "classes": [one.as_dict() for one in self.classes],
            "quantities": [one.as_dict() for one in self.quantities],
            "detections": [one.as_dict() for one in self.detections],
        }


@dataclass(frozen=True)
class ComparedScore:
    """Two models on the cases that both answered: first minus second, and Holm's p-value."""

    label: str
    metric: str
    cases: int
    comparison: Comparison
    p_value_holm: float

    def as_dict(self) -> dict[str, Any]:
        """The row as data for JSON."""
        facts = {"label": self.label, "metric": self.metric, "cases": self.cases}
        return {**facts, **self.comparison.as_dict(), "p_value_holm": self.p_value_holm}


@dataclass(frozen=True, kw_only=True)
class ScoreRecord(Evaluated):
    """All of one evaluation of a package that answers scores or numbers.

    Parameters
    ----------
    proposed
        By class: thresholds by name that these very data would choose. They are for ``operating_points``
        when the part is a validation part, and prove nothing on the data they come from.
    """

    summary: ScoreSummary
    proposed: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    comparison: tuple[ComparedScore, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Everything as data for JSON."""
        return {
            **self.facts([row.as_dict() for row in self.comparison]),
            "summary": self.summary.as_dict(),
            "proposed_operating_points": {name: dict(points) for name, points in self.proposed.items()},
        }


def score_evidence_bytes(record: ScoreRecord) -> bytes:
    """The evidence file of a record; see :func:`hounsfield.evaluation.record.evidence_table`.

    Raises
    ------
    InputError
        If there are fewer than two patients, or no figure has an interval.
    """
    scores = list(_scores(record.summary))
    if record.summary.patients < 2 or not scores:
        raise InputError(
            "evidence needs figures with intervals over at least two patients", "evaluate more patients of both kinds"
        )
    return evidence_table(record, record.as_dict(), record.summary.cases, scores)


def _scores(summary: ScoreSummary) -> Iterator[dict[str, Any]]:
    for one in summary.classes:
        yield from class_scores(one)
    rows: list[tuple[str, Interval | None, str]] = []
    for quantity in summary.quantities:
        rows.append((f"{quantity.name} absolute error", quantity.absolute_error, quantity.unit))
        rows.append((f"{quantity.name} bias", quantity.bias, quantity.unit))
        rows.append((f"{quantity.name} concordance", quantity.concordance, "1"))
    for found in summary.detections:
        rows.append((f"{found.name} CPM", found.cpm, "1"))
        rows += [
            (f"{found.name} sensitivity at {rate:g} false per scan", interval, "1") for rate, interval in found.at_rates
        ]
    for metric, interval, unit in rows:
        score = score_of(metric[:64], None, "all", interval, unit)
        if score is not None:
            yield score
