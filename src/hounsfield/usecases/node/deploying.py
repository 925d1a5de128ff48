"""A model's standing on the node: which routes use it, and an admin's decision to change that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hounsfield.audit import AuditEvent
from hounsfield.department.route_states import RouteState, read_states, write_state
from hounsfield.errors import SettingsError
from hounsfield.usecases.node.opening import Node


@dataclass(frozen=True)
class RouteStanding:
    """One route and what was decided of it."""

    name: str
    model: str
    precision: str
    state: RouteState
    destinations: tuple[str, ...]
    match: dict[str, Any]


def standings(node: Node) -> tuple[RouteStanding, ...]:
    """Every route with its standing.

    Raises
    ------
    SettingsError
        If the routes cannot be used.
    """
    states = read_states(node.route_states)
    return tuple(
        RouteStanding(
            route.name,
            route.model,
            route.precision,
            states.get(route.name, "shadow" if route.shadow else "active"),
            route.destinations,
            route.match.model_dump(mode="json", exclude_none=True, exclude_defaults=True),
        )
        for route in node.all_routes()
    )


def decide_route(node: Node, name: str, state: RouteState, who: str) -> None:
    """Change what a route does from the next study on; jobs that are there stay as they are.

    Raises
    ------
    SettingsError
        If there is no such route, or the file itself says that it is a shadow and it is to be active.
    """
    route = next((one for one in node.all_routes() if one.name == name), None)
    if route is None:
        raise SettingsError(f"there is no route {name[:64]!r}", "reload the page")
    if route.shadow and state == "active":
        raise SettingsError("routes.toml says that this route is a shadow", "change it there")
    write_state(node.route_states, name, state)
    what = {"activity": "route decided", "route": name, "model": route.model, "state": state}
    node.audit(AuditEvent("application-activity", who, what))
