"""``hounsfield jobs``: what a node did, does, and could not do."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from hounsfield.cli.serve import Data, need_server_extra

if TYPE_CHECKING:
    from pathlib import Path

    from hounsfield.usecases.node.looking import JobRow

app = typer.Typer(help="List a node's jobs; cancel one, try it again, send its results again.")

JobId = Annotated[int, typer.Argument(help="Number of the job, from 'hounsfield jobs'.")]


@app.callback(invoke_without_command=True)
def jobs(
    context: typer.Context,
    data: Data = None,
    state: Annotated[str, typer.Option(help="Only waiting, leased, done, refused, dead, cancelled ...")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of a table.")] = False,
) -> None:
    """List jobs, newest first, with what was sent where."""
    if context.invoked_subcommand is not None:
        return
    need_server_extra()
    from hounsfield.usecases.node.looking import list_jobs, opened

    with opened(_root(data)) as node:
        rows = list_jobs(node, state=state)
    if as_json:
        import json

        typer.echo(json.dumps([row.as_dict() for row in rows], indent=1))
        return
    for row in rows:
        _show(row)


@app.command()
def retry(job: JobId, data: Data = None) -> None:
    """Let a dead, refused or cancelled job be tried again."""
    need_server_extra()
    from hounsfield.usecases.node.looking import opened, retry_job

    with opened(_root(data)) as node:
        retry_job(node, job, getpass.getuser())


@app.command()
def cancel(job: JobId, data: Data = None) -> None:
    """Cancel a waiting or running job."""
    need_server_extra()
    from hounsfield.usecases.node.looking import cancel_job, opened

    with opened(_root(data)) as node:
        cancel_job(node, job, getpass.getuser())


@app.command()
def resend(
    job: Annotated[int | None, typer.Argument(help="Only this job's results; all dead deliveries by default.")] = None,
    data: Data = None,
) -> None:
    """Try deliveries again that were given up."""
    need_server_extra()
    from hounsfield.usecases.node.looking import opened
    from hounsfield.usecases.node.looking import resend as send_again

    with opened(_root(data)) as node:
        typer.echo(f"{send_again(node, job, getpass.getuser())} deliveries wait again")


def _root(data: Path | None) -> Path:
    from hounsfield.usecases.node.opening import default_root

    return data or default_root()


def _show(row: JobRow) -> None:
    shadow = " (shadow)" if row.shadow else ""
    typer.echo(f"{row.id:>5}  {row.state:<10} {row.route}{shadow}  attempt {row.attempts}  {row.reason}".rstrip())
    for one in row.deliveries:
        status = "" if one["status"] is None else f" {one['status']:04X}"
        line = f"       {one['kind']} -> {one['destination']}: {one['state']}{status} {one['reason']}"
        typer.echo(line.rstrip())
