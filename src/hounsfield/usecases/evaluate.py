"""Let a model read a data set with known answers, and write how good it is, for whom, and where not."""

from __future__ import annotations

import datetime as dt
import difflib
import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hounsfield.errors import InputError, OutputError, OutputExists
from hounsfield.evaluation.dataset import Dataset, content_digest, read_dataset
from hounsfield.evaluation.record import (
    EvaluatedModel,
    EvaluatedOn,
    EvaluationRecord,
    FailedCase,
    Use,
    evidence_bytes,
)
from hounsfield.evaluation.report import WorstCase, render
from hounsfield.evaluation.score_record import AnsweredCase, ScoreRecord, score_evidence_bytes
from hounsfield.evaluation.scoring import ScoringRules
from hounsfield.evaluation.strata import MINIMUM_PATIENTS
from hounsfield.evaluation.summary import METRICS, ScoredCase, compare_models, summarise
from hounsfield.packages import ModelPackage, open_package
from hounsfield.usecases.case_scoring import CaseScorer, acquired
from hounsfield.usecases.events import Note, OnEvent, silent
from hounsfield.usecases.job import Choices
from hounsfield.usecases.over_cases import effort_of, over_cases, strata_of, warnings_of
from hounsfield.usecases.sessions import Sessions
from hounsfield.version import __version__
from hounsfield.volume import Acquisition

_USES: Mapping[str, Use] = {"test": "test", "validation": "validation", "val": "validation", "valid": "validation"}


@dataclass(frozen=True)
class EvaluateRequest:
    """What to evaluate on what.

    Parameters
    ----------
    model
        Id, ``id-version`` or folder of a model package.
    dataset
        The table (:mod:`hounsfield.evaluation.dataset`).
    output
        Folder for the results: new or empty.
    split_file
        JSON with the case ids of each split, instead of the table's column.
    part
        The split to evaluate; empty means ``test`` where the table has splits, else every case.
    choices
        Precision, engine, threads, repair. Evidence is what is being made, so none is demanded.
    rules
        Matching rule, surface tolerance, consensus.
    strata
        Columns to split by; ``None`` takes those of sex, age_years, manufacturer and site that
        the table or the scans' headers tell.
    against
        A second package to compare with, case by case.
    against_choices
        How it is run; by default like the first.
    worst
        How many of the worst cases to draw.
    target
        Column of the class, where the package does not name it.
    """

    model: str | Path
    dataset: Path
    output: Path
    split_file: Path | None = None
    part: str = ""
    choices: Choices = field(default_factory=Choices)
    rules: ScoringRules = field(default_factory=ScoringRules)
    strata: tuple[str, ...] | None = None
    against: str | Path | None = None
    against_choices: Choices | None = None
    worst: int = 12
    seed: int = 0
    minimum_patients: int = MINIMUM_PATIENTS
    target: str = ""


@dataclass(frozen=True)
class EvaluateResult:
    """The record of the evaluation, its single cases, and the files that were written."""

    record: EvaluationRecord | ScoreRecord
    cases: tuple[ScoredCase, ...] | tuple[AnsweredCase, ...]
    outputs: Mapping[str, Path]

    @property
    def succeeded(self) -> bool:
        """Whether every case was scored, by both models where two are compared."""
        return not self.record.failed and not self.record.compared_failed

    def as_dict(self) -> dict[str, Any]:
        """The outcome as data, for ``--json``."""
        return {
            **self.record.as_dict(),
            "succeeded": self.succeeded,
            "outputs": {kind: str(path) for kind, path in self.outputs.items()},
        }


def evaluate(request: EvaluateRequest, on_event: OnEvent = silent) -> EvaluateResult:
    """Read, compare, sum up, write. A case that fails is named and counted, and stops no other.

    Raises
    ------
    PackageError
        If a package cannot be used.
    InputError
        If the table is wrong, or not one case could be scored.
    OutputExists
        If the output folder is not empty.
    """
    package = open_package(request.model)
    times = package.manifest.input.times
    labels = package.manifest.task in ("segmentation", "detection") or (times is not None and times.every_voxel)
    other = None if request.against is None else open_package(request.against)
    data = part_of(request, labels, bool(package.manifest.input.channels))
    demand_strata(request, data)
    demand_empty(request.output)
    if package.manifest.task != "segmentation":
        return _scores(package, other, data, request, on_event)
    demand_same_segments(package, other)
    first = read_all(package, request.choices, data, request, on_event)
    second = None
    if other is not None:
        second = read_all(other, request.against_choices or request.choices, data, request, on_event)
    on_event(Note(f"summing up {len(first.cases)} cases"))
    return _write(record_of(first, second, data, request), first, request.output, on_event)


def record_of(first: ReadCases, second: ReadCases | None, data: Dataset, request: EvaluateRequest) -> EvaluationRecord:
    """Everything that an evaluation says of the cases that were read, by one package or by two."""
    summary = summarise(first.cases, strata_of(first.cases, request.strata), request.seed, request.minimum_patients)
    comparison = () if second is None else compare_models(first.cases, second.cases, request.seed)
    return EvaluationRecord(
        model=first.model,
        data=data_facts(data, request),
        rules=request.rules,
        seed=request.seed,
        software_version=__version__,
        created=dt.datetime.now().astimezone().isoformat(timespec="seconds"),
        summary=summary,
        failed=first.failed,
        effort=effort_of(first.cases),
        notes=tuple(_notes(first)),
        compared_with=None if second is None else second.model,
        comparison=comparison,
        compared_failed=() if second is None else second.failed,
    )


@dataclass(frozen=True)
class ReadCases:
    """One package over the whole data set."""

    model: EvaluatedModel
    cases: tuple[ScoredCase, ...]
    failed: tuple[FailedCase, ...]
    worst: tuple[WorstCase, ...]
    foreign: Mapping[int, int]


def _scores(
    package: ModelPackage, other: ModelPackage | None, data: Dataset, request: EvaluateRequest, on_event: OnEvent
) -> EvaluateResult:
    """The evaluation of a package that answers something else than labels."""
    from hounsfield.usecases.evaluate_scores import evaluate_scores, files_of, why_no_evidence

    record, cases = evaluate_scores(package, other, data, request, data_facts(data, request), on_event)
    files = files_of(record, cases)
    reason = why_no_evidence(record)
    if reason is None:
        files["evidence"] = (f"evidence-{record.model.precision}.json", score_evidence_bytes(record))
    else:
        on_event(Note(f"no evidence file was written: {reason}", "warn"))
    with whole_folder(request.output) as partial:
        for name, content in files.values():
            (partial / name).write_bytes(content if isinstance(content, bytes) else json_bytes(content))
    return EvaluateResult(record, cases, {kind: request.output / name for kind, (name, _) in files.items()})


def part_of(request: EvaluateRequest, labels: bool, images: bool) -> Dataset:
    """The cases of the part that was asked for, by default the split ``test`` where there are splits."""
    data = read_dataset(request.dataset, split_file=request.split_file, labels=labels, images=images)
    part = request.part or ("test" if any(data.splits) else "")
    return data.part(part) if part else data


def demand_strata(request: EvaluateRequest, data: Dataset) -> None:
    """Refuse a column that neither the table nor a scan's header can have."""
    known = {name for case in data.cases for name in case.columns} | set(acquired(Acquisition()))
    for name in request.strata or ():
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"did you mean {near[0]!r}" if near else f"choose from: {', '.join(sorted(known))}"
            raise InputError(f"the table has no column {name!r} to split by", hint, data.path)


def demand_same_segments(package: ModelPackage, other: ModelPackage | None) -> None:
    """Refuse two packages whose answers cannot be compared."""

    def names(one: ModelPackage) -> list[tuple[int, str, bool]]:
        return [(spec.number, spec.type.value, spec.lesion) for spec in one.manifest.output.segments]

    if other is not None and names(package) != names(other):
        raise InputError(
            f"{package.reference} and {other.reference} do not answer the same segments",
            "compare packages whose segments have the same numbers and codes",
        )


def read_all(
    package: ModelPackage,
    choices: Choices,
    data: Dataset,
    request: EvaluateRequest,
    on_event: OnEvent,
    sessions: Sessions | None = None,
) -> ReadCases:
    """Score every case with one package at one precision; a case that fails is kept by name."""
    scorer = CaseScorer(package, replace(choices, allow_unproven=True), request.rules, request.worst, sessions)
    model = over_cases(scorer, package, choices, data, on_event)
    return ReadCases(model, tuple(scorer.cases), tuple(scorer.failed), scorer.worst, scorer.foreign)


def data_facts(data: Dataset, request: EvaluateRequest) -> EvaluatedOn:
    """What was evaluated on: name, digest, part and use of the data."""
    part = data.cases[0].split if len(data.splits) == 1 else ""
    return EvaluatedOn(
        name=data.path.stem,
        digest=data.digest(),
        part=part or "all",
        use=_USES.get(part.lower(), "external"),
        cases=len(data.cases),
        split_file_sha256=None if request.split_file is None else content_digest(request.split_file),
    )


def _notes(read: ReadCases) -> Iterator[str]:
    for label, count in sorted(read.foreign.items()):
        where = f"label {label} is in the reference of {count} {'case' if count == 1 else 'cases'}"
        yield f"{where}, but the model does not answer it: it counts as background"
    yield from warnings_of(read.cases)


def _write(record: EvaluationRecord, read: ReadCases, output: Path, on_event: OnEvent) -> EvaluateResult:
    files = {
        "json": ("evaluation.json", json_bytes(record.as_dict())),
        "cases": (
            "cases.json",
            json_bytes({"data_digest": record.data.digest, "cases": [_case(c) for c in read.cases]}),
        ),
        "report": ("report.html", render(record, read.cases, read.worst).encode("utf-8")),
    }
    reason = _why_no_evidence(record)
    if reason is None:
        files["evidence"] = (f"evidence-{record.model.precision}.json", evidence_bytes(record))
    else:
        on_event(Note(f"no evidence file was written: {reason}", "warn"))
    with whole_folder(output) as partial:
        for name, data in files.values():
            (partial / name).write_bytes(data)
    return EvaluateResult(record, read.cases, {kind: output / name for kind, (name, _) in files.items()})


def _why_no_evidence(record: EvaluationRecord) -> str | None:
    if record.data.part.lower() in ("train", "training"):
        return "the model was trained on these cases"
    if record.summary.patients < 2:
        return "intervals over patients need at least two patients"
    if record.model.ran_precision != record.model.precision:
        return f"{record.model.precision} was asked for, {record.model.ran_precision} ran"
    return None


def _case(case: ScoredCase) -> dict[str, Any]:
    return {
        "case_id": case.case_id,
        "seconds": round(case.seconds, 4),
        "warnings": list(case.warnings),
        "segments": [
            {
                "segment": scores.segment.number,
                **{kind.key: _finite(kind.of(scores)) for kind in METRICS},
                "reference_ml": scores.reference_ml,
                "found_ml": scores.found_ml,
                "lesions": None
                if scores.lesions is None
                else {
                    "reference_mm": [round(x.diameter_mm, 2) for x in scores.lesions.reference],
                    "missed_mm": [round(x.diameter_mm, 2) for x in scores.lesions.missed],
                    "false_mm": [round(x.diameter_mm, 2) for x in scores.lesions.false],
                },
            }
            for scores in case.segments
        ],
    }


def _finite(value: float) -> float | None:
    from hounsfield.evaluation.bootstrap import finite

    return finite(value)


def json_bytes(data: object) -> bytes:
    """Readable strict JSON."""
    return (json.dumps(data, indent=1, allow_nan=False) + "\n").encode("utf-8")


def demand_empty(output: Path) -> None:
    """Refuse a folder that holds something already."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputExists("the output folder is not empty", "choose another folder", output)


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """A folder that gets its name only when everything in it was written."""
    output = output.absolute()
    partial = output.parent / f".partial-{output.name}-{secrets.token_hex(4)}"
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.replace(output)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise OutputError(f"the results cannot be written ({reason})", "choose another folder", output) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
