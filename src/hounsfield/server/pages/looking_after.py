"""The pages of those who look after the node: the system, and the accounts."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Path, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from hounsfield.errors import SettingsError
from hounsfield.server.access import Admin, Operator, Viewer
from hounsfield.server.pages.rendering import render
from hounsfield.usecases.node import people
from hounsfield.usecases.node.opening import Node
from hounsfield.usecases.node.overseeing import oversee, verify_trail

UserName = Annotated[str, Path(max_length=64)]
Password = Annotated[str, Field(max_length=people.LONGEST_PASSWORD)]


class NewPerson(BaseModel):
    """An account to make."""

    name: str = Field(max_length=64)
    role: str = Field(max_length=16)
    password: Password


class NewPassword(BaseModel):
    """One's own password, old and new."""

    old: Password
    password: Password


class NewRole(BaseModel):
    """Another role."""

    role: str = Field(max_length=16)


def add_looking_after(app: FastAPI, node: Node) -> None:
    """The routes of the system's page and of accounts."""

    @app.get("/system", include_in_schema=False)
    def system(request: Request, caller: Viewer) -> HTMLResponse:
        health = oversee(node)
        return render(request, "system.html", caller, health=health, config=node.config, root=str(node.root))

    @app.post("/api/v1/audit/verify")
    def check(caller: Operator) -> dict[str, Any]:
        """Check the chain of the whole audit trail."""
        found = verify_trail(node, caller.name)
        return {"holds": found.holds, "lines": found.lines, "fault": found.fault, "last_sha256": found.last_sha256}

    @app.get("/account", include_in_schema=False)
    def account(request: Request, caller: Viewer) -> HTMLResponse:
        everyone = people.list_users(node) if caller.may("admin") else []
        return render(request, "account.html", caller, everyone=everyone, roles=people.PERSON_ROLES)

    @app.post("/api/v1/account/password", status_code=204)
    def change(caller: Viewer, request: Request, said: NewPassword) -> None:
        """Change one's own password; every log-in ends, this one too."""
        host = request.client.host if request.client else ""
        if not caller.csrf or people.log_in(node, caller.name, said.old, host) is None:
            raise SettingsError("the old password is wrong", "type it again")
        people.change_password(node, caller.name, said.password, caller.name)

    @app.post("/api/v1/users", status_code=204)
    def make(caller: Admin, said: NewPerson) -> None:
        """Make an account."""
        people.add_user(node, said.name, said.role, said.password, caller.name)

    @app.post("/api/v1/users/{name}/role", status_code=204)
    def give(caller: Admin, name: UserName, said: NewRole) -> None:
        """Give an account another role."""
        people.change_role(node, name, said.role, caller.name)

    @app.post("/api/v1/users/{name}/remove", status_code=204)
    def remove(caller: Admin, name: UserName) -> None:
        """Remove an account."""
        people.remove_user(node, name, caller.name)
