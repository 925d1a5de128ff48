"""``hounsfield audit``: check a node's audit trail."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hounsfield.cli.serve import Data

app = typer.Typer(help="Check the audit trail of a node.", no_args_is_help=True)


@app.callback()
def _audit() -> None:
    """The audit trail of a node."""


@app.command()
def verify(
    file: Annotated[Path | None, typer.Argument(help="audit.jsonl; the node's own by default.")] = None,
    data: Data = None,
) -> None:
    """Check every line and the chain between them; exit code 1 if one was changed, put in or taken out.

    Lines cut off at the end leave a chain that holds: compare the count and the last digest with a copy.
    """
    from hounsfield.audit import verify as verify_ledger
    from hounsfield.settings import load_settings

    path = file or (data or load_settings().home / "node") / "audit.jsonl"
    verdict = verify_ledger(path)
    typer.echo(f"{verdict.lines} lines hold, the last is {verdict.last_sha256}")
    if not verdict.holds:
        typer.echo(verdict.fault)
        raise typer.Exit(1)
