"""Train a smaller network that a package teaches, and let it stand for a clinical gate against that package."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hounsfield.compression.gate_file import read_gate
from hounsfield.compression.student_report import Size, Student, evaluated, student_markdown
from hounsfield.compression.unseen import demand_unseen
from hounsfield.errors import PackageInvalid, SettingsError
from hounsfield.evaluation.dataset import Dataset, read_dataset
from hounsfield.evaluation.scoring import ScoringRules
from hounsfield.packages import Manifest, ModelPackage, build, evidence_json, open_package
from hounsfield.packages.evidence import Evidence
from hounsfield.usecases.bench_process import random_windows, take_turns
from hounsfield.usecases.evaluate import (
    demand_empty,
    demand_same_segments,
    demand_strata,
    json_bytes,
    part_of,
    whole_folder,
)
from hounsfield.usecases.events import Note, OnEvent, silent
from hounsfield.usecases.gate import GateRequest, Judged, asked_of, demand_fit, judge_package, read_with, write_gate
from hounsfield.usecases.job import Choices
from hounsfield.usecases.proving import proven_evidence
from hounsfield.usecases.sessions import Sessions

if TYPE_CHECKING:
    from hounsfield.training.recipe import Recipe

_TURNS = 15
_FACTS = ("steps", "seconds", "best_score", "training_cases", "training_patients", "recipe_sha256", "data_sha256")


@dataclass(frozen=True)
class StudentRequest:
    """Which smaller network, taught by what, judged how.

    Parameters
    ----------
    model
        The package that teaches; the gate's reference.
    recipe
        The student's training recipe with a ``[package]``; its data set has the cases of the gate, too.
    gate, output, part, used, keep_failed, choices, rules
        As of :class:`hounsfield.usecases.compress.CompressRequest`.
    run
        Folder of the training, continued if it holds one; by default beside the output.
    prune
        Share of the parameters that go: the network is then the package's own with its strongest channels,
        instead of the one in the recipe.
    test, split_file
        Table of the cases to judge on, if it is not the recipe's, and its split.
    """

    model: str | Path
    recipe: Path
    gate: Path
    output: Path
    run: Path | None = None
    prune: float | None = None
    test: Path | None = None
    split_file: Path | None = None
    part: str = ""
    used: tuple[Path, ...] = ()
    keep_failed: bool = False
    choices: Choices = field(default_factory=Choices)
    rules: ScoringRules = field(default_factory=ScoringRules)


@dataclass(frozen=True)
class StudentResult:
    """The new package (None where its gate failed), the verdict, what was made, and the files."""

    package: ModelPackage | None
    judged: Judged
    student: Student
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
            "student": self.student.details(),
            "gate": self.judged.record.as_dict(),
            "outputs": {kind: str(path) for kind, path in self.outputs.items()},
        }


def make_student(request: StudentRequest, on_event: OnEvent = silent) -> StudentResult:
    """Train (or go on), judge once on the test cases, build the package with its evidence.

    Raises
    ------
    SettingsError, PackageInvalid
        If package, recipe and rule do not fit each other; before anything is trained.
    InputError
        If the gate's cases trained or steered one of the networks.
    TrainingError, DoesNotFit
        As the training raises; its folder stays and is continued.
    OutputExists
        If the output folder is not empty.
    """
    from hounsfield.training.recipe_text import read_recipe

    rule, teacher = read_gate(request.gate), open_package(request.model)
    changes = _changes(request, teacher, on_event)
    recipe = read_recipe(request.recipe, changes)
    _demand_sense(request, recipe, teacher)
    judging = _judging(request, recipe)
    demand_fit(teacher, rule, request.gate)
    demand_empty(request.output)
    asked = asked_of(judging, "fp32", rule)
    test = part_of(asked, labels=True, images=True)
    demand_strata(asked, test)
    compared = demand_unseen(test, _whole(judging), _used(request, recipe), teacher)
    trained = _trained(request, changes, on_event)
    demand_same_segments(teacher, trained)
    made = _compared_sizes(request, teacher, trained, recipe)
    on_event(Note(f"judging {trained.reference} on {len(test.cases)} test cases"))
    reference = read_with(teacher, test, judging, "fp32", rule, on_event)
    judged = judge_package(trained, test, compared, judging, on_event, reference)
    return _write(judging, (teacher, trained), made, judged, test, request.keep_failed)


def _changes(request: StudentRequest, teacher: ModelPackage, on_event: OnEvent) -> dict[str, Any]:
    """What replaces values of the recipe: its teacher, and the channels that stay where it is pruned."""
    from hounsfield.training.network import package_of
    from hounsfield.training.recipe_text import read_recipe

    plain = read_recipe(request.recipe)
    changes: dict[str, Any] = {}
    if plain.teacher is None:
        local = Path(request.model)
        changes["teacher.package"] = str(local.resolve() if local.is_dir() else request.model)
    else:
        named = package_of(plain.teacher.package, request.recipe.resolve().parent)
        if named.digest != teacher.digest:
            raise SettingsError(
                fact=f"the recipe's teacher is {named.reference}, not this {teacher.reference}",
                remedy="give the same package, or leave [teacher] out",
                path=request.recipe,
            )
    if request.prune is not None:
        changes |= {"architecture.filters": _kept_filters(request, teacher, plain), "teacher.start": "teacher"}
        on_event(Note(f"filters {changes['architecture.filters']}, {request.prune:.0%} of the parameters go"))
    return changes


def _kept_filters(request: StudentRequest, teacher: ModelPackage, recipe: Recipe) -> list[int]:
    """The channels per level that stay of the package's network."""
    from safetensors.torch import load_file

    from hounsfield.architectures.narrowing import fewer_filters

    share, wide = request.prune or 0.0, dict(teacher.manifest.architecture or {})
    if not 0 < share < 1:
        raise SettingsError(f"{share:g} is no share of the parameters", "give --prune a number such as 0.8")
    if teacher.weights_path is None:
        raise PackageInvalid(f"{teacher.reference} has no weights to prune", "choose one with weights", teacher.root)
    if recipe.architecture["name"] != wide["name"]:
        raise SettingsError(f"the recipe's network is not a {wide['name']!r}", "name the package's", request.recipe)
    found: list[int] = fewer_filters(wide, load_file(str(teacher.weights_path)), share, recipe.window)["filters"]
    return found


def _demand_sense(request: StudentRequest, recipe: Recipe, teacher: ModelPackage) -> None:
    """What can be known before hours of training."""
    from hounsfield.training.network import start

    if recipe.package is None:
        raise SettingsError("the recipe has no [package]", "say what the smaller package is called", request.recipe)
    if (recipe.package.id, recipe.package.version) == (teacher.manifest.id, teacher.manifest.version):
        raise SettingsError(
            f"the student would be called {teacher.reference} as its teacher is",
            "give it another package.id or package.version",
            request.recipe,
        )
    if teacher.manifest.graph_for("fp32") is None:
        raise PackageInvalid(f"{teacher.reference} has no fp32 graph to be compared with", "choose another package")
    start(recipe, request.recipe.resolve().parent)


def _judging(request: StudentRequest, recipe: Recipe) -> GateRequest:
    """The student in fp32 against its teacher in fp32."""
    folder = request.recipe.resolve().parent
    own = None if recipe.data.split_file is None else folder / recipe.data.split_file
    return GateRequest(
        model=request.model,
        dataset=request.test or folder / recipe.data.table,
        gate=request.gate,
        output=request.output / "gate",
        candidate="fp32",
        against="fp32",
        split_file=own if request.test is None else request.split_file,
        part=request.part,
        used=request.used,
        choices=request.choices,
        rules=request.rules,
    )


def _whole(judging: GateRequest) -> Dataset:
    return read_dataset(judging.dataset, split_file=judging.split_file)


def _used(request: StudentRequest, recipe: Recipe) -> list[Dataset]:
    """What trained and steered the student, and what else is said to have trained its teacher."""
    folder = request.recipe.resolve().parent
    split = None if recipe.data.split_file is None else folder / recipe.data.split_file
    own = read_dataset(folder / recipe.data.table, split_file=split, labels=False)
    parts = [own.part(name) for name in (recipe.data.train, recipe.data.validation) if name]
    return [*parts, *(read_dataset(path, labels=False) for path in request.used)]


def _trained(request: StudentRequest, changes: Mapping[str, Any], on_event: OnEvent) -> ModelPackage:
    from hounsfield.training.loop import CHECKPOINT
    from hounsfield.usecases.train import TrainRequest, train

    run = request.run or request.output.with_name(f"{request.output.name}-training")
    there = (run / CHECKPOINT).is_file()
    done = train(TrainRequest(request.recipe, run, resume=there, changes=changes), on_event)
    if done.package is None:
        raise PackageInvalid("the training left no package", "give the recipe a [package]", run)
    return open_package(done.package)


def _compared_sizes(request: StudentRequest, teacher: ModelPackage, student: ModelPackage, recipe: Recipe) -> Student:
    """Parameters and bytes of both, and their speed in turns."""
    engine, seconds = _raced((teacher, student), request.choices)
    voxels = [_voxels(one) for one in (teacher, student)]
    ratios = [(a / voxels[0]) / (b / voxels[1]) for a, b in zip(*seconds, strict=True)]
    sizes = [_size(one, taken) for one, taken in zip((teacher, student), seconds, strict=True)]
    facts = _training_facts(student.root.parent.parent)
    table = recipe.teacher.model_dump(exclude={"package"}) if recipe.teacher is not None else {}
    pruned = {} if request.prune is None else {"pruned": request.prune}
    return Student(
        sizes[0],
        sizes[1],
        round(statistics.median(ratios), 3),
        engine,
        request.choices.threads or _cores(),
        {**facts, **table, **pruned},
    )


def _size(package: ModelPackage, seconds: list[float]) -> Size:
    from safetensors.torch import load_file

    return Size(
        package.reference,
        package.digest,
        dict(package.manifest.architecture or {}),
        sum(tensor.numel() for tensor in load_file(str(package.weights_path)).values()),
        package.graph_path("fp32").stat().st_size,
        _voxels(package),
        round(1e3 * statistics.median(seconds), 3),
    )


def _voxels(package: ModelPackage) -> int:
    k, j, i = package.manifest.input.window.shape
    return k * j * i


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0))


def _training_facts(run: Path) -> dict[str, Any]:
    import json

    record = json.loads((run / "training.json").read_text(encoding="utf-8"))
    return {key: record[key] for key in _FACTS}


def _raced(packages: tuple[ModelPackage, ModelPackage], choices: Choices) -> tuple[str, list[list[float]]]:
    """The engine, and the seconds of one window of each package, turn by turn."""
    keepers = [Sessions(), Sessions()]
    choices = replace(choices, engine=choices.engine or "openvino", precision="fp32", allow_unproven=True)
    try:
        opened = [keeper.open(one, choices).session for keeper, one in zip(keepers, packages, strict=True)]
        turns = take_turns(opened, [random_windows(one, 2) for one in packages], _TURNS)
        return choices.engine, [times for times, _ in turns]
    finally:
        for keeper in keepers:
            keeper.close()


def _write(
    judging: GateRequest,
    packages: tuple[ModelPackage, ModelPackage],
    made: Student,
    judged: Judged,
    test: Dataset,
    keep_failed: bool,
) -> StudentResult:
    """The new package, unless its gate failed, and both reports: all of it or nothing."""
    teacher, student = packages
    outcome, output = judged.record.outcome, judging.output.parent
    built = None
    with tempfile.TemporaryDirectory() as scratch, whole_folder(output) as partial:
        write_gate(judged, student, test, replace(judging, output=Path(scratch) / "gate"), teacher)
        shutil.copytree(Path(scratch) / "gate", partial / "gate")
        if outcome.verdict != "fail" or keep_failed:
            asked = asked_of(judging, "fp32", judged.record.rule)
            evidence = proven_evidence(judged, test, asked, {"student": made.details()})
            built = _with_proof(student, evidence, made.for_card(outcome), partial)
        (partial / "student.json").write_bytes(json_bytes(made.details()))
        (partial / "student.md").write_text(student_markdown(made, outcome), encoding="utf-8")
    outputs = {"report": output / "student.md", "json": output / "student.json", "gate": output / "gate" / "gate.md"}
    if built is not None:
        built = replace(built, root=output / built.root.name)
        outputs["package"] = built.root
    return StudentResult(built, judged, made, outputs)


def _with_proof(student: ModelPackage, evidence: Evidence, words: str, folder: Path) -> ModelPackage:
    """The trained package again, with its evidence and a card that says what it was measured against."""
    from hounsfield.training.finishing import NOT_EVALUATED

    table = student.manifest.model_dump(mode="json", exclude_none=True)
    table["evidence"] = [{"precision": "fp32", "file": "evidence/fp32.json"}]
    files: dict[str, Path | bytes] = {n: student.root / n for n in student.files if n != "manifest.toml"}
    files["evidence/fp32.json"] = evidence_json(evidence)
    card = student.card().replace(NOT_EVALUATED, evaluated(evidence))
    files["card.md"] = f"{card.rstrip()}\n\n{words}\n".encode()
    return build(folder, Manifest.model_validate(table), files)
