"""``hounsfield user``: who may log in to a node's page."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from hounsfield.cli.serve import Data, need_server_extra

app = typer.Typer(help="Make, list and remove the accounts of a node's page.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Who it is: small letters, digits, dots, hyphens.")]
Role = Annotated[
    str, typer.Option(help="viewer looks, reviewer also judges results, operator adds and acts, admin does all.")
]


@app.command()
def add(name: Name, role: Role = "viewer", data: Data = None) -> None:
    """Make an account; the password is asked for, or read from standard input."""
    need_server_extra()
    from hounsfield.usecases.node.looking import opened
    from hounsfield.usecases.node.opening import default_root
    from hounsfield.usecases.node.people import add_user

    password = _password()
    with opened(data or default_root()) as node:
        add_user(node, name, role, password, getpass.getuser())


@app.command()
def password(name: Name, data: Data = None) -> None:
    """Give an account another password; every log-in of it ends."""
    need_server_extra()
    from hounsfield.usecases.node.looking import opened
    from hounsfield.usecases.node.opening import default_root
    from hounsfield.usecases.node.people import change_password

    fresh = _password()
    with opened(data or default_root()) as node:
        change_password(node, name, fresh, getpass.getuser())


@app.command()
def remove(name: Name, data: Data = None) -> None:
    """Remove an account; it is logged out at once."""
    need_server_extra()
    from hounsfield.usecases.node.looking import opened
    from hounsfield.usecases.node.opening import default_root
    from hounsfield.usecases.node.people import remove_user

    with opened(data or default_root()) as node:
        remove_user(node, name, getpass.getuser())


@app.command("list")
def list_accounts(data: Data = None) -> None:
    """List the accounts and their roles."""
    need_server_extra()
    from hounsfield.usecases.node.looking import opened
    from hounsfield.usecases.node.opening import default_root
    from hounsfield.usecases.node.people import list_users

    with opened(data or default_root()) as node:
        for user in list_users(node):
            typer.echo(f"{user.name:<24} {user.role}")


def _password() -> str:
    """A password typed twice, or one line of standard input when that is no terminal."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
