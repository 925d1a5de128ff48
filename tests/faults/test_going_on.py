"""What runs all the time goes on after an error that nobody foresaw, and the log says so without naming a patient."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from hounsfield.department.catalogue import catalogue
from hounsfield.department.tables import deliveries
from hounsfield.usecases.node import clerk, delivering
from hounsfield.usecases.node.clerk import Clerk
from hounsfield.usecases.node.opening import Node, open_node

from .finished import finish_job
from .nodes import make_node
from .sender import wait_until
from .sink import Sink

NAME = "Canary^Patient"


def test_a_database_error_does_not_quote_the_patient(tmp_path: Path) -> None:
    node = open_node(tmp_path / "node")
    with pytest.raises(IntegrityError) as caught:
        _break(node)
    assert "UNIQUE" in str(caught.value)
    assert NAME not in str(caught.value)
    node.close()


def test_the_clerk_goes_on_after_a_round_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    node, rounds = open_node(tmp_path / "node"), []

    def triage(node: Node) -> None:
        rounds.append(1)
        if len(rounds) == 1:
            _break(node)

    monkeypatch.setattr(clerk, "triage", triage)
    monkeypatch.setattr(clerk, "LOOK_SECONDS", 0.01)
    Clerk(node).run(lambda: len(rounds) == 3)
    said = capfd.readouterr().err
    assert "clerk-failed" in said
    assert "IntegrityError" in said
    assert NAME not in said
    node.close()


def test_delivering_goes_on_after_a_look_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, send = [], delivering._send

    def failing_once(*given: object) -> object:
        looks.append(1)
        if len(looks) == 1:
            raise ValueError(NAME)
        return send(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(delivering, "_send", failing_once)
    with Sink() as sink:
        peer = f'[[destinations]]\nname = "sink"\nae_title = "SINK"\nhost = "127.0.0.1"\nport = {sink.port}\n'
        make_node(tmp_path / "node", more=peer)
        node, ended = open_node(tmp_path / "node"), []
        finish_job(node, ("sink",), 2)
        (thread,) = delivering.deliver_all(node, lambda: bool(ended))
        wait_until(lambda: _states(node) == {"delivered"}, 30)
        ended.append(1)
        thread.join(10)
        assert sum(sink.stored.values()) == 2
        node.close()


def _break(node: Node) -> None:
    """Write the same row twice."""
    columns = {one.name: NAME for one in catalogue.columns if one.name not in ("id", "result_id", "whole")}
    with node.database.write() as connection:
        connection.execute(insert(catalogue), [{**columns, "whole": True}] * 2)


def _states(node: Node) -> set[str]:
    with node.database.read() as connection:
        return set(connection.execute(select(deliveries.c.state)).scalars())
