"""Every route of the web interface with values that nobody would send: no server error, and no name in what is said."""

from __future__ import annotations

import contextlib
import io
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from hounsfield.network.limits import NodeLimits
from hounsfield.network.received import Received
from hounsfield.server.app import make_app
from hounsfield.usecases.node.inbox import copy_in
from hounsfield.usecases.node.keeping import Keeper
from hounsfield.usecases.node.opening import open_node
from hounsfield.usecases.node.tokens import add_token

from .instances import encoded, instance

CANARY = "Zebrafinch"
_LEFT_OUT = ("/login", "/events")  # slow on purpose; an answer without end
_ODD = (
    *(
        "",
        "0",
        "-1",
        "1" * 400,
        "nan",
        "1e999",
        "..%2f..%2fetc",
        "%00",
        "' OR 1=1 --",
        "<script>",
        "\u202e",
        "\\*",
        "?",
    ),
    *("1.2.840.10008.5.1.4.1.1.2", "2.25.4711.1", "2.25.4711.1.1", "2.25.4711.1.1.1", "19000101-", "-", "a-b-c", "*"),
)
_NAMES = (
    *("limit", "offset", "most", "state", "PatientName", "StudyDate", "00100010", "includefield", "window", "viewport"),
    *("quality", "accept", "transaction-uid", "ModalitiesInStudy", "fuzzymatching", "StudyInstanceUID", "before"),
)
_ACCEPTS = (
    *("*/*", "application/dicom+json", 'multipart/related; type="application/octet-stream"', "image/png", "image/jpeg"),
    *('multipart/related; type="application/dicom"; transfer-syntax=*', "text/html", ";;;,,", "a/b;q=x", '"'),
)
_BODIES = (b"", b"{}", b"[]", b"[" * 5000, b"\xff\xfe", b'{"00741000":{"vr":"CS","Value":[{}]}}', b'{"a":1}', b"NaN")


@dataclass
class Outcome:
    """What the requests came to."""

    requests: int = 0
    routes: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    canaries_seen: int = 0
    faults: list[str] = field(default_factory=list)


def run(root: Path, count: int, seed: int) -> Outcome:
    """Send ``count`` odd requests over all routes as operator and as nobody."""
    outcome, chance = Outcome(), random.Random(seed)
    root.mkdir(parents=True, exist_ok=True)
    node = open_node(root)
    fill(node)
    shown = {"Authorization": f"Bearer {add_token(node, 'fuzz', 'operator', 'tester')}"}
    said, told = io.StringIO(), []
    with (
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(said),
        TestClient(make_app(node), raise_server_exceptions=False) as client,
    ):
        routes = [route for route in client.app.routes if isinstance(route, APIRoute)]  # type: ignore[attr-defined]
        routes = [route for route in routes if route.path not in _LEFT_OUT]
        outcome.routes = len(routes)
        for number in range(count):
            route = routes[number % len(routes)]
            method = chance.choice(sorted(route.methods))
            headers = {"Accept": chance.choice(_ACCEPTS)} | (shown if chance.random() < 0.9 else {})
            asked: dict[str, Any] = {"headers": headers, "params": _parameters(chance)}
            if method in ("POST", "PUT"):
                asked["content"] = chance.choice(_BODIES)
            answer = client.request(method, _path(route.path, chance), **asked)
            outcome.requests += 1
            outcome.statuses[str(answer.status_code)] += 1
            if answer.status_code >= 500 and answer.status_code not in (503, 507):
                outcome.faults.append(f"{method} {route.path} was answered {answer.status_code}")
            if answer.status_code >= 400:
                told.append(answer.text)
        told.append(client.get("/metrics", headers=shown).text)
        told.append(json.dumps(client.get("/api/v1/state", headers=shown).json()))
    node.close()
    outcome.canaries_seen = sum(CANARY in text for text in (*told, said.getvalue()))
    if outcome.canaries_seen:
        outcome.faults.append(f"{outcome.canaries_seen} errors, metrics or log lines name a patient")
    return outcome


def fill(node: Any) -> None:
    """A study of a patient whose name is looked for everywhere."""
    keeper = Keeper(node.database, node.files)
    for number in range(3):
        found = instance(1, number)
        found.PatientName, found.PatientID, found.StudyDescription = f"{CANARY}^A", f"{CANARY}-1", f"{CANARY} study"
        path = node.root / f"{number}.dcm"
        path.write_bytes(encoded(found))
        received = copy_in(path, node.files.incoming, NodeLimits())
        assert isinstance(received, Received)
        assert keeper.keep_now(received).status == 0
        path.unlink()
    keeper.close()


def _parameters(chance: random.Random) -> dict[str, str]:
    return {chance.choice(_NAMES): chance.choice(_ODD) for _ in range(chance.randrange(4))}


def _path(path: str, chance: random.Random) -> str:
    """A route's path with its parameters filled: mostly with what is there, else with nonsense."""
    known = {"study": "2.25.4711.1", "series": "2.25.4711.1.1", "instance": "2.25.4711.1.1.1", "numbers": "1"}
    known |= {"number": "1", "job_id": "1", "uid": "1.2.3", "kind": "json", "tag": "7FE00010"}
    parts = []
    for part in path.split("/"):
        name = part.strip("{}").split(":")[0]
        if not part.startswith("{"):
            parts.append(part)
        elif name in known and chance.random() < 0.7:
            parts.append(known[name])
        else:
            parts.append(chance.choice(_ODD).replace("/", "%2f").replace("?", "%3f") or "x")
    return "/".join(parts)
