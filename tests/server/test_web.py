"""The web door: each route has a role, refusals say nothing, STOW-RS is as durable as C-STORE."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from sqlalchemy import select

from hounsfield.department import jobs
from hounsfield.department.instances import NewInstance, register
from hounsfield.department.jobs import Finished, NewJob, NewResult
from hounsfield.department.tables import instances
from hounsfield.server.access import Needs
from hounsfield.server.app import make_app
from hounsfield.usecases.node import storing_web
from hounsfield.usecases.node.opening import Node, open_node
from hounsfield.usecases.node.tokens import add_token, read_tokens, remove_token

OPEN = {"/api/v1/health", "/login"}
ALSO = {("reviewer", "viewer"), ("operator", "viewer"), ("operator", "sender")}
ROLES = ("viewer", "sender", "reviewer", "operator", "admin")


@dataclass
class Web:
    """A node, a client, and a header for each role."""

    node: Node
    client: TestClient
    headers: dict[str, dict[str, str]]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    node = open_node(tmp_path)
    secrets = {role: add_token(node, f"a-{role}", role, "tester") for role in ROLES}
    headers = {role: {"Authorization": f"Bearer {secret}"} for role, secret in secrets.items()}
    with TestClient(make_app(node), raise_server_exceptions=True) as client:
        yield Web(node, client, headers)
    node.close()


def slice_of(study: int, number: int, name: str = "Canary^Patient") -> FileDataset:
    """A small CT slice."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = f"2.25.77.{study}.1.{number}"
    meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    found = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    found.SOPClassUID, found.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    found.StudyInstanceUID, found.SeriesInstanceUID = f"2.25.77.{study}", f"2.25.77.{study}.1"
    found.Modality, found.PatientName, found.Rows, found.Columns = "CT", name, 16, 16
    found.BitsAllocated, found.SamplesPerPixel, found.PixelRepresentation = 16, 1, 0
    found.PixelData = hashlib.sha512(f"{study}{number}".encode()).digest() * 8
    return found


def as_file(found: FileDataset) -> bytes:
    import io

    stream = io.BytesIO()
    found.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def multipart(*files: bytes, boundary: str = "here") -> tuple[bytes, dict[str, str]]:
    body = b"".join(b"--here\r\nContent-Type: application/dicom\r\n\r\n" + one + b"\r\n" for one in files) + b"--here--"
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    return body, {"Content-Type": kind}


def finished_job(node: Node) -> None:
    with node.database.write() as connection:
        register(connection, [NewInstance("1.2.1", "0" * 64, 1, "1.2", "1.2.3", "1.2.4", "CT", "1.2", "A", "h")])
        jobs.make(connection, [NewJob("1.2.3", 1, "tiny", "{}", 1.0), NewJob("1.2.3", 1, "waits", "{}", 0.5)])
    job = jobs.claim(node.database, "w")
    assert job is not None
    (node.results / "1-1").mkdir()
    (node.results / "1-1" / "result.json").write_text('{"found": 1}')
    written = NewResult("json", "1-1/result.json", "0" * 64, 12)
    assert jobs.finish(node.database, job, Finished("done", "", "{}", (written,)))


def all_routes(web: Web) -> list[tuple[str, str, str]]:
    """(method, path with numbers in it, role) of every route of the application."""
    found = []
    for route in web.client.app.routes:  # type: ignore[attr-defined]
        if isinstance(route, APIRoute):
            roles = [one.call.needed_role for one in route.dependant.dependencies if isinstance(one.call, Needs)]
            path = route.path.replace("{job_id}", "1").replace("{kind}", "json").replace("/events", "/events?seconds=0")
            found += [(method, path, roles[0] if roles else "") for method in sorted(route.methods)]
    return found


def test_every_route_has_a_rule_and_keeps_it(web: Web) -> None:
    finished_job(web.node)
    routes = all_routes(web)
    assert len(routes) >= 14
    assert {path for _, path, role in routes if not role} == OPEN
    for method, path, role in routes:
        if not role:
            continue
        assert web.client.request(method, path).status_code == 401, path
        wrong = {"Authorization": "Bearer " + "x" * 43}
        assert web.client.request(method, path, headers=wrong).status_code == 401, path
        for shown in ROLES:
            status = web.client.request(method, path, headers=web.headers[shown]).status_code
            allowed = shown in (role, "admin") or (shown, role) in ALSO
            assert (status not in (401, 403)) is allowed, (method, path, shown, status)
            assert status < 500


def test_a_token_is_kept_as_a_digest_and_can_be_taken_back(web: Web) -> None:
    path, secret = web.node.root / "tokens.json", web.headers["viewer"]["Authorization"].split()[1]
    assert path.stat().st_mode & 0o777 == 0o600
    assert secret not in path.read_text()
    assert web.client.get("/api/v1/jobs", headers=web.headers["viewer"]).status_code == 200
    remove_token(web.node, "a-viewer", "tester")
    assert web.client.get("/api/v1/jobs", headers=web.headers["viewer"]).status_code == 401
    assert [one.name for one in read_tokens(web.node.root)] == ["a-sender", "a-reviewer", "a-operator", "a-admin"]
    said = (web.node.root / "audit.jsonl").read_text()
    assert "token removed" in said
    assert "Security Alert" in said
    assert secret not in said


def test_jobs_are_looked_at_and_acted_on(web: Web) -> None:
    finished_job(web.node)
    viewer, operator = web.headers["viewer"], web.headers["operator"]
    listed = web.client.get("/api/v1/jobs", headers=viewer).json()
    assert [(one["id"], one["state"]) for one in listed] == [(2, "waiting"), (1, "done")]
    assert web.client.get("/api/v1/jobs?state=done", headers=viewer).json()[0]["route"] == "tiny"
    answer = web.client.get("/api/v1/jobs/1/results/json", headers=viewer)
    assert answer.json() == {"found": 1}
    assert answer.headers["content-disposition"].startswith("attachment")
    assert web.client.get("/api/v1/jobs/1/results/seg", headers=viewer).status_code == 409
    assert web.client.get("/api/v1/jobs/99", headers=viewer).status_code == 409
    assert web.client.get("/api/v1/jobs?state=%27;drop", headers=viewer).status_code == 422
    assert web.client.post("/api/v1/jobs/2/cancel", headers=operator).status_code == 204
    assert web.client.get("/api/v1/jobs/2", headers=viewer).json()["state"] == "cancelled"
    assert web.client.post("/api/v1/jobs/2/retry", headers=operator).status_code == 204
    assert web.client.post("/api/v1/jobs/1/retry", headers=operator).status_code == 409
    lines = web.client.get("/metrics", headers=viewer).text.splitlines()
    assert 'hounsfield_jobs{state="done"} 1' in lines
    assert "hounsfield_instances_kept 1" in lines
    assert web.client.get("/api/v1/studies", headers=viewer).json()[0]["instances"] == 1
    assert {one["id"] for one in web.client.get("/api/v1/models", headers=viewer).json()} >= {"hippocampus-mr"}


def test_answers_carry_headers_that_forbid_to_run_or_keep_them(web: Web) -> None:
    for path in ("/api/v1/health", "/api/v1/jobs", "/nowhere"):
        headers = web.client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_stow_keeps_what_it_says_it_keeps(web: Web) -> None:
    files = [slice_of(1, 1), slice_of(1, 2)]
    body, kind = multipart(*map(as_file, files))
    for _ in range(2):
        answer = web.client.post("/dicom-web/studies", content=body, headers={**web.headers["sender"], **kind})
        assert answer.status_code == 200
        said = [item["00081155"]["Value"][0] for item in answer.json()["00081199"]["Value"]]
        assert said == [str(one.SOPInstanceUID) for one in files]
    with web.node.database.read() as connection:
        rows = list(connection.execute(select(instances).order_by(instances.c.sop_instance_uid)))
    assert len(rows) == 2
    for row, one in zip(rows, files, strict=True):
        assert dcmread(web.node.files.path(row.sha256)).PixelData == one.PixelData
    assert list(web.node.files.incoming.iterdir()) == []


def test_stow_says_of_each_part_what_became_of_it(web: Web) -> None:
    body, kind = multipart(as_file(slice_of(2, 1)), b"nonsense", as_file(slice_of(2, 2))[:-20])
    answer = web.client.post("/dicom-web/studies", content=body, headers={**web.headers["sender"], **kind})
    assert answer.status_code == 202
    assert len(answer.json()["00081199"]["Value"]) == 1
    assert [item["00081197"]["Value"][0] for item in answer.json()["00081198"]["Value"]] == [0xC000, 0xC000]


def no_room(*_: object) -> int:
    raise OSError(errno.ENOSPC, "no space left")


@pytest.mark.parametrize("call", ["open", "write"])
def test_stow_without_room_says_so_and_leaves_nothing(web: Web, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    body, kind = multipart(as_file(slice_of(6, 1)), as_file(slice_of(6, 2)))
    with monkeypatch.context() as patch:
        patch.setattr(storing_web, "os", SimpleNamespace(**{**vars(os), call: no_room}))
        answer = web.client.post("/dicom-web/studies", content=body, headers={**web.headers["sender"], **kind})
    assert answer.status_code == 507
    assert [item["00081197"]["Value"][0] for item in answer.json()["00081198"]["Value"]] == [0xA700, 0xA700]
    assert list(web.node.files.incoming.iterdir()) == []
    assert web.client.post("/dicom-web/studies", content=body, headers={**web.headers["sender"], **kind}).is_success


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Content-Type": "application/dicom"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Content-Type": 'multipart/related; type="application/dicom"; boundary=elsewhere'}, 400),
    ],
)
def test_stow_refuses_other_bodies(web: Web, change: dict[str, str], status: int) -> None:
    body, kind = multipart(as_file(slice_of(3, 1)))
    headers = {**web.headers["sender"], **kind, **change}
    assert web.client.post("/dicom-web/studies", content=body, headers=headers).status_code == status
    assert list(web.node.files.incoming.iterdir()) == []


def post(web: Web, content: Iterator[bytes], headers: dict[str, str]) -> int:
    return int(web.client.post("/dicom-web/studies", content=content, headers=headers).status_code)


def test_bodies_of_any_cut_and_any_block_size_are_understood_or_refused(web: Web) -> None:
    whole = as_file(slice_of(4, 1))
    body, kind = multipart(whole, whole)
    headers = {**web.headers["sender"], **kind}

    def blocks(size: int, end: int) -> Iterator[bytes]:
        for start in range(0, end, size):
            yield body[start : min(end, start + size)]

    for size in (7, 64, 1000):
        assert (
            web.client.post("/dicom-web/studies", content=blocks(size, len(body)), headers=headers).status_code == 200
        )
    for end in range(3, len(body) - 4, 97):
        assert web.client.post("/dicom-web/studies", content=blocks(500, end), headers=headers).status_code == 400
    assert list(web.node.files.incoming.iterdir()) == []


def test_no_answer_and_no_log_names_a_patient(web: Web, capsys: pytest.CaptureFixture[str]) -> None:
    canary = "Zebrafinch^Quillfeather"
    body, kind = multipart(as_file(slice_of(5, 1, canary)), as_file(slice_of(5, 2, canary))[:-9])
    texts = [web.client.post("/dicom-web/studies", content=body, headers={**web.headers["sender"], **kind}).text]
    paths = [path for _, path, _ in all_routes(web) if path.startswith(("/api/", "/metrics"))]  # others are for names
    texts += [web.client.get(path, headers=web.headers["operator"]).text for path in paths]
    printed = capsys.readouterr()
    for text in (*texts, printed.out, printed.err):
        assert "Zebrafinch" not in text


def test_the_part_starts_by_its_name_and_answers(tmp_path: Path) -> None:
    import socket

    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        port = plug.getsockname()[1]
    (tmp_path / "node.toml").write_text(f"http_port = {port}\n")
    node = subprocess.Popen(
        [sys.executable, "-m", "hounsfield.server", "--data", str(tmp_path)], stderr=subprocess.DEVNULL
    )
    try:
        assert _health(port) == {"status": "ok"}
    finally:
        node.terminate()
        node.wait(30)


def _health(port: int) -> Any:
    import time

    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/health", timeout=5) as answer:
                return json.load(answer)
        except OSError:
            time.sleep(0.1)
    raise AssertionError("it did not answer")
