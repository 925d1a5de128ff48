"""``hounsfield dataset check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hounsfield.cli.options import Quiet

app = typer.Typer(name="dataset", help="Look at a data set before training on it.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Verbs about data sets."""


@app.command()
def check(
    table: Annotated[Path, typer.Argument(help="CSV or JSONL: image, label, patient_id, split ...")],
    split_file: Annotated[Path | None, typer.Option(help="JSON from split to case ids.")] = None,
    target: Annotated[str, typer.Option(help="Column of the class, for data without label maps.")] = "",
    montages: Annotated[Path | None, typer.Option(help="Draw pages of pictures into this folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Find grids that differ, surprising labels, leaking patients, duplicates, and show the class balance.

    Exit code 0 means that nothing stops a training.
    """
    from hounsfield.cli.progress import ProgressBars
    from hounsfield.usecases.dataset import DatasetRequest, check_dataset

    with ProgressBars(quiet or as_json) as bars:
        report = check_dataset(DatasetRequest(table, split_file, target, montages), bars)
    if as_json:
        import json

        typer.echo(json.dumps(report.as_dict(), indent=2))
    else:
        for split, count in report.cases.items():
            classes = ", ".join(f"{name}: {n}" for name, n in report.classes[split].items())
            typer.echo(f"{split or 'no split'}: {count} cases, {report.patients[split]} patients; {classes}")
        for issue in report.issues:
            more = f" and {len(issue.cases) - 6} more" if len(issue.cases) > 6 else ""
            where = f" [{', '.join(issue.cases[:6])}{more}]" if issue.cases else ""
            typer.echo(f"{issue.severity}: {issue.message}{where}")
        for path in report.montages:
            typer.echo(f"  montage  {path}")
        typer.echo("nothing stops a training" if report.usable else "a training would stop here")
    raise typer.Exit(0 if report.usable else 1)
