"""schemathesis on the OpenAPI of a running node: whatever it sends, nothing is answered with a server error.

The verdict is the node's own count of its answers, not what schemathesis says of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hounsfield.usecases.node.tokens import add_token
from server.serving import Serving

from . import web_fuzz

#: Brings in the demo and starts a model; checks a log of every request so far.
_LEFT_OUT = ("/api/v1/demo",)
#: No space, and a database that does not answer: refusals with a reason, not faults.
_MEANT = (503, 507)
_METHODS = ("get", "put", "post", "delete", "patch", "head", "options")


@dataclass
class Outcome:
    """What the requests came to."""

    operations: int = 0
    requests: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    canaries_seen: int = 0
    faults: list[str] = field(default_factory=list)


class Counting:
    """Before the application: counts its answers by status, and keeps the text of refusals."""

    def __init__(self, app: Any, outcome: Outcome) -> None:
        self._app, self._outcome = app, outcome

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request (ASGI)."""
        status = 0

        async def noted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._note(scope, status)
            if status >= 400 and web_fuzz.CANARY.encode() in message.get("body", b""):
                self._outcome.canaries_seen += 1
            await send(message)

        await self._app(scope, receive, noted)

    def _note(self, scope: Any, status: int) -> None:
        self._outcome.requests += 1
        self._outcome.statuses[str(status)] += 1
        if status >= 500 and status not in _MEANT:
            route = getattr(scope.get("route"), "path", scope["path"])
            self._outcome.faults.append(f"{scope['method']} {route} was answered {status}")


def run(root: Path, count: int, seed: int, phases: str = "coverage,fuzzing,stateful") -> Outcome:
    """Let schemathesis try ``count`` examples of each operation, as an admin."""
    outcome = Outcome()
    root.mkdir(parents=True, exist_ok=True)
    with Serving(root, wrap=lambda app: Counting(app, outcome)) as serving:
        web_fuzz.fill(serving.node)
        secret = add_token(serving.node, "fuzz", "admin", "tester")
        told = serving.app.openapi()
        del told["paths"]["/dicom-web/studies"]["post"]["requestBody"]  # which it cannot write; web_fuzz sends bodies
        outcome.operations = sum(
            method in _METHODS for path, item in told["paths"].items() if path not in _LEFT_OUT for method in item
        )
        schema = root / "openapi.json"
        schema.write_text(json.dumps(told))
        where = [str(schema), "--url", f"http://127.0.0.1:{serving.port}", "-H", f"Authorization: Bearer {secret}"]
        left_out = [word for path in _LEFT_OUT for word in ("--exclude-path", path)]
        how = ["--phases", phases, "--max-examples", str(count), "--seed", str(seed), "--checks", "not_a_server_error"]
        said = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "--no-color", "run", *where, *left_out, *how, *_QUIET],
            capture_output=True,
            text=True,
            cwd=root,
        )
    if said.returncode != 0 and not outcome.faults:
        outcome.faults.append(f"schemathesis ended with {said.returncode}: {(said.stdout + said.stderr)[-2000:]}")
    if outcome.canaries_seen or web_fuzz.CANARY in said.stdout + said.stderr:
        outcome.faults.append(f"{outcome.canaries_seen} refusals name a patient")
    return outcome


_QUIET = (
    *("--generation-database", "none", "--request-timeout", "20", "--workers", "1"),
    *("--continue-on-failure", "--no-shrink", "--suppress-health-check", "all", "--warnings", "off"),
)
