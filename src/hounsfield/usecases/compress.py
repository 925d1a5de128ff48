"""Make a lower precision of a package, and let it stand for a clinical gate: a new version with the proof inside."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hounsfield.compression.compress_report import Compression, compress_markdown, compression_details
from hounsfield.compression.gate_file import GateRule, read_gate
from hounsfield.compression.quantising import demand_int8_machine, demand_quantiser
from hounsfield.compression.unseen import TRAINING_PARTS, demand_apart, demand_unseen, learned_cases
from hounsfield.compression.weights16 import with_16bit_weights
from hounsfield.errors import InputError, PackageInvalid, SettingsError
from hounsfield.evaluation.dataset import Dataset, read_dataset
from hounsfield.evaluation.scoring import ScoringRules
from hounsfield.packages import ModelPackage, build, evidence_json, open_package
from hounsfield.planning.machine import read_machine
from hounsfield.usecases.drafting import draft_package, files_with, manifest_with
from hounsfield.usecases.evaluate import ReadCases, demand_empty, demand_strata, json_bytes, part_of, whole_folder
from hounsfield.usecases.events import Note, OnEvent, silent
from hounsfield.usecases.gate import GateRequest, Judged, asked_of, demand_fit, judge_package, write_gate
from hounsfield.usecases.job import Choices
from hounsfield.usecases.proving import proven_evidence

KINDS = ("int8", "fp16", "bf16")


@dataclass(frozen=True)
class CompressRequest:
    """What is to be made of a package, from what, and how it is judged.

    Parameters
    ----------
    model
        A segmentation package with an fp32 graph.
    to
        ``"int8"``, ``"fp16"`` or ``"bf16"``.
    gate
        The rule of the verdict.
    output
        Folder for the new package and the reports: new or empty.
    calibration, calibration_part
        Table with cases that set the ranges of int8 and say which layers stay in float; by default its
        part ``calibration`` or ``validation``.
    test, part, split_file
        Table, part and split of the cases that are judged; by default the calibration's table, and the
        split file then holds for both.
    used
        Tables that trained the model: neither calibration nor test may have a patient or image of theirs.
    quantiser
        ``"nncf"`` or ``"onnxruntime"``; empty takes the one of the engine.
    windows
        Most windows to calibrate with.
    exclude
        Layers that stay in float whatever is measured.
    plain
        Exclude no further layer, even if the calibration cases show a loss.
    version
        Of the new package; by default the next minor one.
    keep_failed
        Build the package even if its gate failed; it then runs with ``--allow-unproven`` only.
    """

    model: str | Path
    to: str
    gate: Path
    output: Path
    calibration: Path | None = None
    calibration_part: str = ""
    test: Path | None = None
    part: str = ""
    split_file: Path | None = None
    used: tuple[Path, ...] = ()
    quantiser: str = ""
    windows: int = 64
    exclude: tuple[str, ...] = ()
    plain: bool = False
    version: str = ""
    keep_failed: bool = False
    choices: Choices = field(default_factory=Choices)
    rules: ScoringRules = field(default_factory=ScoringRules)


@dataclass(frozen=True)
class CompressResult:
    """The new package (None where its gate failed), the verdict, what was done, and the files."""

    package: ModelPackage | None
    judged: Judged
    compression: Compression
    outputs: Mapping[str, Path]

    @property
    def passed(self) -> bool:
        """Whether the gate was passed."""
        return self.judged.record.outcome.verdict == "pass"

    def as_dict(self) -> dict[str, Any]:
        """The outcome as data, for ``--json``."""
        made = self.package
        return {
            "verdict": self.judged.record.outcome.verdict,
            "package": None if made is None else {"reference": made.reference, "digest": made.digest},
            "compression": compression_details(self.compression),
            "gate": self.judged.record.as_dict(),
            "outputs": {kind: str(path) for kind, path in self.outputs.items()},
        }


def compress(
    request: CompressRequest, on_event: OnEvent = silent, reference: ReadCases | None = None
) -> CompressResult:
    """Make the graph, judge it once on the test cases, build the new version with its evidence.

    Parameters
    ----------
    reference
        The test cases as the package's fp32 graph read them, if that was done already for another precision.

    Raises
    ------
    SettingsError, PackageInvalid
        If the package, the rule or the wish does not fit, or the quantiser cannot take the graph.
    PluginError, EngineUnavailable
        If the quantiser is not installed, or the processor has no int8 instructions; before anything is computed.
    InputError
        If calibration, test and training cases overlap.
    OutputExists
        If the output folder is not empty.
    """
    rule, package = read_gate(request.gate), open_package(request.model)
    _demand_sense(request, package)
    judging = _judging(request)
    demand_fit(package, rule, request.gate)
    if request.to == "int8":
        demand_int8_machine(read_machine())
        demand_quantiser(quantiser_of(request))
    demand_empty(request.output)
    asked = asked_of(judging, request.to, rule)
    test = part_of(asked, labels=True, images=True)
    demand_strata(asked, test)
    calibration = _calibration(request)
    compared = _demand_apart(request, test, calibration, package)
    if not compared:
        on_event(Note("neither package nor table says what trained the model: name its tables with --used", "warn"))
    with tempfile.TemporaryDirectory() as scratch:
        made = _made(request, package, rule, calibration, Path(scratch), on_event)
        draft = draft_package(package, made, Path(scratch) / "judged")
        on_event(Note(f"judging {request.to} on {len(test.cases)} test cases"))
        judging = replace(judging, model=draft.root, output=Path(scratch) / "gate")
        known = None if reference is None else _read_by(draft, reference)
        judged = judge_package(draft, test, compared, judging, on_event, known)
        write_gate(judged, draft, test, judging)
        return _write(request, package, made, judged, test, rule, judging.output)


def _read_by(draft: ModelPackage, reference: ReadCases) -> ReadCases:
    """What the same fp32 graph read before, said of the draft."""
    used = {name: draft.files.get(name) for name in reference.model.graph_sha256}
    if reference.model.precision != "fp32" or used != dict(reference.model.graph_sha256):
        raise SettingsError("the reference was read by another graph", "leave it out")
    return replace(reference, model=replace(reference.model, reference=draft.reference, digest=draft.digest))


def quantiser_of(request: CompressRequest) -> str:
    """The quantiser that was asked for, else the one whose graphs the engine runs as integers."""
    return request.quantiser or ("onnxruntime" if request.choices.engine == "onnxruntime" else "nncf")


def _demand_sense(request: CompressRequest, package: ModelPackage) -> None:
    if request.to not in KINDS:
        raise SettingsError(f"there is no way to compress to {request.to!r}", f"choose one of: {', '.join(KINDS)}")
    if request.to == "int8" and request.calibration is None:
        raise SettingsError("int8 needs cases to calibrate with", "give their table with --calibration")
    if request.calibration is None and request.test is None:
        raise SettingsError("there are no cases to judge on", "give their table with --test")
    graphs = {graph.precision for graph in package.manifest.graphs}
    if "fp32" not in graphs or package.manifest.steps:
        fact = "has no fp32 graph" if "fp32" not in graphs else "is a package of steps"
        raise PackageInvalid(f"{package.reference} {fact}: there is nothing to compress", "give one fp32 graph")
    if request.to in graphs:
        fact = f"{package.reference} has an {request.to} graph already"
        raise PackageInvalid(fact, "compress the version before it")


def _judging(request: CompressRequest) -> GateRequest:
    table = request.test or request.calibration or Path()
    return GateRequest(
        model=request.model,
        dataset=table,
        gate=request.gate,
        output=request.output / "gate",
        candidate=request.to,
        split_file=request.split_file,
        part=request.part,
        used=request.used,
        choices=request.choices,
        rules=request.rules,
    )


def _calibration(request: CompressRequest) -> Dataset | None:
    """The calibration cases; their labels say which layers must be left out."""
    if request.to != "int8" or request.calibration is None:
        return None
    own = request.split_file if request.test is None else None
    whole = read_dataset(request.calibration, split_file=own)
    if request.calibration_part:
        return whole.part(request.calibration_part)
    named = [part for part in ("calibration", "validation", "val") if part in whole.splits]
    if named:
        return whole.part(named[0])
    if request.test is None:
        fact = "the table has no part 'calibration' or 'validation'"
        raise InputError(fact, "name one with --calibration-part, or give another table with --test", whole.path)
    return whole


def _demand_apart(
    request: CompressRequest, test: Dataset, calibration: Dataset | None, package: ModelPackage
) -> tuple[str, ...]:
    """Refuse overlaps of test, calibration and training; what was compared, in words."""
    judging = _judging(request)
    whole = read_dataset(judging.dataset, split_file=request.split_file)
    used = [read_dataset(path, labels=False) for path in request.used]
    if calibration is not None:
        learned = learned_cases(whole, TRAINING_PARTS)
        demand_apart(calibration, [*learned, *(case for table in used for case in table.cases)])
    return demand_unseen(test, whole, [*used, *([] if calibration is None else [calibration])], package)


def _made(
    request: CompressRequest,
    package: ModelPackage,
    rule: GateRule,
    calibration: Dataset | None,
    scratch: Path,
    on_event: OnEvent,
) -> Compression:
    """The compressed graph and how it came about."""
    from hounsfield.packages.onnx_file import read_graph

    spec = package.graph("fp32")
    version = request.version or next_minor(package.manifest.version)
    if calibration is None:
        model = with_16bit_weights(read_graph(package.root, spec.file), "bf16" if request.to == "bf16" else "fp16")
        return Compression.of(package, request.to, version, model)
    from hounsfield.usecases.quantise import Quantising, quantise_package

    how = Quantising(quantiser_of(request), request.windows, request.exclude, request.plain, version)
    return quantise_package(
        package, calibration, replace(_judging(request), rules=request.rules), how, scratch, on_event
    )


def next_minor(version: str) -> str:
    """``1.4.2`` becomes ``1.5.0``."""
    major, minor, _ = version.split(".")
    return f"{major}.{int(minor) + 1}.0"


def _write(
    request: CompressRequest,
    package: ModelPackage,
    made: Compression,
    judged: Judged,
    test: Dataset,
    rule: GateRule,
    verdict: Path,
) -> CompressResult:
    """The new package, unless its gate failed, and both reports: all of it or nothing."""
    outcome, output = judged.record.outcome, request.output
    files: dict[str, Path | bytes] = files_with(package, made)
    page = compress_markdown(made, outcome)
    wanted = outcome.verdict != "fail" or request.keep_failed
    with whole_folder(output) as partial:
        built = None
        if wanted:
            asked = asked_of(_judging(request), request.to, rule)
            evidence = proven_evidence(judged, test, asked, {"compression": compression_details(made)})
            files[f"evidence/{made.precision}.json"] = evidence_json(evidence)
            files["card.md"] = (package.card().rstrip() + "\n\n" + made.for_card(outcome) + "\n").encode()
            built = build(partial, manifest_with(package, made, proven=True), files)
        shutil.copytree(verdict, partial / "gate")
        (partial / "compress.json").write_bytes(json_bytes(compression_details(made)))
        (partial / "compress.md").write_text(page, encoding="utf-8")
    outputs = {"report": output / "compress.md", "json": output / "compress.json", "gate": output / "gate" / "gate.md"}
    if built is not None:
        built = replace(built, root=output / built.root.name)
        outputs["package"] = built.root
    return CompressResult(built, judged, made, outputs)
