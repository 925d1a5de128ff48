"""``hounsfield compress``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hounsfield.usecases.compress import CompressResult


def compress(
    package: Annotated[str, typer.Argument(metavar="PACKAGE", help="An installed model or a package folder.")],
    to: Annotated[str, typer.Option("--to", help="int8, fp16 or bf16.")],
    rule: Annotated[Path, typer.Option("--gate", metavar="FILE", help="TOML: metrics, margins, strata, confidence.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for package and reports; new or empty.")],
    calibration: Annotated[
        Path | None, typer.Option(metavar="TABLE", help="Cases that set the ranges of int8; never training or test.")
    ] = None,
    calibration_part: Annotated[
        str, typer.Option(help="Its split; 'calibration' or 'validation' by default, where there is one.")
    ] = "",
    test: Annotated[
        Path | None, typer.Option(metavar="TABLE", help="Cases to judge on; the calibration's table by default.")
    ] = None,
    part: Annotated[str, typer.Option(help="Split to judge on; 'test' by default, where there are splits.")] = "",
    split: Annotated[Path | None, typer.Option(metavar="FILE", help="JSON: split name to list of case ids.")] = None,
    used: Annotated[
        list[Path] | None, typer.Option(metavar="TABLE", help="Data that trained the model, to be kept out; repeat it.")
    ] = None,
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
    match_iou: Annotated[float, typer.Option(min=0, max=1, metavar="IOU", help="Overlap that matches lesions.")] = 0.1,
    repair: Annotated[bool, typer.Option("--repair", help="Resample tilted or uneven slices.")] = False,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 means all.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")] = False,
) -> None:
    """Make a lower precision of a model, and judge it by a gate: a new package version with the proof inside.

    Exit code 0 means that the gate was passed. Failed: no package, unless --keep-failed. Undecided: a
    package that runs with --allow-unproven only.
    """
    from hounsfield.cli.progress import ProgressBars
    from hounsfield.evaluation.lesions import MatchingRule
    from hounsfield.evaluation.scoring import ScoringRules
    from hounsfield.usecases.compress import CompressRequest
    from hounsfield.usecases.compress import compress as run
    from hounsfield.usecases.job import Choices

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
        choices=Choices(engine=engine, repair=repair, threads=threads),
        rules=ScoringRules(MatchingRule(threshold=match_iou)),
    )
    with ProgressBars(quiet or as_json) as bars:
        result = run(request, bars)
    if as_json:
        import json

        typer.echo(json.dumps(result.as_dict(), indent=2))
    else:
        _show(result)
    raise typer.Exit(0 if result.passed else 1)


def _show(result: CompressResult) -> None:
    """Print what was made, the verdict, and where everything lies."""
    from rich.console import Console
    from rich.markup import escape

    from hounsfield.cli.gate import print_verdict

    console, made = Console(), result.compression
    if made.quantiser:
        told = f"{len(made.layers)} layers in int8, {len(made.excluded)} left in fp32"
        console.print(f"{escape(made.quantiser)}: {told}", highlight=False)
    console.print(f"graph: {made.share:.0%} of the fp32 graph's bytes", highlight=False)
    print_verdict(console, result.judged.record.outcome)
    for kind, path in result.outputs.items():
        console.print(f"  {kind:<9} {escape(str(path))}", highlight=False, soft_wrap=True)
