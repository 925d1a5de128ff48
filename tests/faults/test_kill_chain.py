"""A short part of the kills over the whole chain; ``make faults`` runs the long one."""

from __future__ import annotations

import os
from pathlib import Path

from . import chain_kills


def test_every_study_ends_in_exactly_one_result_whatever_is_killed(tmp_path: Path) -> None:
    chain_kills.install_model(Path(os.environ["HOUNSFIELD_HOME"]))
    outcome = chain_kills.run(tmp_path / "node", kills=2, seed=11, pause_s=2.0)
    assert outcome.faults == [], outcome
    assert outcome.stored_at_peer >= 2
