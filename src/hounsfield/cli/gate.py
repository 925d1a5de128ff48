"""``hounsfield gate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    from rich.console import Console

    from hounsfield.compression.gate import GateOutcome
    from hounsfield.usecases.gate import GateResult


def gate(
    package: Annotated[str, typer.Argument(metavar="PACKAGE", help="An installed model or a package folder.")],
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Table (.csv, .jsonl): image, label, patient_id.")],
    rule: GateFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the verdict; new or empty.")],
    candidate: Annotated[str, typer.Option(help="Precision that wants to pass: bf16, fp16 or int8.")] = "bf16",
    against: Annotated[str, typer.Option(help="Precision that it must not be worse than.")] = "fp32",
    split: SplitFile = None,
    part: JudgedPart = "",
    used: UsedTables = None,
    engine: Annotated[str, typer.Option(help="openvino, onnxruntime or torch; the best one by default.")] = "",
    match_iou: MatchIou = 0.1,
    repair: Repair = False,
    threads: Threads = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Judge whether a lower precision of a model is not worse than fp32, in every stratum that counts.

    Exit code 0 means passed. Undecided (too few cases: the report says how many are needed) is not
    passed: both it and failed end with 1.
    """
    from hounsfield.cli.progress import ProgressBars
    from hounsfield.evaluation.lesions import MatchingRule
    from hounsfield.evaluation.scoring import ScoringRules
    from hounsfield.usecases.gate import GateRequest, run_gate
    from hounsfield.usecases.job import Choices

    request = GateRequest(
        model=package,
        dataset=dataset,
        gate=rule,
        output=output,
        candidate=candidate,
        against=against,
        split_file=split,
        part=part,
        used=tuple(used or ()),
        choices=Choices(engine=engine, repair=repair, threads=threads),
        rules=ScoringRules(MatchingRule(threshold=match_iou)),
    )
    with ProgressBars(quiet or as_json) as bars:
        result = run_gate(request, bars)
    if as_json:
        import json

        typer.echo(json.dumps(result.as_dict(), indent=2))
    else:
        _show(result)
    raise typer.Exit(0 if result.passed else 1)


def _show(result: GateResult) -> None:
    """Print the verdict, every stratum, and where to look."""
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    print_verdict(console, result.record.outcome)
    for kind, path in result.outputs.items():
        console.print(f"  {kind:<9} {escape(str(path))}", highlight=False, soft_wrap=True)


def print_verdict(console: Console, outcome: GateOutcome) -> None:
    """Every stratum as a table, and the verdict."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("metric", "segment", "stratum", "patients", "difference", "bound", "margin", "verdict", "needed"):
        table.add_column(heading)
    for one in outcome.strata:
        found = one.judgement
        needed = "" if found.patients_needed is None else str(found.patients_needed)
        figures = (str(found.patients), f"{found.mean:+.4f}", f"{found.bound:+.4f}", f"{one.margin:g}")
        table.add_row(one.metric, escape(one.segment.label), escape(one.stratum), *figures, found.verdict, needed)
    console.print(table)
    lost = sum(one.change == "lost" for one in outcome.changes)
    told = f"{outcome.cases} cases, {outcome.patients} patients; lesions lost {lost}"
    console.print(
        f"{told}, gained {len(outcome.changes) - lost}; cases lost {len(outcome.lost_cases)}", highlight=False
    )
    console.print(f"the gate: {outcome.verdict}", highlight=False)
