"""``hounsfield serve``."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hounsfield.usecases.node.listening import Listening

Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="The node's folder; by default 'node' in hounsfield's home."),
]


def serve(
    data: Data = None,
    part: Annotated[str, typer.Option(help="Only one part: receive, clerk, work or web; all by default.")] = "",
    parent: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    """Run a DICOM node: receive studies, let routes choose models, send the answers.

    What it does is said in node.toml and routes.toml in its folder. Without them it listens on this
    machine only, port 11112, and keeps what it receives.
    """
    need_server_extra()
    from hounsfield.usecases.node.opening import default_root
    from hounsfield.usecases.node.serving import PARTS, ServeRequest
    from hounsfield.usecases.node.serving import serve as serve_node

    if part and part not in PARTS:
        raise typer.BadParameter(f"choose one of {', '.join(PARTS)}", param_hint="--part")
    root = default_root() if data is None else data
    chosen = part or None
    request = ServeRequest(root, chosen, parent or None)
    serve_node(request, None if chosen else _ready)


def _ready(listening: Listening) -> None:
    typer.echo(f"ready: {listening.ae_title} at {listening.host}:{listening.port}; Ctrl-C stops it")


def need_server_extra() -> None:
    """Say what to install when the extra is not here.

    Raises
    ------
    SettingsError
        With the line that installs it.
    """
    missing = [name for name in ("sqlalchemy", "fastapi") if importlib.util.find_spec(name) is None]
    if missing:
        from hounsfield.errors import SettingsError

        raise SettingsError(f"{missing[0]} is not installed", "install it: pip install 'hounsfield[server]'")
