"""Let a lower precision of a package stand for a clinical gate against its fp32, and write the verdict."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hounsfield.compression.gate import Gate, GateOutcome, chosen_segments, judge
from hounsfield.compression.gate_file import GateRule, read_gate
from hounsfield.compression.gate_report import gate_markdown
from hounsfield.compression.unseen import demand_unseen
from hounsfield.errors import EngineUnavailable, SettingsError
from hounsfield.evaluation.dataset import Dataset, read_dataset
from hounsfield.evaluation.record import EvaluatedModel, EvaluatedOn, FailedCase, rules_as_dict
from hounsfield.evaluation.scoring import ScoredSegment, ScoringRules
from hounsfield.packages import ModelPackage, open_package
from hounsfield.usecases.evaluate import (
    EvaluateRequest,
    ReadCases,
    data_facts,
    demand_empty,
    demand_strata,
    json_bytes,
    part_of,
    read_all,
    whole_folder,
)
from hounsfield.usecases.events import Note, OnEvent, silent
from hounsfield.usecases.job import Choices
from hounsfield.version import __version__


@dataclass(frozen=True)
class GateRequest:
    """What is to be judged on what.

    Parameters
    ----------
    model, dataset, output, split_file, part
        As of :class:`hounsfield.usecases.evaluate.EvaluateRequest`.
    gate
        The rule (:mod:`hounsfield.compression.gate_file`).
    candidate, against
        The precisions to compare.
    used
        Tables that trained or calibrated the model: no patient or image of theirs may be there.
    choices
        Engine, threads, repair; the precision in it is not looked at.
    """

    model: str | Path
    dataset: Path
    gate: Path
    output: Path
    candidate: str = "bf16"
    against: str = "fp32"
    split_file: Path | None = None
    part: str = ""
    used: tuple[Path, ...] = ()
    choices: Choices = field(default_factory=Choices)
    rules: ScoringRules = field(default_factory=ScoringRules)


@dataclass(frozen=True)
class GateRecord:
    """All that ``gate.json`` says."""

    rule: GateRule
    gate_sha256: str
    candidate: EvaluatedModel
    against: EvaluatedModel
    data: EvaluatedOn
    rules: ScoringRules
    compared_for_leaks: tuple[str, ...]
    outcome: GateOutcome
    failed: tuple[FailedCase, ...]
    created: str

    def as_dict(self) -> dict[str, Any]:
        """Everything as data for JSON."""
        return {
            "format": 1,
            **self.outcome.as_dict(),
            "gate": self.rule.model_dump(mode="json"),
            "gate_sha256": self.gate_sha256,
            "candidate": asdict(self.candidate),
            "against": asdict(self.against),
            "data": asdict(self.data),
            "rules": rules_as_dict(self.rules),
            "compared_for_leaks": list(self.compared_for_leaks),
            "failed": [asdict(one) for one in self.failed],
            "software_version": __version__,
            "created": self.created,
        }


@dataclass(frozen=True)
class GateResult:
    """The record, and the files that were written."""

    record: GateRecord
    outputs: Mapping[str, Path]

    @property
    def passed(self) -> bool:
        """Whether every stratum passed."""
        return self.record.outcome.verdict == "pass"

    def as_dict(self) -> dict[str, Any]:
        """The outcome as data, for ``--json``."""
        return {**self.record.as_dict(), "outputs": {kind: str(path) for kind, path in self.outputs.items()}}


def run_gate(request: GateRequest, on_event: OnEvent = silent) -> GateResult:
    """Read every case with both precisions, judge, write ``gate.json`` and ``gate.md``.

    Raises
    ------
    SettingsError
        If the gate file is wrong, or does not fit the package.
    InputError
        If the table is wrong, holds what the model learned from, or no case could be scored.
    PackageError
        If the package cannot be used, or has no such precision.
    EngineUnavailable
        If this machine runs the candidate in another arithmetic: the verdict would be about that.
    OutputExists
        If the output folder is not empty.
    """
    rule = read_gate(request.gate)
    package = open_package(request.model)
    demand_fit(package, rule, request.gate)
    _demand_precisions(request)
    asked = asked_of(request, request.candidate, rule)
    data = part_of(asked, labels=True, images=True)
    demand_strata(asked, data)
    demand_empty(request.output)
    compared = demand_unseen(
        data, _whole(request), [read_dataset(path, labels=False) for path in request.used], package
    )
    if not compared:
        on_event(Note("neither package nor table says what trained the model: name its tables with --used", "warn"))
    judged = judge_package(package, data, compared, request, on_event)
    return GateResult(judged.record, write_gate(judged, package, data, request))


@dataclass(frozen=True)
class Judged:
    """The verdict, and the cases as the reference and as the candidate read them."""

    record: GateRecord
    reference: ReadCases
    candidate: ReadCases


def judge_package(
    package: ModelPackage,
    data: Dataset,
    compared: tuple[str, ...],
    request: GateRequest,
    on_event: OnEvent = silent,
    reference: ReadCases | None = None,
) -> Judged:
    """Read every case with both precisions and judge; nothing is written.

    Parameters
    ----------
    data
        The cases to judge on.
    compared
        What they were compared with for leaks, in words.
    reference
        The cases as the reference read them, if that was done already or by another package.
    """
    rule = read_gate(request.gate)
    first = reference or read_with(package, data, request, request.against, rule, on_event)
    second = read_with(package, data, request, request.candidate, rule, on_event)
    record = GateRecord(
        rule=rule,
        gate_sha256=hashlib.sha256(request.gate.read_bytes()).hexdigest(),
        candidate=second.model,
        against=first.model,
        data=data_facts(data, asked_of(request, request.candidate, rule)),
        rules=request.rules,
        compared_for_leaks=compared,
        outcome=judge(Gate(rule, first.cases, second.cases)),
        failed=_failed(first.failed, second.failed),
        created=dt.datetime.now().astimezone().isoformat(timespec="seconds"),
    )
    return Judged(record, first, second)


def demand_fit(package: ModelPackage, rule: GateRule, path: Path) -> None:
    """Refuse a package or a rule that the gate cannot judge."""
    if package.manifest.task != "segmentation":
        fact = f"{package.reference} does {package.manifest.task}; the gate judges segmentation"
        raise SettingsError(fact, "compare its precisions with hounsfield evaluate --against", path)
    segments = [ScoredSegment(spec.number, spec.label, spec.lesion) for spec in package.manifest.output.segments]
    for criterion in rule.criteria:
        chosen_segments(criterion, segments)


def _demand_precisions(request: GateRequest) -> None:
    if request.candidate == request.against:
        raise SettingsError("candidate and reference are the same precision", "name another candidate")
    for precision in (request.against, request.candidate):
        if precision not in ("fp32", "bf16", "fp16", "int8"):
            raise SettingsError(f"there is no precision {precision!r}", "choose fp32, bf16, fp16 or int8")


def asked_of(request: GateRequest, precision: str, rule: GateRule) -> EvaluateRequest:
    """The evaluation that reads the gate's cases with one precision."""
    return EvaluateRequest(
        model=request.model,
        dataset=request.dataset,
        output=request.output,
        split_file=request.split_file,
        part=request.part,
        choices=replace(request.choices, precision=precision),
        rules=request.rules,
        strata=rule.columns,
        worst=0,
    )


def _whole(request: GateRequest) -> Dataset:
    return read_dataset(request.dataset, split_file=request.split_file)


def read_with(
    package: ModelPackage, data: Dataset, request: GateRequest, precision: str, rule: GateRule, on_event: OnEvent
) -> ReadCases:
    """Every case of the gate, read by one package in one precision.

    Raises
    ------
    EngineUnavailable
        If another arithmetic ran.
    """
    asked = asked_of(request, precision, rule)
    found = read_all(package, asked.choices, data, asked, on_event)
    if found.model.ran_precision != precision:
        raise EngineUnavailable(
            f"{precision} was asked for, {found.model.ran_precision} ran: the gate would judge another arithmetic",
            "choose a machine, an engine and a graph that compute in that precision",
        )
    return found


def _failed(first: Sequence[FailedCase], second: Sequence[FailedCase]) -> tuple[FailedCase, ...]:
    """Every case that one of them could not read, once."""
    return tuple({one.case_id: one for one in (*second, *first)}.values())


def write_gate(
    judged: Judged, package: ModelPackage, data: Dataset, request: GateRequest, teacher: ModelPackage | None = None
) -> dict[str, Path]:
    """Write ``gate.json`` and ``gate.md`` into a folder of their own, and pictures of lesions lost and gained.

    Parameters
    ----------
    teacher
        The package that read as the reference, where it is another one.
    """
    from hounsfield.usecases.lesion_pictures import lesion_page

    record, output = judged.record, request.output
    against, candidate, outcome = record.against, record.candidate, record.outcome
    facts = {
        "model": f"{candidate.title} ({candidate.reference}, package digest {candidate.digest})",
        "candidate": f"{candidate.precision}, {candidate.engine}, ran {candidate.ran_precision}",
        "reference": f"{against.precision}, {against.engine}, ran {against.ran_precision}",
        "data": f"{record.data.name}, part {record.data.part!r}; digest {record.data.digest}",
        "cases": f"{outcome.cases} read by both, {outcome.patients} patients; {len(record.failed)} failed",
        "not seen in training": "; ".join(record.compared_for_leaks) or "not checked: nothing says what trained it",
        "lesions": str(record.rules.matching),
        "gate file": f"sha256 {record.gate_sha256}",
        "made": f"{record.created}, hounsfield {__version__}",
    }
    title = f"Gate: {candidate.reference}, {candidate.precision} against {against.precision}"
    if teacher is not None:
        title = f"Gate: {candidate.reference} against {against.reference}"
        facts["reference"] = f"{against.reference} (package digest {against.digest}), {facts['reference']}"
    files = {
        "json": ("gate.json", json_bytes(record.as_dict())),
        "report": ("gate.md", gate_markdown(title, facts, record.rule, outcome).encode("utf-8")),
    }
    page = lesion_page(outcome.changes, (teacher or package, package), data, request)
    if page is not None:
        files["pictures"] = ("lesions.html", page.encode("utf-8"))
    with whole_folder(output) as partial:
        for name, content in files.values():
            (partial / name).write_bytes(content)
    return {kind: output / name for kind, (name, _) in files.items()}
