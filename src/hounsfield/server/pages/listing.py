"""The worklist, live: pages of studies, and a stream that says when to look again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from hounsfield.department.described import ORDERS, STUDY_STATES, Wanted
from hounsfield.errors import HounsfieldError
from hounsfield.server.access import Viewer
from hounsfield.server.pages.rendering import as_query, render
from hounsfield.usecases.node.opening import Node
from hounsfield.usecases.node.worklist import pulse, worklist

PAGE_SIZE: Final = 50
_LOOK_SECONDS: Final = 1.0
_STREAM_SECONDS: Final = 55.0
_STATE_PATTERN: Final = f"^({'|'.join(STUDY_STATES)})?$"
_ORDER_PATTERN: Final = f"^({'|'.join(ORDERS)})$"


def add_listing(app: FastAPI, node: Node) -> None:
    """The worklist's routes."""

    @app.get("/", include_in_schema=False)
    def show(
        request: Request,
        caller: Viewer,
        text: Annotated[str, Query(max_length=64)] = "",
        state: Annotated[str, Query(pattern=_STATE_PATTERN)] = "",
        modality: Annotated[str, Query(pattern="^[A-Z]{0,16}$")] = "",
        order: Annotated[str, Query(pattern=_ORDER_PATTERN)] = "newest",
        page: Annotated[int, Query(ge=1, le=100_000)] = 1,
    ) -> HTMLResponse:
        wanted = Wanted(text, state, modality, order, (page - 1) * PAGE_SIZE, PAGE_SIZE)  # type: ignore[arg-type]
        found = worklist(node, wanted)
        routes, problem = _routes(node)
        query = {"text": text, "state": state, "modality": modality, "order": order}
        pages = max(1, -(-found.total // PAGE_SIZE))
        return render(
            request,
            "worklist_rows.html" if request.headers.get("x-part") == "rows" else "worklist.html",
            caller,
            found=found,
            page=page,
            pages=pages,
            states=STUDY_STATES,
            orders=ORDERS,
            previous=as_query({**query, "page": page - 1}) if page > 1 else "",
            following=as_query({**query, "page": page + 1}) if page < pages else "",
            filtered=bool(text or state or modality),
            now=time.time(),
            routes=routes,
            routes_problem=problem,
            node_title=node.config.ae_title,
            node_address=f"{node.config.host}:{node.config.port}",
        )

    @app.get("/events", include_in_schema=False)
    async def events(
        request: Request, caller: Viewer, seconds: Annotated[float, Query(ge=0, le=_STREAM_SECONDS)] = _STREAM_SECONDS
    ) -> StreamingResponse:
        """Server-sent events: ``changed`` whenever the worklist is not what it was."""
        return StreamingResponse(_changes(node, request, seconds), media_type="text/event-stream")


def _routes(node: Node) -> tuple[list[str], str]:
    """The routes' names; none, and why, when their file is wrong."""
    try:
        return [route.name for route in node.routes()], ""
    except HounsfieldError as error:
        return [], f"{error.fact}; {error.remedy}"


async def _changes(node: Node, request: Request, seconds: float) -> AsyncIterator[str]:
    """One event per change for a while; then the browser connects again by itself."""
    last, end = await run_in_threadpool(pulse, node), time.monotonic() + seconds
    yield "retry: 2000\n\n"
    while time.monotonic() < end and not await request.is_disconnected():
        await asyncio.sleep(_LOOK_SECONDS)
        now = await run_in_threadpool(pulse, node)
        yield ": still here\n\n" if now == last else "event: changed\ndata: worklist\n\n"
        last = now
