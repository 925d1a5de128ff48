"""``hounsfield evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hounsfield.cli.options import AsJson, Device, MatchIou, Quiet, Repair, SplitFile, Threads

if TYPE_CHECKING:
    from rich.console import Console

    from hounsfield.evaluation.score_record import ScoreRecord
    from hounsfield.usecases.evaluate import EvaluateResult


def evaluate(
    package: Annotated[str, typer.Argument(metavar="PACKAGE", help="An installed model or a package folder.")],
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Table (.csv, .jsonl): image, label, patient_id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results; new or empty.")],
    split: SplitFile = None,
    part: Annotated[str, typer.Option(help="Split to evaluate; 'test' by default, where there are splits.")] = "",
    precision: Annotated[str, typer.Option(help="fp32, bf16, fp16 or int8; never changed silently.")] = "fp32",
    engine: Annotated[str, typer.Option(help="openvino, onnxruntime or torch; the best one by default.")] = "",
    against: Annotated[str, typer.Option(metavar="PACKAGE", help="A second model to compare with, paired.")] = "",
    against_precision: Annotated[str, typer.Option(help="Precision of the second model.")] = "",
    by: Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="Column to split by; repeat it.")] = None,
    target: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the class, if not the package's.")] = "",
    tolerance: Annotated[float, typer.Option(min=0, metavar="MM", help="Tolerance of the surface Dice (NSD).")] = 1.0,
    match_iou: MatchIou = 0.1,
    minimum: Annotated[int, typer.Option(min=2, help="Patients that a group needs to get a figure.")] = 10,
    worst: Annotated[int, typer.Option(min=0, help="How many of the worst cases to draw.")] = 12,
    repair: Repair = False,
    threads: Threads = 0,
    device: Device = "",
    seed: Annotated[int, typer.Option(help="Seed of the intervals.")] = 0,
    fill: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also build the package with this evidence, next version.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model on a data set with known answers; write evidence, tables and a report.

    Exit code 0 means that every case was scored; with 1, see which cases failed and why.
    """
    from dataclasses import replace

    from hounsfield.cli.progress import ProgressBars
    from hounsfield.evaluation.lesions import MatchingRule
    from hounsfield.evaluation.scoring import ScoringRules
    from hounsfield.usecases.evaluate import EvaluateRequest
    from hounsfield.usecases.evaluate import evaluate as measure
    from hounsfield.usecases.job import Choices

    choices = Choices(precision=precision, engine=engine, repair=repair, threads=threads, device=device)
    request = EvaluateRequest(
        model=package,
        dataset=dataset,
        output=output,
        split_file=split,
        part=part,
        choices=choices,
        rules=ScoringRules(MatchingRule(threshold=match_iou), tolerance),
        strata=tuple(by) if by else None,
        against=against or None,
        against_choices=replace(choices, precision=against_precision) if against_precision else None,
        worst=worst,
        seed=seed,
        minimum_patients=minimum,
        target=target,
    )
    with ProgressBars(quiet or as_json) as bars:
        result = measure(request, bars)
    filled = None if fill is None else _fill(package, result, fill)
    if as_json:
        import json

        typer.echo(json.dumps({**result.as_dict(), **({"filled": filled} if filled else {})}, indent=2))
    else:
        show_evaluation(result)
        if filled:
            typer.echo(f"  filled    {filled}")
    raise typer.Exit(0 if result.succeeded else 1)


def _fill(package: str, result: EvaluateResult, folder: Path) -> str:
    """Build the package again with the evidence; nothing where a case failed or no evidence was written."""
    from hounsfield.errors import OutputError
    from hounsfield.usecases.trust import FillRequest, fill_evidence

    if not result.succeeded or "evidence" not in result.outputs:
        fact = "the package was not filled: a case failed, or the evaluation gave no evidence"
        raise OutputError(fact, "see the results, and correct the data set", folder)
    return str(fill_evidence(FillRequest(package, result.outputs["evidence"], folder)).root)


def show_evaluation(result: EvaluateResult) -> None:
    """Print the main figures, the failed cases, and where to look."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from hounsfield.evaluation.record import EvaluationRecord
    from hounsfield.evaluation.report import shown

    console, record = Console(), result.record
    if not isinstance(record, EvaluationRecord):
        _show_scores(record, console)
        _show_end(result, console)
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("segment", "metric", "mean (95 % interval)", "median"):
        table.add_column(heading)
    for row in record.summary.metrics:
        unit = "" if row.unit == "1" else f" {row.unit}"
        table.add_row(
            escape(row.segment.label),
            f"{row.name}{unit}",
            shown(row.mean, row.digits),
            shown(row.median, row.digits),
        )
    console.print(table)
    for segment, lesions in record.summary.lesions:
        for line in lesions.rows:
            if line.reference:
                found = f"{line.hit} of {line.reference} found, sensitivity {shown(line.sensitivity)}"
                console.print(f"{escape(segment.label)} {line.band}: {found}", highlight=False)
    _show_end(result, console)


def _show_scores(record: ScoreRecord, console: Console) -> None:
    """The figures of a model that answers classes, numbers or places."""
    from hounsfield.evaluation.report import shown

    for one in record.summary.classes:
        console.print(f"{one.name}: AUC {shown(one.auc)}, {one.positives} of {one.positives + one.negatives} positive")
        if one.calibration is not None:
            console.print(f"  Brier {shown(one.calibration.brier)}, calibration error {shown(one.calibration.ece)}")
        for point in one.points:
            rates = f"sensitivity {shown(point.sensitivity)}, specificity {shown(point.specificity)}"
            values = f"PPV {shown(point.ppv)}, NPV {shown(point.npv)}"
            console.print(f"  {point.name} (from {point.threshold:.3g}): {rates}, {values}", soft_wrap=True)
    for quantity in record.summary.quantities:
        error, same = shown(quantity.absolute_error, -1), shown(quantity.concordance)
        console.print(f"{quantity.name}: absolute error {error} {quantity.unit}, concordance {same}")
    for found in record.summary.detections:
        console.print(f"{found.name}: CPM {shown(found.cpm)}, {found.targets} targets in {found.scans} scans")
    for row in record.comparison:
        difference = shown(row.comparison.difference, 4)
        console.print(f"{row.label}: {row.metric} {difference}, p {row.comparison.p_value:.3g}")


def _show_end(result: EvaluateResult, console: Console) -> None:
    """How many cases, what ran, which failed, and where to look."""
    from rich.markup import escape

    record = result.record
    scored = f"{record.summary.cases} of {record.data.cases} cases, {record.summary.patients} patients"
    console.print(f"{scored}; ran {record.model.ran_precision} on {escape(record.model.engine)}", highlight=False)
    for one in (*record.failed, *record.compared_failed):
        told = f"[red]failed[/] {escape(one.case_id)}: {one.error}: {escape(one.message)}"
        console.print(told, highlight=False, soft_wrap=True)
    for kind, path in result.outputs.items():
        console.print(f"  {kind:<9} {escape(str(path))}", highlight=False, soft_wrap=True)
