"""One package over every case of a data set: the loop, what ran, and what the cases tell together."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, cast

from hounsfield.errors import NothingToRead
from hounsfield.evaluation.dataset import Case, Dataset
from hounsfield.evaluation.record import Effort, EvaluatedModel, FailedCase, median
from hounsfield.packages import ModelPackage, Precision
from hounsfield.packages.onnx_file import check_graph
from hounsfield.planning.machine import read_machine
from hounsfield.usecases.events import OnEvent, Progress
from hounsfield.usecases.job import Choices

STRATA = ("sex", "age_years", "manufacturer", "site")


class OneCase(Protocol):
    """What every case that was read tells, whatever was answered."""

    @property
    def columns(self) -> Mapping[str, str]:
        """The table's other cells."""

    @property
    def seconds(self) -> float:
        """That the answer took."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """In plain words."""


class Scorer(Protocol):
    """Reads case by case with the network loaded once; every case ends in ``cases`` or ``failed``."""

    engine: str
    ran_precision: str
    failed: list[FailedCase]

    @property
    def cases(self) -> Sequence[OneCase]:
        """Those that gave an answer, in the order they came."""

    def add(self, case: Case, on_event: OnEvent) -> None:
        """Read one."""

    def close(self) -> None:
        """Free the network."""


def over_cases(
    scorer: Scorer, package: ModelPackage, choices: Choices, data: Dataset, on_event: OnEvent
) -> EvaluatedModel:
    """Give every case to the scorer, free its network, and say what ran.

    Raises
    ------
    NothingToRead
        If not one case could be read.
    """
    stage = f"{package.reference} {choices.precision}"
    try:
        for number, case in enumerate(data.cases):
            on_event(Progress(stage, number, len(data.cases)))
            scorer.add(case, on_event)
        on_event(Progress(stage, len(data.cases), len(data.cases)))
    finally:
        scorer.close()
    if not scorer.cases:
        first = scorer.failed[0]
        raise NothingToRead(
            f"none of the {len(data.cases)} cases gave an answer; {first.case_id}: {first.message}",
            "correct the data set, or choose the package that fits it",
            data.path,
        )
    return EvaluatedModel(
        package.reference,
        package.manifest.title,
        package.digest,
        choices.precision,
        scorer.ran_precision,
        scorer.engine,
        graph_files(package, choices.precision),
    )


def graph_files(package: ModelPackage, precision: str) -> dict[str, str]:
    """sha256 by path of the files of the graphs that run at a precision (bf16 may run the fp32 graphs)."""
    used: set[str] = set()
    steps: list[str | None] = [step.name for step in package.manifest.steps]
    for step in steps or [None]:
        spec = package.graph(cast(Precision, precision), step)
        used |= {spec.file, *check_graph(package.root, spec, package.manifest, package.files)}
    return {name: package.files[name] for name in sorted(used)}


def strata_of(cases: Sequence[OneCase], wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    """The columns to split by: those asked for, else the usual ones that a case has a cell of."""
    if wanted is not None:
        return wanted
    return tuple(name for name in STRATA if any(case.columns.get(name) for case in cases))


def warnings_of(cases: Sequence[OneCase]) -> Iterator[str]:
    """The ten most frequent warnings, each with how many cases gave it."""
    seen: dict[str, int] = {}
    for case in cases:
        for warning in case.warnings:
            seen[warning] = seen.get(warning, 0) + 1
    for warning, count in sorted(seen.items(), key=lambda item: -item[1])[:10]:
        yield f"{count} {'case' if count == 1 else 'cases'}: {warning}"


def effort_of(cases: Sequence[OneCase]) -> Effort:
    """Seconds per case, the highest resident memory of this process, and the machine."""
    machine = read_machine()
    return Effort(
        machine=f"{machine.cpu_model}, {machine.cores} threads",
        seconds_per_case=median([case.seconds for case in cases]),
        peak_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    )
