"""``hounsfield compress``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from hounsfield.cli.options import (
    AsJson,
    GateFile,
    JudgedPart,
    MatchIou,
    Quiet,
    Repair,
    SplitFile,
    Threads,
    UsedTables,
)

if TYPE_CHECKING:
    from hounsfield.usecases.compress import CompressResult
    from hounsfield.usecases.student import StudentResult


def compress(
    package: Annotated[str, typer.Argument(metavar="PACKAGE", help="An installed model or a package folder.")],
    rule: GateFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for package and reports; new or empty.")],
    to: Annotated[str, typer.Option("--to", help="int8, fp16 or bf16.")] = "",
    student: Annotated[
        Path | None,
        typer.Option(metavar="RECIPE", help="Instead: train this recipe's smaller network, taught by PACKAGE."),
    ] = None,
    prune: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="With --student: keep PACKAGE's strongest channels; 0.8 removes 80 %."),
    ] = None,
    run_folder: Annotated[
        Path | None, typer.Option("--run", metavar="FOLDER", help="With --student: its training, continued if there.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="TABLE", help="Cases that set the ranges of int8; never training or test.")
    ] = None,
    calibration_part: Annotated[
        str, typer.Option(help="Its split; 'calibration' or 'validation' by default, where there is one.")
    ] = "",
    test: Annotated[
        Path | None, typer.Option(metavar="TABLE", help="Cases to judge on; the calibration's table by default.")
    ] = None,
    part: JudgedPart = "",
    split: SplitFile = None,
    used: UsedTables = None,
    quantiser: Annotated[str, typer.Option(help="nncf or onnxruntime; by default the one for the engine.")] = "",
    windows: Annotated[int, typer.Option(min=1, max=10_000, help="Most windows to calibrate with.")] = 64,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="LAYER", help="A layer that stays in fp32; repeat it.")
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Leave out no further layer, whatever is lost.")] = False,
    version: Annotated[str, typer.Option(help="Of the new package; the next minor one by default.")] = "",
    keep_failed: Annotated[
        bool, typer.Option("--keep-failed", help="Build the package even if its gate failed.")
    ] = False,
    engine: Annotated[str, typer.Option(help="openvino or onnxruntime; the best one by default.")] = "",
    match_iou: MatchIou = 0.1,
    repair: Repair = False,
    threads: Threads = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make a lower precision of a model, or a smaller model, and judge it by a gate: a package with the proof inside.

    Exit code 0 means that the gate was passed. Failed: no package, unless --keep-failed. Undecided: a
    package that runs with --allow-unproven only.
    """
    from hounsfield.cli.progress import ProgressBars
    from hounsfield.evaluation.lesions import MatchingRule
    from hounsfield.evaluation.scoring import ScoringRules
    from hounsfield.usecases.compress import CompressRequest
    from hounsfield.usecases.compress import compress as run
    from hounsfield.usecases.job import Choices
    from hounsfield.usecases.student import StudentRequest, make_student

    choices = Choices(engine=engine, repair=repair, threads=threads)
    rules = ScoringRules(MatchingRule(threshold=match_iou))
    if (student is None) == (not to) or (student is None and (prune is not None or run_folder is not None)):
        raise typer.BadParameter("give either --to, or --student (with --prune or --run, if wanted)")
    if student is not None:
        smaller = StudentRequest(
            model=package,
            recipe=student,
            gate=rule,
            output=output,
            run=run_folder,
            prune=prune,
            test=test,
            split_file=split,
            part=part,
            used=tuple(used or ()),
            keep_failed=keep_failed,
            choices=choices,
            rules=rules,
        )
        with ProgressBars(quiet or as_json) as bars:
            taught = make_student(smaller, bars)
        _end(taught, as_json, _sizes(taught))
    request = CompressRequest(
        model=package,
        to=to,
        gate=rule,
        output=output,
        calibration=calibration,
        calibration_part=calibration_part,
        test=test,
        part=part,
        split_file=split,
        used=tuple(used or ()),
        quantiser=quantiser,
        windows=windows,
        exclude=tuple(exclude or ()),
        plain=plain,
        version=version,
        keep_failed=keep_failed,
        choices=choices,
        rules=rules,
    )
    with ProgressBars(quiet or as_json) as bars:
        result = run(request, bars)
    _end(result, as_json, _graphs(result))


def _end(result: CompressResult | StudentResult, as_json: bool, told: list[str]) -> NoReturn:
    """Print what was made, the verdict and where everything lies; exit by the verdict."""
    from rich.console import Console
    from rich.markup import escape

    from hounsfield.cli.gate import print_verdict

    if as_json:
        import json

        typer.echo(json.dumps(result.as_dict(), indent=2))
        raise typer.Exit(0 if result.passed else 1)
    console = Console()
    for line in told:
        console.print(escape(line), highlight=False)
    print_verdict(console, result.judged.record.outcome)
    for kind, path in result.outputs.items():
        console.print(f"  {kind:<9} {escape(str(path))}", highlight=False, soft_wrap=True)
    raise typer.Exit(0 if result.passed else 1)


def _graphs(result: CompressResult) -> list[str]:
    made = result.compression
    told = [f"graph: {made.share:.0%} of the fp32 graph's bytes"]
    if made.quantiser:
        told.insert(0, f"{made.quantiser}: {len(made.layers)} layers in int8, {len(made.excluded)} left in fp32")
    return told


def _sizes(result: StudentResult) -> list[str]:
    made = result.student
    return [
        f"parameters: {made.student.parameters:,} instead of {made.teacher.parameters:,}, {made.removed:.1%} fewer",
        f"one window: {made.student.window_ms:.1f} ms instead of {made.teacher.window_ms:.1f} ms in {made.engine}, "
        f"{made.speed_up:.1f} times as fast",
    ]
