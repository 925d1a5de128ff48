"""Who may call what: every route needs a role, shown by a bearer token; only health is open."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends, HTTPException, Request

from hounsfield.audit import AuditEvent
from hounsfield.usecases.node.opening import Node
from hounsfield.usecases.node.tokens import Role, Token, find_token

#: On which ``needs`` leaves its role, so that a test can walk all routes.
RULE: Final = "needed_role"
_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}


class Needs:
    """A dependency that lets only tokens of a role pass, and records who was turned away."""

    def __init__(self, role: Role) -> None:
        self.needed_role: Role = role

    def __call__(self, request: Request) -> Token:
        node: Node = request.app.state.node
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        token = find_token(node.root, secret.strip()) if kind.lower() == "bearer" and secret else None
        host = request.client.host if request.client else ""
        if token is None:
            what = {"host": host, "path": request.scope["route"].path}
            node.audit(AuditEvent("security-alert", "unknown", {**what, "refused": "no token"}, 4))
            raise HTTPException(401, "show a token: Authorization: Bearer ...", _CHALLENGE)
        if not token.may(self.needed_role):
            what = {"host": host, "path": request.scope["route"].path, "role": token.role}
            node.audit(AuditEvent("security-alert", token.name, {**what, "refused": "role"}, 4))
            raise HTTPException(403, f"this needs the role {self.needed_role}")
        return token


Viewer = Annotated[Token, Depends(Needs("viewer"))]
Sender = Annotated[Token, Depends(Needs("sender"))]
Operator = Annotated[Token, Depends(Needs("operator"))]
