"""Codes of operating points stay apart, however long their names are."""

from __future__ import annotations

from hounsfield.findings.scoring import operating_concept, threshold_concept


def test_operating_points_with_one_beginning_have_codes_of_their_own() -> None:
    names = ["Youden", "sensitivity 0.8", "sensitivity 0.9", "sensitivity 0.95", "sensitivity 0.9 "]
    made = [make(name) for name in names for make in (operating_concept, threshold_concept)]
    assert len({one.value for one in made}) == len(made)
    assert all(len(one.value) <= 16 for one in made)
    assert operating_concept("Youden").value == "OP_YOUDEN"
