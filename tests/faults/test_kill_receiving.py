"""A short part of the programme of kills; ``make faults`` runs the long one."""

from __future__ import annotations

from pathlib import Path

from . import receive_kills, sending_kills


def test_nothing_acknowledged_is_lost_when_the_receiver_is_killed(tmp_path: Path) -> None:
    outcome = receive_kills.run(tmp_path / "node", kills=8, seed=7)
    assert outcome.faults == []
    assert outcome.acknowledged > 8, outcome


def test_every_result_is_at_the_peer_when_the_sender_is_killed(tmp_path: Path) -> None:
    outcome = sending_kills.run(tmp_path / "node", kills=6, seed=5)
    assert outcome.faults == []
    assert outcome.hit > 3
    assert outcome.stored_at_peer == 6 * outcome.jobs
