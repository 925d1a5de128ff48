"""Evaluate a package that answers classes, numbers or places: figures, strata, paired comparison."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hounsfield.errors import InputError
from hounsfield.evaluation.class_summary import ClassCases, summarise_class
from hounsfield.evaluation.classification import threshold_for_sensitivity, threshold_youden
from hounsfield.evaluation.comparison import Comparison, compare_auc, compare_paired, holm
from hounsfield.evaluation.dataset import Dataset
from hounsfield.evaluation.detection_summary import DetectedCase, DetectionSummary, summarise_detections
from hounsfield.evaluation.quantities import QuantitySummary, summarise_quantity
from hounsfield.evaluation.record import EvaluatedModel, EvaluatedOn, FailedCase
from hounsfield.evaluation.score_record import (
    AnsweredCase,
    ComparedScore,
    ScoreRecord,
    ScoreSummary,
    score_evidence_bytes,
)
from hounsfield.evaluation.score_report import render_scores
from hounsfield.evaluation.strata import age_band
from hounsfield.packages import ModelPackage
from hounsfield.usecases.events import OnEvent
from hounsfield.usecases.job import Choices
from hounsfield.usecases.over_cases import effort_of, over_cases, strata_of, warnings_of
from hounsfield.usecases.score_scoring import Floats, ScoreScorer, known_classes, known_numbers
from hounsfield.version import __version__

if TYPE_CHECKING:
    from hounsfield.usecases.evaluate import EvaluateRequest

SENSITIVITIES = (0.8, 0.9, 0.95)


@dataclass(frozen=True)
class _Answers:
    model: EvaluatedModel
    cases: tuple[AnsweredCase, ...]
    failed: tuple[FailedCase, ...]
    detections: tuple[tuple[DetectedCase, ...], ...] = ()
    voxels: tuple[tuple[Floats, Floats], ...] = ()


def evaluate_scores(
    package: ModelPackage,
    other: ModelPackage | None,
    data: Dataset,
    request: EvaluateRequest,
    facts: EvaluatedOn,
    on_event: OnEvent,
) -> tuple[ScoreRecord, tuple[AnsweredCase, ...]]:
    """Answer every case, compare, sum up.

    Raises
    ------
    InputError
        If the table does not say the classes, or not one case could be answered.
    """
    _demand_same_answers(package, other)
    first = _answer_all(package, request.choices, data, request, on_event)
    second = None
    if other is not None:
        second = _answer_all(other, request.against_choices or request.choices, data, request, on_event)
    strata = strata_of(first.cases, request.strata)
    summary = summarise_scores(package, first.cases, strata, request.seed, request.minimum_patients)
    if package.manifest.output.boxes:
        summary = replace(summary, detections=_detections(package, first, data, request.seed))
    if first.voxels:
        summary = replace(summary, quantities=_voxelwise(package, first, request.seed))
    record = ScoreRecord(
        model=first.model,
        data=facts,
        seed=request.seed,
        software_version=__version__,
        created=dt.datetime.now().astimezone().isoformat(timespec="seconds"),
        summary=summary,
        failed=first.failed,
        effort=effort_of(first.cases),
        notes=tuple(warnings_of(first.cases)),
        proposed=_proposed(package, first.cases),
        compared_with=None if second is None else second.model,
        comparison=() if second is None else _compare(package, first.cases, second.cases, request.seed),
        compared_failed=() if second is None else second.failed,
    )
    return record, first.cases


def summarise_scores(
    package: ModelPackage, cases: Sequence[AnsweredCase], strata: Sequence[str], seed: int, minimum: int
) -> ScoreSummary:
    """The figures of every reported class, or of every quantity."""
    patients = tuple(case.patient_id for case in cases)
    columns = {name: tuple(_group(case, name) for case in cases) for name in strata}
    classes = []
    for spec in package.manifest.output.classes:
        if spec.reported:
            own = ClassCases(
                spec.label,
                tuple(case.known[spec.label] > 0 for case in cases),
                tuple(case.answers[spec.label] for case in cases),
                patients,
                columns,
            )
            points = {point.name: point.threshold for point in spec.operating_points}
            classes.append(summarise_class(own, points, strata, seed, minimum))
    numbers = tuple(
        summarise_quantity(
            spec.label,
            spec.unit.value,
            [case.known[spec.label] for case in cases],
            [case.answers[spec.label] for case in cases],
            patients,
            seed,
        )
        for spec in package.manifest.output.quantities
    )
    return ScoreSummary(len(cases), len(set(patients)), tuple(classes), numbers)


def _voxelwise(package: ModelPackage, read: _Answers, seed: int) -> tuple[QuantitySummary, ...]:
    """The figures of every map, voxel by voxel; intervals are over patients all the same."""
    counts = [known.shape[1] for known, _ in read.voxels]
    patients = [case.patient_id for case, count in zip(read.cases, counts, strict=True) for _ in range(count)]
    known, found = (np.concatenate([pair[side] for pair in read.voxels], axis=1) for side in (0, 1))
    return tuple(
        summarise_quantity(spec.label, spec.unit.value, known[n].tolist(), found[n].tolist(), patients, seed)
        for n, spec in enumerate(package.manifest.output.quantities)
    )


def _detections(package: ModelPackage, read: _Answers, data: Dataset, seed: int) -> tuple[DetectionSummary, ...]:
    """FROC and CPM of every kind that the references hold."""
    made = []
    for kind, spec in enumerate(package.manifest.output.boxes):
        cases = [one[kind] for one in read.detections]
        if any(case.targets for case in cases):
            made.append(summarise_detections(spec.label, cases, None, seed))
    if not made:
        raise InputError("no case holds a lesion, so nothing can be found", "add cases with labels", data.path)
    return tuple(made)


def files_of(record: ScoreRecord, cases: Sequence[AnsweredCase]) -> dict[str, tuple[str, Any]]:
    """Kind to name and content of what is written besides the evidence; data are not yet JSON."""
    rows = [
        {
            "case_id": case.case_id,
            "seconds": round(case.seconds, 4),
            "warnings": list(case.warnings),
            "answers": dict(case.answers),
            "known": dict(case.known),
        }
        for case in cases
    ]
    return {
        "json": ("evaluation.json", record.as_dict()),
        "cases": ("cases.json", {"data_digest": record.data.digest, "cases": rows}),
        "report": ("report.html", render_scores(record).encode("utf-8")),
    }


def why_no_evidence(record: ScoreRecord) -> str | None:
    """Why these figures are no evidence, or ``None``."""
    if record.data.part.lower() in ("train", "training"):
        return "the model was trained on these cases"
    if record.model.ran_precision != record.model.precision:
        return f"{record.model.precision} was asked for, {record.model.ran_precision} ran"
    try:
        score_evidence_bytes(record)
    except InputError as error:
        return error.fact
    return None


def _answer_all(
    package: ModelPackage, choices: Choices, data: Dataset, request: EvaluateRequest, on_event: OnEvent
) -> _Answers:
    manifest, known = package.manifest, {}
    if manifest.output.classes:
        known = known_classes(data, package, request.target)
    elif manifest.output.quantities and not (manifest.input.times and manifest.input.times.every_voxel):
        known = known_numbers(data, package)
    scorer = ScoreScorer(package, replace(choices, allow_unproven=True), known)
    model = over_cases(scorer, package, choices, data, on_event)
    return _Answers(model, tuple(scorer.cases), tuple(scorer.failed), tuple(scorer.detections), tuple(scorer.voxels))


def _demand_same_answers(package: ModelPackage, other: ModelPackage | None) -> None:
    def names(one: ModelPackage) -> list[str]:
        output = one.manifest.output
        return [spec.label for spec in output.classes if spec.reported] + [spec.label for spec in output.quantities]

    if other is not None and names(package) != names(other):
        raise InputError(
            f"{package.reference} and {other.reference} do not answer the same classes or quantities",
            "compare packages whose reported answers have the same labels",
        )


def _group(case: AnsweredCase, column: str) -> str:
    cell = case.columns.get(column, "")
    if column != "age_years":
        return cell
    try:
        return age_band(float(cell))
    except ValueError:
        return age_band(None)


def _proposed(package: ModelPackage, cases: Sequence[AnsweredCase]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for spec in package.manifest.output.classes:
        truth = [case.known[spec.label] > 0 for case in cases]
        if spec.reported and any(truth) and not all(truth):
            scores = [case.answers[spec.label] for case in cases]
            rows = {"Youden": threshold_youden(truth, scores)}
            rows |= {f"sensitivity {s:g}": threshold_for_sensitivity(truth, scores, s) for s in SENSITIVITIES}
            found[spec.label] = rows
    return found


def _compare(
    package: ModelPackage, first: Sequence[AnsweredCase], second: Sequence[AnsweredCase], seed: int
) -> tuple[ComparedScore, ...]:
    """AUC and Brier score of every reported class, the error of every quantity, on the cases that both answered."""
    partner = {case.case_id: case for case in second}
    pairs = [(case, partner[case.case_id]) for case in first if case.case_id in partner]
    patients = [case.patient_id for case, _ in pairs]
    rows: list[tuple[str, str, Comparison]] = []
    for spec in package.manifest.output.classes:
        truth = [case.known[spec.label] > 0 for case, _ in pairs]
        if not spec.reported or not any(truth) or all(truth):
            continue
        one, two = ([pair[n].answers[spec.label] for pair in pairs] for n in (0, 1))
        rows.append((spec.label, "AUC", compare_auc(truth, one, two, patients, seed)))
        gaps = [[(said - known) ** 2 for said, known in zip(side, truth, strict=True)] for side in (one, two)]
        rows.append((spec.label, "Brier score", compare_paired(gaps[0], gaps[1], patients, seed)))
    for quantity in package.manifest.output.quantities:
        label = quantity.label
        errors = [[abs(pair[n].answers[label] - pair[n].known[label]) for pair in pairs] for n in (0, 1)]
        rows.append((label, "absolute error", compare_paired(errors[0], errors[1], patients, seed)))
    adjusted = holm([row[2].p_value for row in rows])
    return tuple(ComparedScore(*row[:2], len(pairs), row[2], p) for row, p in zip(rows, adjusted, strict=True))
