"""What one evaluation was and found, and the evidence file that a package carries of it."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from hounsfield.errors import InputError
from hounsfield.evaluation.bootstrap import Interval
from hounsfield.evaluation.class_summary import ClassSummary
from hounsfield.evaluation.comparison import Comparison
from hounsfield.evaluation.scoring import ScoredSegment, ScoringRules
from hounsfield.evaluation.summary import MetricKind, SegmentationSummary
from hounsfield.packages import Evidence, evidence_json, parse_evidence

ComparedRow = tuple[ScoredSegment, MetricKind, int, Comparison, float]
Use = Literal["test", "validation", "external"]


@dataclass(frozen=True)
class FailedCase:
    """A case that gave no score: its name, the kind of error, and the error in words."""

    case_id: str
    error: str
    message: str


@dataclass(frozen=True)
class EvaluatedOn:
    """The data: name of the table, digest of the part, which part, how many, digest of the split file."""

    name: str
    digest: str
    part: str
    use: Use
    cases: int
    split_file_sha256: str | None = None


@dataclass(frozen=True)
class EvaluatedModel:
    """The model as it really ran.

    Parameters
    ----------
    precision
        Of the graph that was chosen.
    ran_precision
        The arithmetic that the engine really used.
    graph_sha256
        sha256 by path of the graph's files.
    """

    reference: str
    title: str
    digest: str
    precision: str
    ran_precision: str
    engine: str
    graph_sha256: Mapping[str, str]


@dataclass(frozen=True)
class Effort:
    """Seconds per case (median), highest resident memory of the process, and where."""

    machine: str
    seconds_per_case: float
    peak_mib: float | None


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What every evaluation says, whatever the package answers; the single cases are left out."""

    model: EvaluatedModel
    data: EvaluatedOn
    seed: int
    software_version: str
    created: str
    failed: tuple[FailedCase, ...]
    effort: Effort
    notes: tuple[str, ...] = ()
    compared_with: EvaluatedModel | None = None
    compared_failed: tuple[FailedCase, ...] = ()

    def facts(self, compared: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """These facts as data for JSON, failed cases by name included; ``compared`` are the rows of the comparison."""
        comparison = None
        if self.compared_with is not None:
            failed = [asdict(one) for one in self.compared_failed]
            comparison = {"with": asdict(self.compared_with), "rows": list(compared), "failed": failed}
        return {
            "model": asdict(self.model),
            "data": asdict(self.data),
            "seed": self.seed,
            "software_version": self.software_version,
            "code_sha256": code_sha256(),
            "created": self.created,
            "failed": [asdict(one) for one in self.failed],
            "effort": asdict(self.effort),
            "notes": list(self.notes),
            "comparison": comparison,
        }


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord(Evaluated):
    """All of one evaluation of a package that answers labels."""

    rules: ScoringRules
    summary: SegmentationSummary
    comparison: tuple[ComparedRow, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Everything as data for JSON."""
        rows = [
            {"segment": s.number, "metric": kind.name, "cases": cases, **found.as_dict(), "p_value_holm": adjusted}
            for s, kind, cases, found, adjusted in self.comparison
        ]
        return {**self.facts(rows), "rules": rules_as_dict(self.rules), "summary": self.summary.as_dict()}


def rules_as_dict(rules: ScoringRules) -> dict[str, Any]:
    """The rules as data, and the matching rule in words."""
    return {
        "matching": asdict(rules.matching),
        "matching_in_words": str(rules.matching),
        "nsd_tolerance_mm": rules.tolerance_mm,
        "consensus_share": rules.consensus_share,
        "intervals": "95 %, percentile bootstrap over patients; exact (Clopper-Pearson) where all or none succeed",
    }


def metric_name(name: str, rules: ScoringRules) -> str:
    """The name with what it depends on: ``NSD at 1 mm``."""
    return f"NSD at {rules.tolerance_mm:g} mm" if name == "NSD" else name


def code_sha256() -> str:
    """sha256 over the source files of this room: the version of the code that measured."""
    total = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        total.update(file.name.encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def evidence_bytes(record: EvaluationRecord) -> bytes:
    """The evidence file of a record; see :func:`evidence_table`.

    Raises
    ------
    InputError
        If a figure has no interval (fewer than two patients), or a stratum's name cannot be
        stored.
    """
    if record.summary.patients < 2:
        raise InputError(
            "evidence needs at least two patients, since its intervals are over patients",
            "evaluate more patients, or leave --evidence out",
        )
    scores = [score for score in _scores(record.summary, record.rules) if score is not None]
    return evidence_table(record, record.as_dict(), record.summary.cases, scores)


def evidence_table(
    record: Evaluated, details: Mapping[str, Any], cases: int, scores: Sequence[Mapping[str, Any]]
) -> bytes:
    """Canonical JSON of an evidence file, read back before it is handed out.

    It holds no case or patient names: failed cases are counted by kind of error.

    Parameters
    ----------
    details
        The record as data.
    cases
        How many were read.
    scores
        Rows as of :func:`score_of`.
    """
    details = _counted(details)
    if details["comparison"] is not None:
        details["comparison"] = _counted(details["comparison"])
    table = {
        "format": 1,
        "precision": record.model.precision,
        "graph_sha256": dict(record.model.graph_sha256),
        "engine": f"{record.model.engine}, ran {record.model.ran_precision}",
        "data": {
            "name": record.data.name[:200],
            "digest": record.data.digest,
            "cases": cases,
            "use": record.data.use,
        },
        "scores": list(scores),
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


def _counted(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table with its failed cases counted by kind of error instead of named."""
    kept = {name: value for name, value in table.items() if name != "failed"}
    return {**kept, "failed_by_error": dict(Counter(one["error"] for one in table["failed"]))}


def _scores(summary: SegmentationSummary, rules: ScoringRules) -> Iterator[dict[str, Any] | None]:
    for row in summary.metrics:
        yield score_of(metric_name(row.name, rules), row.segment.number, "all", row.mean, row.unit)
        if row.metric == "hd95":
            yield score_of("HD95 median", row.segment.number, "all", row.median, row.unit)
    for segment, table in summary.lesions:
        for line in table.rows:
            rates = {"sensitivity": line.sensitivity, "precision": line.precision, "F1": line.f1, "Dice": line.dice}
            for name, interval in rates.items():
                n = {"sensitivity": line.reference, "Dice": line.reference, "precision": line.found}.get(name)
                yield score_of(f"lesion {name}", segment.number, line.band, interval, "1", n)
        yield score_of("false lesions per case", segment.number, "all", table.false_per_case, "1")
    for entry in summary.presence:
        yield score_of("presence sensitivity", entry.segment.number, "all", entry.sensitivity, "1")
        yield score_of("presence specificity", entry.segment.number, "all", entry.specificity, "1")
    for agreed in summary.agreement:
        pair = (agreed.agreement.between, agreed.agreement.with_model)
        for name, interval in zip(("Dice between annotators", "Dice with annotators"), pair, strict=True):
            yield score_of(name, agreed.segment.number, agreed.band[:64], interval, "1")
    for segment, strata in summary.strata:
        for stratum in strata.rows:
            yield score_of(
                strata.metric, segment.number, f"{strata.column}={stratum.value}"[:64], stratum.interval, "1"
            )


def class_scores(summary: ClassSummary, segment: int | None = None) -> list[dict[str, Any]]:
    """A class's figures as the ``scores`` of an evidence file; strata that got a figure included."""
    rows = [(f"{summary.name} AUC", "all", summary.auc)]
    if summary.calibration is not None:
        rows.append((f"{summary.name} Brier score", "all", summary.calibration.brier))
        rows.append((f"{summary.name} calibration error", "all", summary.calibration.ece))
    for point in summary.points:
        rates = {"sensitivity": point.sensitivity, "specificity": point.specificity, "PPV": point.ppv, "NPV": point.npv}
        rows += [(f"{summary.name} {rate} ({point.name})", "all", found) for rate, found in rates.items()]
    for table in summary.strata:
        rows += [(f"{summary.name} AUC", f"{table.column}={row.value}", row.interval) for row in table.rows]
    scores = [score_of(metric[:64], segment, stratum[:64], found, "1") for metric, stratum, found in rows]
    return [score for score in scores if score is not None]


def score_of(
    metric: str, segment: int | None, stratum: str, interval: Interval | None, unit: str, n: int | None = None
) -> dict[str, Any] | None:
    """A row of an evidence file's ``scores``; ``None`` where the interval is not complete."""
    if interval is None or not all(math.isfinite(v) for v in (interval.mean, interval.low, interval.high)):
        return None
    return {
        "metric": metric,
        **({} if segment is None else {"segment": segment}),
        "stratum": stratum,
        "n": interval.cases if n is None else n,
        "value": interval.mean,
        "low": min(interval.low, interval.mean),
        "high": max(interval.high, interval.mean),
        "unit": unit,
    }


def median(values: Sequence[float]) -> float:
    """The middle value; 0 for none."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
