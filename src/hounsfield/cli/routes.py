"""``hounsfield routes``: which model would read a study, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hounsfield.cli.serve import Data, need_server_extra

if TYPE_CHECKING:
    from hounsfield.usecases.node.routing import SeriesAnswer

app = typer.Typer(help="Try the routes of a node on a study, or check them.", no_args_is_help=True)

RoutesFile = Annotated[
    Path | None, typer.Option("--routes", metavar="FILE", help="This file instead of the node's routes.toml.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print data instead of text.")]


@app.command("test")
def try_out(
    study: Annotated[Path, typer.Argument(help="Folder, file, zip or tar with the study.")],
    routes: RoutesFile = None,
    data: Data = None,
    calling_ae: Annotated[str, typer.Option(help="As if this AE title had sent it.")] = "",
    as_json: AsJson = False,
) -> None:
    """Say which routes a study would take, and which condition keeps it from the others. Runs nothing.

    Exit code 0 means that at least one route wants it.
    """
    need_server_extra()
    from hounsfield.department.routes import read_routes
    from hounsfield.usecases.node.routing import try_routes

    answers = try_routes(read_routes(_file(routes, data)), study, calling_ae)
    if as_json:
        import json

        typer.echo(json.dumps([answer.as_dict() for answer in answers], indent=1))
    else:
        for answer in answers:
            _show(answer)
    raise typer.Exit(0 if any(one.matches for answer in answers for one in answer.answers) else 1)


@app.command()
def check(routes: RoutesFile = None, data: Data = None) -> None:
    """Check the file of the routes: its form, and that each model is here and can run as asked."""
    need_server_extra()
    from hounsfield.department.routes import read_routes
    from hounsfield.usecases.node.routing import check_routes

    found = read_routes(_file(routes, data))
    check_routes(found)
    typer.echo(f"{len(found)} routes: {', '.join(route.name for route in found) or 'none'}")


def _file(routes: Path | None, data: Path | None) -> Path:
    from hounsfield.errors import SettingsError
    from hounsfield.usecases.node.opening import default_root

    path = routes or (data or default_root()) / "routes.toml"
    if not path.is_file():
        raise SettingsError("there are no routes", "write them, or name the file with --routes", path)
    return path


def _show(answer: SeriesAnswer) -> None:
    typer.echo(f"{answer.series} ({answer.instances} instances)")
    for one in answer.answers:
        typer.echo(f"  {'->' if one.matches else 'no'} {one.route}: {one.model}")
        for check in one.checks:
            if not check.holds:
                typer.echo(f"     {check.about}: {check.fact}")
    if not answer.answers:
        typer.echo("  there is no route")
