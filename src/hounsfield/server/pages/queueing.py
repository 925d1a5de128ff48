"""What to look at next: results that wait for a person, the most telling first."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse

from hounsfield.server.access import Viewer
from hounsfield.server.pages.rendering import render
from hounsfield.usecases.node.awaiting import awaiting
from hounsfield.usecases.node.describing import describe_study, known_facts
from hounsfield.usecases.node.opening import Node

_SHOWN = 50


def add_queueing(app: FastAPI, node: Node) -> None:
    """The route of the review page."""

    @app.get("/review", include_in_schema=False)
    def show(request: Request, caller: Viewer) -> HTMLResponse:
        waiting = awaiting(node)
        shown = waiting[:_SHOWN]
        facts = {uid: known_facts(node, uid) or describe_study(node, uid) for uid in {one.study_uid for one in shown}}
        return render(request, "review.html", caller, waiting=shown, total=len(waiting), facts=facts)
