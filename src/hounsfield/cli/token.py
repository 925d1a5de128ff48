"""``hounsfield token``: who may use a node's web interface."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from hounsfield.cli.serve import Data, need_server_extra

app = typer.Typer(help="Make and remove the tokens of a node's web interface.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Who will use it: small letters, digits, hyphens.")]


@app.command()
def add(
    name: Name,
    role: Annotated[str, typer.Option(help="viewer looks, sender stores instances, operator does all.")] = "viewer",
    data: Data = None,
) -> None:
    """Make a token and print it; it cannot be shown again."""
    need_server_extra()
    from hounsfield.usecases.node.looking import opened
    from hounsfield.usecases.node.opening import default_root
    from hounsfield.usecases.node.tokens import add_token

    with opened(data or default_root()) as node:
        typer.echo(add_token(node, name, role, getpass.getuser()))


@app.command()
def remove(name: Name, data: Data = None) -> None:
    """Take a token back."""
    need_server_extra()
    from hounsfield.usecases.node.looking import opened
    from hounsfield.usecases.node.opening import default_root
    from hounsfield.usecases.node.tokens import remove_token

    with opened(data or default_root()) as node:
        remove_token(node, name, getpass.getuser())
