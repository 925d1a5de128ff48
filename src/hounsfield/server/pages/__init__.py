"""The pages that people look at: HTML from templates, over the same use cases and routes as programs use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from hounsfield.errors import HounsfieldError
from hounsfield.server.access import caller_of
from hounsfield.server.pages.entering import add_entering
from hounsfield.server.pages.listing import add_listing
from hounsfield.server.pages.looking_after import add_looking_after
from hounsfield.server.pages.modelling import add_modelling
from hounsfield.server.pages.queueing import add_queueing
from hounsfield.server.pages.rendering import as_query, render
from hounsfield.server.pages.studying import add_studying
from hounsfield.server.reviewing import add_reviewing
from hounsfield.usecases.node.imaging import StudyImages
from hounsfield.usecases.node.opening import Node

_FOR_PROGRAMS = ("/api/", "/dicom-web/", "/metrics", "/fhir/")


class _Files(StaticFiles):
    """The page's own files: a browser may keep them, and asks each time whether they are still the same."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        answer = super().file_response(*args, **kwargs)
        answer.headers["Cache-Control"] = "no-cache"
        return answer


def add_pages(app: FastAPI, node: Node, refusal: Callable[[Request, Exception], Awaitable[Response]]) -> None:
    """Add the pages, their files, and answers to people where programs get JSON.

    Parameters
    ----------
    refusal
        How a program is told of a refusal.
    """
    app.mount("/static", _Files(directory=Path(str(files("hounsfield.server"))) / "static"), name="static")
    images = StudyImages(node)
    add_entering(app, node)
    add_listing(app, node)
    add_studying(app, node, images)
    add_reviewing(app, node, images, app.state.points)
    add_queueing(app, node)
    add_modelling(app, node)
    add_looking_after(app, node)

    @app.exception_handler(HTTPException)
    async def turned_away(request: Request, error: HTTPException) -> Response:
        if not _is_person(request):
            return await http_exception_handler(request, error)
        if error.status_code == 401:
            target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/login?{as_query({'target': target})}", 303)
        return _problem(node, request, error.status_code, str(error.detail), "")

    @app.exception_handler(HounsfieldError)
    async def refused(request: Request, error: HounsfieldError) -> Response:
        if not _is_person(request):
            return await refusal(request, error)
        return _problem(node, request, 409, error.fact, error.remedy)


def _is_person(request: Request) -> bool:
    wants = "text/html" in request.headers.get("accept", "")
    return wants and request.method == "GET" and not request.url.path.startswith(_FOR_PROGRAMS)


def _problem(node: Node, request: Request, status: int, fact: str, remedy: str) -> Response:
    return render(request, "problem.html", caller_of(node, request), status, fact=fact, remedy=remedy)
