"""``hounsfield run``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hounsfield.cli.options import AsJson, Device, Quiet, Repair

if TYPE_CHECKING:
    from hounsfield.planning import Plan
    from hounsfield.usecases.run import RunResult
    from hounsfield.volume import Place


def run(
    model: Annotated[str, typer.Argument(help="An installed model (see 'hounsfield models') or a package folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results; new or empty.")],
    scan: Annotated[
        Path | None, typer.Argument(metavar="INPUT", help="Folder, file, zip or tar with one or many scans.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Numbers that the model reads beside or instead of a scan.")
    ] = None,
    series: Annotated[str, typer.Option(help="Only this series: its key or UID, from 'hounsfield inspect'.")] = "",
    at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="POINT", help="Read around X,Y,Z (LPS mm), index:K,J,I, or the points in a JSON, SR or GSPS file."
        ),
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, bf16, fp16 or int8; never changed silently.")] = "fp32",
    engine: Annotated[str, typer.Option(help="openvino, onnxruntime or torch; the best one by default.")] = "",
    device: Device = "",
    seg: Annotated[str, typer.Option(help="DICOM SEG to write: binary, or both (a label map too).")] = "binary",
    repair: Repair = False,
    allow_unproven: Annotated[
        bool, typer.Option("--allow-unproven", help="Accept a precision without evidence or gate; the result says so.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Draw where a classifier looked (Grad-CAM); needs the extra 'train'.")
    ] = False,
    memory: Annotated[str, typer.Option(help="Memory that each scan may take, such as 2GiB; it is kept.")] = "",
    gpu_memory: Annotated[str, typer.Option(help="Memory of the GPU that the run may take, such as 8GiB.")] = "",
    plan: Annotated[
        Path | None, typer.Option(metavar="PLAN.toml", help="Carry out this plan, from 'hounsfield plan --save'.")
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="The equivalent of one pass over the whole volume, in slabs.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an earlier run stopped.")] = False,
    threads: Annotated[int, typer.Option(min=0, max=1024, help="CPU threads; 0 means all.")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Let a model read one or many scans; write DICOM SEG and SR, NIfTI, JSON and a report.

    Exit code 0 means that everything which could be read was read and nothing failed.
    """
    from hounsfield.cli.progress import ProgressBars
    from hounsfield.planning import Budget
    from hounsfield.usecases.job import Choices
    from hounsfield.usecases.run import RunRequest, run_model

    choices = Choices(
        precision=precision,
        engine=engine,
        at=typed_points(at or ()),
        repair=repair,
        seg=_seg(seg),  # type: ignore[arg-type]
        allow_unproven=allow_unproven,
        threads=threads,
        mode="whole" if whole else "window",
        explain=explain,
        device=device,
    )
    budget = Budget.parse(memory or None, gpu_memory or None)
    saved = None if plan is None else _saved_plan(plan)
    request = RunRequest(model, scan, output, series or None, choices, budget, saved, resume, record)
    with ProgressBars(quiet or as_json) as bars:
        result = run_model(request, bars)
    if as_json:
        import json

        typer.echo(json.dumps(result.as_dict(), indent=2))
    else:
        show_run(result)
        show_reasons(result, scan or record or output)
    raise typer.Exit(0 if result.succeeded else 1)


def typed_points(texts: Sequence[str]) -> tuple[Place, ...]:
    """The points of ``--at``; what is no point at all is a mistake of usage."""
    from hounsfield.errors import SettingsError
    from hounsfield.usecases.points import read_points

    try:
        return read_points(texts)
    except SettingsError as error:
        raise typer.BadParameter(f"{error.fact}; {error.remedy}", param_hint="--at") from None


def show_run(result: RunResult) -> None:
    """Print what became of each series, and where to look."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table(box=None, pad_edge=False)
    for heading in ("series", "outcome", "measured"):
        table.add_column(heading, overflow="fold")
    colours = {"done": "green", "skipped": "dim", "refused": "yellow", "failed": "red"}
    for one in result.series:
        outcome = f"[{colours[one.status]}]{one.status}[/]"
        rows = "\n".join(_told(row) for row in one.measured)
        facts = "see below" if one.error else rows or "nothing found"
        table.add_row(escape(one.series), outcome, escape(facts))
    console.print(table)
    for one in result.series:
        for warning in one.warnings:
            console.print(f"[yellow]warning[/] {escape(one.name)}: {escape(warning)}", highlight=False, soft_wrap=True)
    if result.skipped_files:
        console.print(f"[dim]files that were not read: {result.skipped_files} ('hounsfield inspect' says why)[/]")
    for one in result.series:
        for kind, path in one.outputs.items():
            console.print(f"  {kind:<9} {escape(str(path))}", highlight=False, soft_wrap=True)


def _told(row: Mapping[str, Any]) -> str:
    """One row of a result, in words."""
    if "volume_ml" in row:
        return f"{row['label']}: {row['volume_ml']:.2f} ml"
    if "value" in row:
        return f"{row['label']}: " + ("not known" if row["value"] is None else f"{row['value']:.4g} {row['unit']}")
    if "count" in row:
        return f"{row['label']}: {row['count']} found"
    place = "" if row["point_mm"] is None else " at ({:.1f}, {:.1f}, {:.1f}) mm".format(*row["point_mm"])
    called = ", ".join(f"{name}: {'yes' if yes else 'no'}" for name, yes in row["called"].items())
    return f"{row['label']}{place}: {row['probability']:.3f}" + (f" ({called})" if called else "")


def show_reasons(result: RunResult, scan: Path) -> None:
    """One line on standard error for each series that was not read: the file, the series, the fact, the remedy."""
    for one in result.series:
        if one.error is not None:
            where, key = one.error["path"] or scan, one.series.split(" ")[0]
            line = f"hounsfield: {where}: series {key}: {one.error['fact']}; {one.error['remedy']}"
            typer.echo(" ".join(line.split()), err=True)


def _saved_plan(path: Path) -> Plan:
    """The plan in a file; every error names the file."""
    from hounsfield.errors import SettingsError
    from hounsfield.planning import Plan

    try:
        return Plan.from_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        fact = f"the plan cannot be read ({error.strerror or error})"
        raise SettingsError(fact, "check the path, or save a plan with 'hounsfield plan --save'", path) from error
    except UnicodeDecodeError as error:
        raise SettingsError("the plan is not text", "save it again with 'hounsfield plan --save'", path) from error
    except SettingsError as error:
        raise SettingsError(error.fact, error.remedy, path) from error


def _seg(text: str) -> str:
    if text not in ("binary", "both"):
        raise typer.BadParameter("choose binary or both", param_hint="--seg")
    return text
