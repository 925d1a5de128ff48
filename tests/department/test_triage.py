"""Triage: the rule flags what it says, nobody starves, and the worklist keeps its state machine; on both databases."""

from __future__ import annotations

import random

import pytest

from hounsfield.department import workitems
from hounsfield.department.database import Database
from hounsfield.department.triage import TriageRule, Verdict, judge, reading_key
from hounsfield.department.workitems import Refused

RULE = TriageRule(finding="Pneumonia", at_least=0.5, head_start_min=60)


@pytest.mark.parametrize(
    ("rows", "value", "flagged"),
    [
        ([{"label": "Pneumonia", "probability": 0.5}], 0.5, True),
        ([{"label": "Pneumonia", "probability": 0.49}], 0.49, False),
        ([{"label": "Pneumonia", "probability": 0.1}, {"label": "Pneumonia", "probability": 0.9}], 0.9, True),
        ([{"label": "Other", "probability": 0.9}], None, False),
        ([{"label": "Pneumonia", "volume_ml": 9.0}], None, False),
        ([], None, False),
    ],
)
def test_a_rule_flags_by_the_largest_value_of_its_finding(
    rows: list[dict[str, object]], value: float | None, flagged: bool
) -> None:
    verdict = judge(RULE, rows)
    assert (verdict.value, verdict.flagged) == (value, flagged)
    assert verdict.head_start_s == (3600.0 if flagged else 0.0)
    assert verdict.priority == ("HIGH" if flagged else "MEDIUM")


def test_an_unflagged_study_is_passed_only_by_those_that_arrive_within_the_head_start() -> None:
    chance = random.Random(7)
    arrivals = sorted(chance.uniform(0, 100_000) for _ in range(2000))
    studies = [(arrived, 3600.0 if chance.random() < 0.7 else 0.0) for arrived in arrivals]
    order = sorted(studies, key=lambda one: reading_key(*one))
    place = {one: number for number, one in enumerate(order)}
    for one in studies:
        if one[1] == 0.0:
            passed_by = [other for other in studies if other[0] > one[0] and place[other] < place[one]]
            assert all(other[1] and other[0] - one[0] < 3600 for other in passed_by)
    flagged = [one for one in order if one[1]]
    assert flagged == sorted(flagged)


def test_the_worklist_rises_by_verdicts_and_keeps_its_order(database: Database) -> None:
    with database.write(alone=True) as connection:
        for number in range(3):
            assert workitems.add(connection, f"1.2.{number}", f"9.{number}", "MEDIUM", {}, 1000.0 + 600 * number)
        assert not workitems.add(connection, "1.2.0", "9.0", "LOW", {}, 0.0)
        workitems.record(connection, 1, "9.2", "Pneumonia", Verdict(0.9, True, 900.0))
        workitems.record(connection, 2, "9.2", "Pneumonia", Verdict(0.1, False))
        workitems.record(connection, 3, "9.1", "Pneumonia", Verdict(None, False))
    with database.read() as connection:
        found = workitems.listed(connection, {}, 10, 0)
        assert [(one.study_uid, one.priority) for one in found] == [
            ("9.0", "MEDIUM"),
            ("9.2", "HIGH"),
            ("9.1", "MEDIUM"),
        ]
        assert [one.uid for one in workitems.listed(connection, {"priority": "HIGH\\LOW"}, 10, 0)] == ["1.2.2"]
        assert [one.uid for one in workitems.listed(connection, {}, 1, 1)] == ["1.2.2"]


def test_only_who_took_a_step_may_end_it(database: Database) -> None:
    def refused(work: object, *words: str) -> int:
        with pytest.raises(Refused) as caught, database.write(alone=True) as connection:
            work(connection, *words)  # type: ignore[operator]
        return caught.value.status

    with database.write(alone=True) as connection:
        for uid in ("1.1", "1.2"):
            workitems.add(connection, uid, "9", "LOW", {}, 0.0)
    change = workitems.change_state
    assert refused(change, "1.9", "IN PROGRESS", "5.5", "X") == 404
    assert refused(change, "1.1", "IN PROGRESS", "", "X") == 400
    assert refused(change, "1.1", "COMPLETED", "5.5", "X") == 409
    assert refused(change, "1.1", "SCHEDULED", "5.5", "X") == 400
    with database.write(alone=True) as connection:
        change(connection, "1.1", "IN PROGRESS", "5.5", "X")
    assert refused(change, "1.1", "IN PROGRESS", "5.6", "Y") == 409
    assert refused(change, "1.1", "COMPLETED", "5.6", "Y") == 409
    assert refused(workitems.cancel, "1.1") == 409
    content = {"00741200": {"vr": "CS", "Value": ["HIGH"]}}
    with pytest.raises(Refused), database.write(alone=True) as connection:
        workitems.change_content(connection, "1.1", content, "5.6")
    with database.write(alone=True) as connection:
        workitems.change_content(connection, "1.1", content, "5.5")
        assert workitems.get(connection, "1.1").priority == "HIGH"
        change(connection, "1.1", "COMPLETED", "5.5", "X")
        workitems.cancel(connection, "1.2")
        assert [workitems.get(connection, uid).state for uid in ("1.1", "1.2")] == ["COMPLETED", "CANCELED"]
    assert refused(change, "1.2", "IN PROGRESS", "5.5", "X") == 409
