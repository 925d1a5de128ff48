"""One evaluation of a model that answers scores or numbers instead of labels, and its evidence file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hounsfield.errors import InputError
from hounsfield.evaluation.bootstrap import Interval
from hounsfield.evaluation.class_summary import ClassSummary
from hounsfield.evaluation.comparison import Comparison
from hounsfield.evaluation.detection_summary import DetectionSummary
from hounsfield.evaluation.quantities import QuantitySummary
from hounsfield.evaluation.record import (
    Effort,
    EvaluatedModel,
    EvaluatedOn,
    FailedCase,
    class_scores,
    code_sha256,
    score_of,
)
from hounsfield.packages import Evidence, evidence_json, parse_evidence


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


@dataclass(frozen=True)
class ScoreRecord:
    """All of one evaluation except the single cases.

    Parameters
    ----------
    proposed
        By class: thresholds by name that these very data would choose. They are for ``operating_points``
        when the part is a validation part, and prove nothing on the data they come from.
    """

    model: EvaluatedModel
    data: EvaluatedOn
    seed: int
    software_version: str
    created: str
    summary: ScoreSummary
    failed: tuple[FailedCase, ...]
    effort: Effort
    notes: tuple[str, ...] = ()
    proposed: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    compared_with: EvaluatedModel | None = None
    comparison: tuple[ComparedScore, ...] = ()
    compared_failed: tuple[FailedCase, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Everything as data for JSON, failed cases by name included."""
        compared = None
        if self.compared_with is not None:
            compared = {
                "with": asdict(self.compared_with),
                "rows": [row.as_dict() for row in self.comparison],
                "failed": [asdict(one) for one in self.compared_failed],
            }
        return {
            "model": asdict(self.model),
            "data": asdict(self.data),
            "seed": self.seed,
            "software_version": self.software_version,
            "code_sha256": code_sha256(),
            "created": self.created,
            "summary": self.summary.as_dict(),
            "failed": [asdict(one) for one in self.failed],
            "effort": asdict(self.effort),
            "notes": list(self.notes),
            "proposed_operating_points": {name: dict(points) for name, points in self.proposed.items()},
            "comparison": compared,
        }


def score_evidence_bytes(record: ScoreRecord) -> bytes:
    """The evidence file of a record: canonical JSON, read back before it is handed out; it names no case.

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
    details = record.as_dict()
    details["failed_by_error"] = dict(Counter(one["error"] for one in details.pop("failed")))
    if details["comparison"] is not None:
        others = details["comparison"].pop("failed")
        details["comparison"]["failed_by_error"] = dict(Counter(one["error"] for one in others))
    table = {
        "format": 1,
        "precision": record.model.precision,
        "graph_sha256": dict(record.model.graph_sha256),
        "engine": f"{record.model.engine}, ran {record.model.ran_precision}",
        "data": {
            "name": record.data.name[:200],
            "digest": record.data.digest,
            "cases": record.summary.cases,
            "use": record.data.use,
        },
        "scores": scores,
        "cost": {
            "machine": record.effort.machine[:200],
            "seconds_per_case": max(record.effort.seconds_per_case, 1e-6),
            **({} if record.effort.peak_mib is None else {"peak_mib": record.effort.peak_mib}),
        },
        "details": details,
    }
    data = evidence_json(Evidence.model_validate(table))
    parse_evidence(data, Path("evidence.json"))
    return data


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
