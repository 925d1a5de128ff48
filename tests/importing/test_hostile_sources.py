"""Hostile sources: each refused in one clear line, nothing runs, nothing is written."""

from __future__ import annotations

import pickle
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hostile_folders  # noqa: F401
import hostile_weights  # noqa: F401
import pytest
from answering import CHANNEL, answers, do_import
from hostile_sources import CASES, Canary

from hounsfield.errors import HounsfieldError, InternalError

pytestmark = pytest.mark.torch


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[tuple[Canary, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield Canary(tmp_path / "canary", server.getsockname()[1]), server


def traces(canary: Canary, server: socket.socket) -> list[str]:
    """What a payload left."""
    found = ["file"] if canary.file.exists() else []
    try:
        connection, _ = server.accept()
    except BlockingIOError:
        return found
    connection.close()
    return [*found, "connection"]


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 95


def test_the_canary_sings_when_a_payload_runs(canary: tuple[Canary, socket.socket]) -> None:
    pickle.loads(canary[0].pickle())  # noqa: S301
    assert traces(*canary) == ["file", "connection"]


@pytest.mark.parametrize("name", sorted(CASES))
def test_it_is_refused_in_one_line_and_contained(
    name: str, tmp_path: Path, canary: tuple[Canary, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch, place = tmp_path / "scratch", tmp_path / "source"
    scratch.mkdir()
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    build, match, told = CASES[name]
    source = build(place, canary[0])
    before = sorted(place.rglob("*"))
    given = told or answers(["lesion"], channels=[CHANNEL])
    with pytest.raises(HounsfieldError) as caught:
        do_import(source, tmp_path, given)
    line = str(caught.value)
    assert not isinstance(caught.value, InternalError), line
    assert "\n" not in line
    assert re.search(match, line), line
    assert caught.value.remedy
    assert traces(*canary) == []
    assert not list(tmp_path.glob("packages/**/*"))
    assert list(scratch.iterdir()) == []
    assert sorted(place.rglob("*")) == before
