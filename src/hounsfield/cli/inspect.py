"""``hounsfield inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from hounsfield.reading import Series
    from hounsfield.usecases.inspect import InspectedSeries, InspectResult

_VERDICT_STYLES: Final = {"readable": "green", "repairable": "yellow", "refused": "red"}
_ISSUE_STYLES: Final = {"note": "dim", "warn": "yellow", "repairable": "yellow", "refuse": "red"}
_STOPS: Final = ("repairable", "refuse")
_SKIPPED_SHOWN: Final = 5


def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder, file, zip or tar of scans.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="OUT.png", help="Draw a montage of the slices.")
    ] = None,
    series: Annotated[str | None, typer.Option("--series", metavar="KEY", help="The series to draw.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Draw a series that needs a repair.")] = False,
) -> None:
    """Show what a scan is: studies, series, geometry, what is wrong with each, and a picture."""
    from hounsfield.cli.progress import ProgressBars
    from hounsfield.usecases.inspect import InspectRequest
    from hounsfield.usecases.inspect import inspect as look

    with ProgressBars(quiet=as_json) as bars:
        result = look(InspectRequest(path, picture, series, repair), bars)
    if as_json:
        import json

        typer.echo(json.dumps(result.as_dict(), indent=2))
    else:
        _show(result)
    if not result.any_readable:
        raise typer.Exit(1)


def _show(result: InspectResult) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    console.print(_table(result))
    for one in result.skipped[:_SKIPPED_SHOWN]:
        console.print(f"[dim]skipped {escape(_short(one.path, result.path))}: {escape(one.reason)}[/]")
    if len(result.skipped) > _SKIPPED_SHOWN:
        console.print(f"[dim]and {len(result.skipped) - _SKIPPED_SHOWN} more skipped (--json lists all)[/]")
    if result.picture is not None:
        console.print(f"picture: [bold]{escape(str(result.picture))}[/]")


def _table(result: InspectResult) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=False)
    table.add_column("series", justify="right", style="bold")
    for name in ("what", "slices x rows x columns", "spacing mm", "axes", "verdict and issues"):
        table.add_column(name, overflow="fold")
    study = 0
    for one in result.series:
        if one.study != study:
            study = one.study
            table.add_section()
        table.add_row(
            one.series.key,
            escape(_what(one.series, result.path)),
            _size(one.series),
            "" if one.series.geometry is None else " x ".join(f"{mm:.4g}" for mm in one.series.geometry.spacing_mm),
            _axes(one.series),
            _findings(one),
        )
    return table


def _what(series: Series, root: Path) -> str:
    """Modality, kind and description; the file name for formats without a description."""
    name = series.description or (_short(series.source, root) if series.format != "dicom" else "")
    count = f"{series.instances} files" if series.instances > 1 else ""
    parts = (series.modality or series.format, series.kind.value, name, count)
    return " · ".join(part for part in parts if part)


def _size(series: Series) -> str:
    if series.geometry is None:
        return ""
    size = " x ".join(str(n) for n in series.geometry.shape)
    return f"{len(series.times_s)} times {size}" if series.times_s else size


def _axes(series: Series) -> str:
    if series.geometry is None:
        return ""
    oblique = series.geometry.obliquity_degrees
    return series.geometry.orientation + (f" {oblique:.0f}°" if oblique >= 0.5 else "")


def _findings(one: InspectedSeries) -> str:
    from rich.markup import escape

    lines = [f"[{_VERDICT_STYLES[one.verdict]}]{one.verdict}[/]"]
    if one.reason is not None and not any(issue.severity in _STOPS for issue in one.series.issues):
        lines.append(f"[red]{escape(one.reason)}[/]")
    for issue in one.series.issues:
        remedy = f"; {issue.remedy}" if issue.remedy and issue.severity in _STOPS else ""
        lines.append(f"[{_ISSUE_STYLES[issue.severity]}]{issue.severity}: {escape(issue.message + remedy)}[/]")
    return "\n".join(lines)


def _short(path: Path, root: Path) -> str:
    """The path below the one the user gave, or its name."""
    if path == root or root not in path.parents:
        return path.name
    return str(path.relative_to(root))
