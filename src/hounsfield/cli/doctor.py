"""``hounsfield doctor``."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Show what this machine has: engines, codecs, memory, and why something is missing."""
    from hounsfield.usecases.doctor import doctor as examine

    result = examine()
    if as_json:
        import json

        typer.echo(json.dumps(result.as_dict(), indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(width=1)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    marks = {"ok": "[green]✓[/]", "missing": "[red]✗[/]", "note": "[dim]·[/]"}
    for line in result.lines:
        remedy = f" [dim]→ {line.remedy}[/]" if line.remedy else ""
        table.add_row(marks[line.state], line.about, line.fact + remedy)
    Console().print(table)
