"""Measure every graph of a package in every engine that runs it here: speed, memory, energy, beside its accuracy."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hounsfield.errors import EngineError, HounsfieldError, PackageInvalid
from hounsfield.evaluation.figures import BLUE, ORANGE, Curve, Frame, padded, point_plot
from hounsfield.packages import Manifest, ModelPackage, build, evidence_json, open_package
from hounsfield.packages.evidence import Score
from hounsfield.planning.machine import read_machine
from hounsfield.plugins import registry
from hounsfield.usecases.asking import ask
from hounsfield.usecases.evaluate import demand_empty, json_bytes, whole_folder
from hounsfield.usecases.events import Note, OnEvent, Progress, silent

_LONGEST_SECONDS = 900.0
_ALONE_ROUNDS = 3
#: Engines disagree where their answers in one precision differ by more than this share of an answer's mean size.
_APART = 0.05
_HEADINGS = (
    *("engine", "precision", "latency ms", "slowest", "windows/s", "against fp32", "load s", "peak MiB"),
    *("of it the network", "graph MB", "CPU", "J/window", "accuracy", "gate"),
)


@dataclass(frozen=True)
class BenchRequest:
    """What to measure.

    Parameters
    ----------
    model
        A package with one network of windows.
    output
        Folder for the figures: new or empty.
    engines
        Only these; empty takes all that are installed.
    threads
        CPU threads, 0 for all.
    rounds
        How often the variants take turns.
    into_package
        Also build the next patch version, with the figures in the evidence of each precision.
    """

    model: str | Path
    output: Path
    engines: tuple[str, ...] = ()
    threads: int = 0
    rounds: int = 15
    into_package: bool = False


@dataclass(frozen=True)
class BenchRow:
    """One graph in one engine.

    Parameters
    ----------
    ran
        The precision that the engine really computed in.
    latency_ms, slowest_ms
        Median and slowest of one window.
    speed_up
        Median over the rounds of the time of this engine's fp32 over this variant's; NaN without fp32.
    added_mib
        Peak of a process with this network alone, above the process without it.
    graph_bytes
        Of the file that runs.
    accuracy
        The package's first overall score for the precision.
    apart
        Mean difference to the answer of the first engine in this precision, over that answer's mean size; None for
        the first.
    """

    engine: str
    version: str
    precision: str
    ran: str
    latency_ms: float
    slowest_ms: float
    windows_per_second: float
    speed_up: float | None
    load_seconds: float
    peak_mib: float
    added_mib: float
    utilisation: float
    joules_per_window: float | None
    graph_bytes: int
    metric: str = ""
    accuracy: tuple[float, float, float] | None = None
    gate: str = ""
    apart: float | None = None


@dataclass(frozen=True)
class BenchResult:
    """All rows, what could not run and why, and where it was measured."""

    reference: str
    digest: str
    machine: str
    threads: int
    load_average: float
    rows: tuple[BenchRow, ...]
    left_out: tuple[tuple[str, str, str], ...]
    outputs: Mapping[str, Path]

    @property
    def busy(self) -> bool:
        """Whether the machine had other work when it began: then only ratios are worth reading."""
        return self.load_average > 0.3

    @property
    def disagreements(self) -> tuple[str, ...]:
        """Engines whose answers in one precision differ too much to stand for each other, in words."""
        return tuple(
            f"{row.engine} {row.precision} disagrees with the first engine: its answers differ by {row.apart:.0%} on "
            "average; a verdict or score of one says nothing about the other"
            for row in self.rows
            if row.apart is not None and not row.apart <= _APART
        )

    def as_dict(self) -> dict[str, Any]:
        """The result as data, for ``--json``."""
        return {
            **{key: value for key, value in asdict(self).items() if key not in ("outputs", "left_out")},
            "busy": self.busy,
            "left_out": [dict(zip(("engine", "precision", "reason"), one, strict=True)) for one in self.left_out],
            "outputs": {kind: str(path) for kind, path in self.outputs.items()},
        }


def bench(request: BenchRequest, on_event: OnEvent = silent) -> BenchResult:
    """Measure, draw, write.

    Raises
    ------
    PackageInvalid
        If the package is not one network of windows.
    EngineError
        If nothing could be measured.
    OutputExists
        If the output folder is not empty.
    """
    package = open_package(request.model)
    if package.manifest.steps or package.manifest.input.record or package.manifest.input.times is not None:
        raise PackageInvalid(f"{package.reference} is not one network of windows", "time it with hounsfield run")
    demand_empty(request.output)
    load = os.getloadavg()[0]
    alone, left_out = _alone(package, request, on_event)
    if not alone:
        raise EngineError("nothing could be measured", "; ".join(f"{e} {p}: {why}" for e, p, why in left_out))
    on_event(Note(f"{len(alone)} variants take turns, {request.rounds} rounds"))
    together = _ask(package, list(alone), request.threads, request.rounds)
    rows = tuple(_rows(package, alone, together))
    result = BenchResult(
        package.reference,
        package.digest,
        read_machine(accelerators=False).cpu_model,
        request.threads or len(os.sched_getaffinity(0)),
        round(load, 2),
        rows,
        left_out,
        {},
    )
    for words in result.disagreements:
        on_event(Note(words, "warn"))
    return _write(result, package, request)


def _alone(
    package: ModelPackage, request: BenchRequest, on_event: OnEvent
) -> tuple[dict[tuple[str, str], dict[str, Any]], tuple[tuple[str, str, str], ...]]:
    """Every variant in a process of its own: its memory, or why it does not run."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    left_out: list[tuple[str, str, str]] = []
    engines = {
        name: answer for name, answer in registry().survey().items() if not request.engines or name in request.engines
    }
    wanted = [(engine, precision) for engine in engines for precision in package.precisions]
    for number, (engine, precision) in enumerate(wanted):
        on_event(Progress("variants", number, len(wanted)))
        if not engines[engine]:
            left_out.append((engine, precision, engines[engine].reason))
            continue
        try:
            (row,) = _ask(package, [(engine, precision)], request.threads, _ALONE_ROUNDS)
        except HounsfieldError as error:
            left_out.append((engine, precision, error.fact))
            continue
        if row["precision"] != precision:
            left_out.append((engine, precision, f"it would compute in {row['precision']}"))
            continue
        found[(engine, precision)] = row
    on_event(Progress("variants", len(wanted), len(wanted)))
    return found, tuple(left_out)


def _ask(package: ModelPackage, variants: Sequence[tuple[str, str]], threads: int, rounds: int) -> list[dict[str, Any]]:
    """The answers of a measuring process."""
    task = {"package": str(package.root), "variants": list(variants), "threads": threads, "rounds": rounds}
    try:
        answer = ask("hounsfield.usecases.bench_process", task, _LONGEST_SECONDS)
    except TimeoutError as error:
        raise EngineError(f"it took longer than {_LONGEST_SECONDS:.0f} s", "measure fewer rounds") from error
    if not isinstance(answer, list):
        raise EngineError(str(answer.get("error"))[:300], "choose another engine or precision")
    return answer


def _rows(
    package: ModelPackage, alone: Mapping[tuple[str, str], Mapping[str, Any]], together: Sequence[Mapping[str, Any]]
) -> Iterator[BenchRow]:
    by_variant = dict(zip(alone, together, strict=True))
    for (engine, precision), row in by_variant.items():
        own, reference = alone[(engine, precision)], by_variant.get((engine, "fp32"))
        ratios = [a / b for a, b in zip(reference["seconds"], row["seconds"], strict=True)] if reference else []
        evidence = package.evidence(precision)  # type: ignore[arg-type]
        score = None if evidence is None else _first(evidence.scores)
        yield BenchRow(
            engine=engine,
            version=str(row["version"]),
            precision=precision,
            ran=str(row["precision"]),
            latency_ms=round(1e3 * statistics.median(row["seconds"]), 3),
            slowest_ms=round(1e3 * max(row["seconds"]), 3),
            windows_per_second=round(row["windows_per_second"], 3),
            speed_up=round(statistics.median(ratios), 3) if ratios else None,
            load_seconds=round(own["load_seconds"], 3),
            peak_mib=round(own["peak_bytes"] / 2**20, 1),
            added_mib=round((own["peak_bytes"] - own["resident_before_bytes"]) / 2**20, 1),
            utilisation=round(min(1.0, row["utilisation"]), 3),
            joules_per_window=row["joules_per_window"],
            graph_bytes=package.graph_path(precision).stat().st_size,  # type: ignore[arg-type]
            metric="" if score is None else score.metric,
            accuracy=None if score is None else (score.value, score.low, score.high),
            gate="" if evidence is None or evidence.gate is None else evidence.gate.verdict,
            apart=row["apart"],
        )


def _first(scores: Sequence[Score]) -> Score:
    """The score that stands for a precision in a plot: the first one over everything."""
    return next((score for score in scores if score.stratum == "all"), scores[0])


def _write(result: BenchResult, package: ModelPackage, request: BenchRequest) -> BenchResult:
    output = request.output
    outputs = {"table": output / "bench.md", "plot": output / "bench.svg", "json": output / "bench.json"}
    with whole_folder(output) as partial:
        if request.into_package:
            made = _with_figures(package, result, partial)
            outputs["package"] = output / made.root.name
        result = replace(result, outputs=outputs)
        (partial / "bench.json").write_bytes(json_bytes(result.as_dict()))
        (partial / "bench.md").write_text("\n".join(_page(result)) + "\n", encoding="utf-8")
        (partial / "bench.svg").write_text(_plot(result), encoding="utf-8")
    return result


def _with_figures(package: ModelPackage, result: BenchResult, folder: Path) -> ModelPackage:
    """The next patch version, with the rows of each precision among the details of its evidence."""
    table = package.manifest.model_dump(mode="json", exclude_none=True)
    major, minor, patch = package.manifest.version.split(".")
    table["version"] = f"{major}.{minor}.{int(patch) + 1}"
    files: dict[str, Path | bytes] = {name: package.root / name for name in package.files if name != "manifest.toml"}
    where = {"machine": result.machine, "threads": result.threads, "load_average": result.load_average}
    for item in package.manifest.evidence:
        evidence = package.evidence(item.precision)
        rows = [asdict(row) for row in result.rows if row.precision == item.precision]
        if evidence is not None and rows:
            details = {**evidence.details, "bench": {**where, "rows": rows}}
            files[item.file] = evidence_json(evidence.model_copy(update={"details": details}))
    return build(folder, Manifest.model_validate(table), files)


def _page(result: BenchResult) -> Iterator[str]:
    yield from (f"# {result.reference}: speed, memory, accuracy", "")
    yield f"Package digest `{result.digest}`. {result.machine}, {result.threads} threads."
    if result.busy:
        yield f"The machine was busy (load average {result.load_average:g} before it began): read the ratios only."
    yield from ("", "One window per call; the variants took turns, so ratios were measured side by side.", "")
    yield f"|{'|'.join(_HEADINGS)}|"
    yield "|---" * len(_HEADINGS) + "|"
    yield from (table_row(row) for row in result.rows)
    told = [f"{row.engine} {row.precision} {row.apart:.1e}" for row in result.rows if row.apart is not None]
    if told:
        yield from ("", f"Mean difference to the first engine in a precision, over the answer: {', '.join(told)}.")
    yield from (f"\n**{words}**" for words in result.disagreements)
    if result.left_out:
        yield from ("", "Not measured:", "")
        yield from (f"- {engine} {precision}: {why}" for engine, precision, why in result.left_out)
    yield from ("", "![accuracy against speed](bench.svg)")


def table_row(row: BenchRow) -> str:
    """A row as a line of Markdown."""
    accuracy = "–"
    if row.accuracy is not None:
        value, low, high = row.accuracy
        accuracy = f"{row.metric} {value:.3f} ({low:.3f} to {high:.3f})"
    cells = (
        f"{row.engine} {row.version}",
        row.precision,
        f"{row.latency_ms:.1f}",
        f"{row.slowest_ms:.1f}",
        f"{row.windows_per_second:.1f}",
        "–" if row.speed_up is None else f"{row.speed_up:.2f}×",
        f"{row.load_seconds:.2f}",
        f"{row.peak_mib:.0f}",
        f"{row.added_mib:.0f}",
        f"{row.graph_bytes / 1e6:.2f}",
        f"{row.utilisation:.0%}",
        "not readable" if row.joules_per_window is None else f"{row.joules_per_window:.2f}",
        accuracy,
        row.gate or "–",
    )
    return "|" + "|".join(cells) + "|"


def _plot(result: BenchResult) -> str:
    """Accuracy against windows per second; the label says memory."""
    rows = [row for row in result.rows if row.accuracy is not None]
    colours = (BLUE, ORANGE, "#2f7d4f", "#7a3e9d", "#8a6d00", "#5b6670", "#a8324a", "#1f7f8c", "#444444")
    curves = [
        Curve(
            f"{row.engine} {row.precision}, {row.added_mib:.0f} MiB",
            [row.windows_per_second],
            [row.accuracy[0]],
            colour,
        )
        for row, colour in zip(rows, colours * len(rows), strict=False)
        if row.accuracy is not None
    ]
    x = padded([row.windows_per_second for row in rows])
    y = padded([value for row in rows if row.accuracy is not None for value in row.accuracy], 0.01)
    name = rows[0].metric if rows else "accuracy"
    room = 18 * len(curves)
    frame = Frame(0.0, x[1], y[0], y[1], "windows per second", name, width=640, height=340 + room, top=20 + room)
    return point_plot(curves, frame)
