"""Logging in and out, and making the first account."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Annotated, Final
from urllib.parse import parse_qs

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from hounsfield.audit import AuditEvent
from hounsfield.errors import HounsfieldError
from hounsfield.server.access import COOKIE, Viewer
from hounsfield.server.pages.rendering import render
from hounsfield.usecases.node import people
from hounsfield.usecases.node.opening import Node

_MOST_BYTES: Final = 4096
_TRIES: Final = 5
_WINDOW_SECONDS: Final = 300.0
_MOST_KEPT: Final = 10_000


@dataclass
class Brake:
    """Lets so many wrong log-ins pass for each key within a window, then none until it is over."""

    tries: int = _TRIES
    window_s: float = _WINDOW_SECONDS
    _failed: dict[str, list[float]] = field(default_factory=dict)

    def wait_s(self, *keys: str) -> float:
        """Seconds until the next try of these keys, 0 when it may be now."""
        now = time.monotonic()
        waits = [0.0]
        for key in keys:
            recent = [at for at in self._failed.get(key, []) if now - at < self.window_s]
            if len(recent) >= self.tries:
                waits.append(recent[-self.tries] + self.window_s - now)
        return max(waits)

    def failed(self, *keys: str) -> None:
        """Note a wrong log-in."""
        if len(self._failed) > _MOST_KEPT:
            self._forget()
        for key in keys:
            self._failed[key] = [*self._failed.get(key, [])[-self.tries :], time.monotonic()]

    def worked(self, key: str) -> None:
        """Forget the wrong log-ins of a name that got in."""
        self._failed.pop(key, None)

    def _forget(self) -> None:
        now = time.monotonic()
        self._failed = {key: ats for key, ats in self._failed.items() if now - ats[-1] < self.window_s}


def add_entering(app: FastAPI, node: Node) -> None:
    """The routes of logging in, which are open to everyone, and out."""
    brake = Brake()

    @app.get("/login", include_in_schema=False)
    def show(request: Request, target: Annotated[str, Query(max_length=512)] = "/") -> Response:
        return login_page(node, request, wanted=_inside(target))

    @app.post("/login", include_in_schema=False)
    async def enter(request: Request) -> Response:
        said = await _form(request)
        return await run_in_threadpool(_enter, node, brake, request, said)

    @app.post("/logout", include_in_schema=False)
    def leave(request: Request, caller: Viewer) -> Response:
        people.log_out(node, request.cookies.get(COOKIE, ""), caller.name)
        answer = Response(status_code=204)
        answer.delete_cookie(COOKIE, path="/")
        return answer


def login_page(node: Node, request: Request, status: int = 200, problem: str = "", wanted: str = "/") -> Response:
    """The page to log in, or, while there is nobody, to make the first account."""
    first = people.prepare_first(node)
    return render(request, "login.html", None, status, first=first, problem=problem, target=wanted)


def _enter(node: Node, brake: Brake, request: Request, said: dict[str, str]) -> Response:
    name, password, host = said.get("name", ""), said.get("password", ""), request.client.host if request.client else ""
    target = _inside(said.get("target", "/"))
    wait = brake.wait_s(f"name {name}", f"host {host}")
    if wait:
        node.audit(AuditEvent("security-alert", "unknown", {"host": host, "refused": "too many log-ins"}, 4))
        page = login_page(node, request, 429, f"Too many tries. Try again in {wait / 60:.0f} min.", target)
        page.headers["Retry-After"] = str(int(wait) + 1)
        return page
    if "code" in said:
        try:
            people.make_first(node, said["code"], name, password)
        except HounsfieldError as error:
            brake.failed(f"host {host}")
            return login_page(node, request, 409, f"{error.fact}: {error.remedy}", target)
    begun = people.log_in(node, name, password, host)
    if begun is None:
        brake.failed(f"name {name}", f"host {host}")
        return login_page(node, request, 401, "Name or password is wrong.", target)
    brake.worked(f"name {name}")
    answer = RedirectResponse(target, 303)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, begun.secret, httponly=True, samesite="strict", secure=secure, path="/")
    return answer


async def _form(request: Request) -> dict[str, str]:
    """The fields of a small form from this very page; a form of another site is refused."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin", "")
    if site not in ("same-origin", "none") or (origin and origin != f"{request.url.scheme}://{request.url.netloc}"):
        raise HTTPException(403, "the form does not come from this page")
    body = b""
    async for block in request.stream():
        body += block
        if len(body) > _MOST_BYTES:
            raise HTTPException(413, "the form is too long")
    try:
        fields = parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=8)
    except ValueError as error:
        raise HTTPException(400, "the form is malformed") from error
    return {key: values[0] for key, values in fields.items()}


def _inside(target: str) -> str:
    """Where to go after the log-in: a path of this server, whatever the form says."""
    plain = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if plain and "\\" not in target else "/"
