"""What an admin decided of routes on the page, beside the file that says what they are.

``active`` is as the file says, ``shadow`` runs and keeps the results but sends them nowhere,
``retired`` makes no new jobs.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, get_args

from hounsfield.department.routes import Route
from hounsfield.errors import SettingsError

RouteState = Literal["active", "shadow", "retired"]
ROUTE_STATES: Final[tuple[str, ...]] = get_args(RouteState)


def read_states(path: Path) -> dict[str, RouteState]:
    """What was decided, by route name; nothing if there is no file.

    Raises
    ------
    SettingsError
        If the file is damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not all(state in ROUTE_STATES for state in found.values()):
            raise ValueError("not a table of states")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        fact = "what was decided of the routes cannot be read"
        raise SettingsError(fact, "remove the file and decide again on the page", path) from error
    return found


def write_state(path: Path, route: str, state: RouteState) -> None:
    """Note what was decided of one route; the file is whole at every moment."""
    states = {**read_states(path), route: state}
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(states, indent=1, sort_keys=True))
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def decided(routes: Sequence[Route], states: dict[str, RouteState]) -> tuple[Route, ...]:
    """The routes that make jobs now: without the retired ones, shadows marked."""
    kept = []
    for route in routes:
        state = states.get(route.name, "active")
        if state != "retired":
            kept.append(route.model_copy(update={"shadow": True}) if state == "shadow" else route)
    return tuple(kept)
