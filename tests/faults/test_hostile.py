"""A short part of the hostile and crowding peers; ``make faults`` runs the long one."""

from __future__ import annotations

from pathlib import Path

from . import hostile, schema_fuzz, web_fuzz


def test_broken_pdus_and_bombs_harm_nobody(tmp_path: Path) -> None:
    assert hostile.broken_pdus(tmp_path / "a", 30, seed=1).faults == []
    outcome = hostile.bombs(tmp_path / "b")
    assert outcome.faults == []
    assert outcome.tried == 7


def test_silent_sockets_and_a_crowd_hold_up_nobody(tmp_path: Path) -> None:
    outcome = hostile.silent_sockets(tmp_path / "a", 60, 1.0)
    assert [fault for fault in outcome.faults if "took" not in fault] == []
    crowd = hostile.crowd(tmp_path / "b", 20, 10)
    assert (crowd.faults, crowd.acknowledged) == ([], 200)


def test_odd_requests_are_refused_without_a_server_error_and_without_a_name(tmp_path: Path) -> None:
    outcome = web_fuzz.run(tmp_path / "node", 120, seed=3)
    assert outcome.faults == []
    assert outcome.routes > 40
    assert {"200", "401", "422"} <= set(outcome.statuses)


def test_schemathesis_finds_no_server_error(tmp_path: Path) -> None:
    outcome = schema_fuzz.run(tmp_path / "node", 2, seed=1, phases="fuzzing")
    assert outcome.faults == []
    assert outcome.operations > 40
    assert outcome.requests > outcome.operations
    assert {"200", "404"} <= set(outcome.statuses)
