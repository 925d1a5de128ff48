"""``hounsfield models``: which model packages are here, and what one of them is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hounsfield.usecases.models import ModelRow, ShowResult

app = typer.Typer(help="List the model packages that are here, or show one.", no_args_is_help=False)

AsJson = Annotated[bool, typer.Option("--json", help="Print data instead of a table.")]


@app.callback(invoke_without_command=True)
def models(context: typer.Context, as_json: AsJson = False) -> None:
    """List the model packages shipped with hounsfield and those installed."""
    if context.invoked_subcommand is not None:
        return
    from hounsfield.usecases.models import list_models

    rows = list_models().models
    if as_json:
        _print_json({"models": [row.as_dict() for row in rows]})
    elif not rows:
        typer.echo("no model package is installed; hounsfield package install FILE adds one")
    else:
        _print_table(rows)


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="id, id-version, or the package's folder.")], as_json: AsJson = False
) -> None:
    """Show one package: what it reads, what it answers, its evidence and its card."""
    from hounsfield.usecases.models import ShowRequest, show_model

    result = show_model(ShowRequest(Path(model) if "/" in model else model))
    if as_json:
        _print_json(result.as_dict())
    else:
        _print_model(result)


def _print_json(data: object) -> None:
    import json

    typer.echo(json.dumps(data, indent=1))


def _print_table(rows: tuple[ModelRow, ...]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("id", "version", "task", "precisions", "size", "evidence", "signed", "from", box=None, pad_edge=False)
    for row in rows:
        if row.problem:
            cells = [row.id, row.version, "cannot be used", "", "", row.problem, "", row.source]
        else:
            shown = "; ".join(f"{name}: {summary}" for name, summary in row.evidence) or "none: unproven"
            precisions = ", ".join(row.precisions)
            size = f"{row.size_bytes / 1e6:.1f} MB"
            cells = [row.id, row.version, row.task, precisions, size, shown, row.signed, row.source]
        table.add_row(*(Text(cell) for cell in cells))
    Console().print(table)


def _print_model(result: ShowResult) -> None:
    manifest, row = result.package.manifest, result.row
    window = manifest.input.window
    spacing = manifest.input.spacing_mm
    facts = {
        "reference": row.reference,
        "title": row.title,
        "intended use": " ".join(manifest.intended_use.split()),
        "digest": row.digest,
        "signed": row.signed,
        "licence": f"weights {manifest.licence.weights}; data {manifest.licence.data}",
        "channels": ", ".join(f"{channel.name} ({channel.modality})" for channel in manifest.input.channels),
        "grid": f"{manifest.input.orientation}, "
        + (
            "the scan's own spacing"
            if spacing is None
            else f"spacing {' x '.join(f'{s:g}' if s else 'own' for s in spacing)} mm"
        ),
        "window": f"{' x '.join(map(str, window.shape))} voxels, overlap {window.overlap:g}",
        "segments": ", ".join(f"{segment.number} {segment.label}" for segment in manifest.output.segments),
        "size": f"{row.size_bytes / 1e6:.1f} MB",
        "folder": str(result.package.root),
    }
    for precision in row.precisions:
        facts[f"evidence {precision}"] = dict(row.evidence).get(precision, "none: unproven")
    width = max(map(len, facts))
    for key, value in facts.items():
        typer.echo(f"{key:<{width}}  {value}")
    typer.echo("")
    typer.echo(result.card.strip())
