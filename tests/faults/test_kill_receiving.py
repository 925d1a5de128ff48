"""A short part of the programme of kills; ``make faults`` runs the long one."""

from __future__ import annotations

from pathlib import Path

from . import receive_kills


def test_nothing_acknowledged_is_lost_when_the_receiver_is_killed(tmp_path: Path) -> None:
    outcome = receive_kills.run(tmp_path / "node", kills=8, seed=7)
    assert outcome.faults == []
    assert outcome.acknowledged > 8, outcome
