"""Who may call what: every route needs a role, shown by a bearer token or by a person's log-in.

A log-in is a cookie that scripts cannot read and other sites cannot send. What changes something
must repeat the log-in's own word in the header ``X-CSRF-Token``.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, HTTPException, Request

from hounsfield.audit import AuditEvent
from hounsfield.usecases.node.opening import Node
from hounsfield.usecases.node.people import find_session
from hounsfield.usecases.node.tokens import Role, find_token, may

COOKIE: Final = "hounsfield_session"
_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}
_HARMLESS: Final = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Caller:
    """Who calls: a program by its token, or a person by a log-in.

    Parameters
    ----------
    csrf
        The word that a person's changing requests must repeat; empty for programs.
    """

    name: str
    role: str
    csrf: str = ""

    def may(self, needed: Role) -> bool:
        """Whether it is enough for what needs this role."""
        return may(self.role, needed)


class Needs:
    """A dependency that lets only callers of a role pass, and records who was turned away."""

    def __init__(self, role: Role) -> None:
        self.needed_role: Role = role

    def __call__(self, request: Request) -> Caller:
        node: Node = request.app.state.node
        caller = caller_of(node, request)
        what = {"host": request.client.host if request.client else "", "path": request.scope["route"].path}
        if caller is None:
            node.audit(AuditEvent("security-alert", "unknown", {**what, "refused": "no token"}, 4))
            raise HTTPException(401, "show a token: Authorization: Bearer ...", _CHALLENGE)
        if not caller.may(self.needed_role):
            node.audit(AuditEvent("security-alert", caller.name, {**what, "role": caller.role, "refused": "role"}, 4))
            raise HTTPException(403, f"this needs the role {self.needed_role}")
        if caller.csrf and request.method not in _HARMLESS:
            shown = request.headers.get("x-csrf-token", "")
            if not hmac.compare_digest(shown.encode(), caller.csrf.encode()):
                node.audit(AuditEvent("security-alert", caller.name, {**what, "refused": "csrf"}, 4))
                raise HTTPException(403, "the request does not come from the page; load it again")
        return caller


def caller_of(node: Node, request: Request) -> Caller | None:
    """Who calls, by token or log-in."""
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if kind:
        token = find_token(node.root, secret.strip()) if kind.lower() == "bearer" and secret else None
        return None if token is None else Caller(token.name, token.role)
    cookie = request.cookies.get(COOKIE, "")
    session = find_session(node, cookie) if cookie else None
    return None if session is None else Caller(session.name, session.role, session.csrf)


Viewer = Annotated[Caller, Depends(Needs("viewer"))]
Sender = Annotated[Caller, Depends(Needs("sender"))]
Reviewer = Annotated[Caller, Depends(Needs("reviewer"))]
Operator = Annotated[Caller, Depends(Needs("operator"))]
Admin = Annotated[Caller, Depends(Needs("admin"))]
