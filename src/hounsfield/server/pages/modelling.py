"""The models: what is here, how good it is by stratum, which routes use it, and deciding that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import FastAPI, Path, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from hounsfield.department.route_states import RouteState
from hounsfield.errors import HounsfieldError
from hounsfield.packages.evidence import Score
from hounsfield.server.access import Admin, Viewer
from hounsfield.server.pages.cards import card_html
from hounsfield.server.pages.rendering import render
from hounsfield.usecases.models import ListResult, ShowRequest, list_models, show_model
from hounsfield.usecases.node.deploying import RouteStanding, decide_route, standings
from hounsfield.usecases.node.opening import Node

_WIDTH: Final = 300.0
_FRACTIONS: Final = ("1", "")


class Decision(BaseModel):
    """What a route is to do."""

    state: RouteState


@dataclass(frozen=True)
class Bar:
    """One score as a bar of a plot: ``x``, ``low`` and ``high`` in its units of width."""

    stratum: str
    n: int
    value: float
    text: str
    x: float
    low: float
    high: float


@dataclass(frozen=True)
class Plot:
    """One metric of one precision over its strata."""

    title: str
    precision: str
    unit: str
    bars: tuple[Bar, ...]
    most: float


def add_modelling(app: FastAPI, node: Node) -> None:
    """The routes of models."""

    @app.get("/models", include_in_schema=False)
    def show_all(request: Request, caller: Viewer) -> HTMLResponse:
        routes, problem = _standings(node)
        found: ListResult = list_models()
        users = {row.reference: [one for one in routes if one.model in (row.id, row.reference)] for row in found.models}
        return render(request, "models.html", caller, models=found.models, users=users, routes=routes, problem=problem)

    @app.get("/models/{reference}", include_in_schema=False)
    def show_one(
        request: Request,
        caller: Viewer,
        reference: Annotated[str, Path(pattern=r"^[a-z0-9]+(-[a-z0-9.]+)*$", max_length=128)],
    ) -> HTMLResponse:
        found = show_model(ShowRequest(reference))
        package = found.package
        evidence = {name: package.evidence(name) for name in package.precisions}
        proven = {name: one for name, one in evidence.items() if one is not None}
        routes, _ = _standings(node)
        return render(
            request,
            "model.html",
            caller,
            row=found.row,
            manifest=package.manifest,
            card=card_html(found.card),
            plots=[plot for name, one in proven.items() for plot in plots_of(name, one.scores, _names(package))],
            evidence=proven,
            unproven=[name for name, one in evidence.items() if one is None],
            routes=[one for one in routes if one.model in (found.row.id, found.row.reference)],
        )

    @app.post("/api/v1/routes/{route}/state", status_code=204)
    def decide(caller: Admin, route: Annotated[str, Path(max_length=64)], said: Decision) -> None:
        """Let a route run (active), run without sending (shadow), or make no new jobs (retired)."""
        decide_route(node, route, said.state, caller.name)


def _standings(node: Node) -> tuple[Sequence[RouteStanding], str]:
    try:
        return standings(node), ""
    except HounsfieldError as error:
        return (), f"{error.fact}; {error.remedy}"


def _names(package: Any) -> dict[int, str]:
    return {one.number: one.label for one in package.manifest.output.segments}


def plots_of(precision: str, scores: Iterable[Score], names: dict[int, str]) -> list[Plot]:
    """One plot per metric and segment, over all strata, in the order of the evidence."""
    grouped: dict[tuple[str, int | None, str], list[Score]] = {}
    for score in scores:
        grouped.setdefault((score.metric, score.segment, score.unit), []).append(score)
    made = []
    for (metric, segment, unit), own in grouped.items():
        fraction = unit in _FRACTIONS and all(one.low >= 0 and one.high <= 1 for one in own)
        most = 1.0 if fraction else max((one.high for one in own), default=1.0) or 1.0
        least = 0.0 if all(one.low >= 0 for one in own) else min(one.low for one in own)
        scale = _WIDTH / ((most - least) or 1.0)
        bars = tuple(
            Bar(
                one.stratum,
                one.n,
                one.value,
                f"{one.value:.3g} ({one.low:.3g} to {one.high:.3g})",
                *(round((number - least) * scale, 1) for number in (one.value, one.low, one.high)),
            )
            for one in own
        )
        title = metric if segment is None else f"{metric}, {names.get(segment, f'segment {segment}')}"
        made.append(Plot(title, precision, "" if unit in _FRACTIONS else unit, bars, most))
    return made
