"""``hounsfield demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hounsfield.cli.options import AsJson


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the demo; new or empty.")] = Path(
        "demo-out"
    ),
    as_json: AsJson = False,
) -> None:
    """Watch a real model read a real brain (ICBM-152 average) and write standard DICOM."""
    from hounsfield.cli.progress import ProgressBars
    from hounsfield.cli.run import show_reasons, show_run
    from hounsfield.usecases.demo import demo as show

    with ProgressBars(as_json) as bars:
        result = show(output, bars)
    if as_json:
        import json

        typer.echo(json.dumps({"scan": str(result.scan), **result.run.as_dict()}, indent=2))
    else:
        show_run(result.run)
        show_reasons(result.run, result.scan)
        reports = [str(path) for one in result.run.series for kind, path in one.outputs.items() if kind == "report"]
        typer.echo("\nOpen a report in a browser: " + " or ".join(reports))
    raise typer.Exit(0 if result.run.succeeded else 1)
