"""The reading worklist: Unified Procedure Steps (PS3.4 annex CC) in the order in which they should be read.

::

    SCHEDULED -> IN PROGRESS -> COMPLETED
        |              '------> CANCELED      by who has it
        '---------------------> CANCELED      on request

Who takes a step names a transaction UID, and only who knows it may change or end the step.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import Column, Connection, Float, Index, Table, Text, insert, or_, select, update

from hounsfield.department.tables import jobs, metadata
from hounsfield.department.triage import Priority, Verdict

State = Literal["SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED"]
FINAL: Final = ("COMPLETED", "CANCELED")

workitems = Table(
    "workitems",
    metadata,
    Column("uid", Text, primary_key=True),
    Column("study_uid", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("transaction_uid", Text, nullable=False, default=""),
    Column("arrived_at", Float, nullable=False),
    Column("head_start_s", Float, nullable=False, default=0.0),
    Column("reading_key", Float, nullable=False),
    Column("performer", Text, nullable=False, default=""),
    Column("content_json", Text, nullable=False),
    Column("changed_at", Float, nullable=False),
    Index("workitems_in_order", "state", "reading_key"),
    Index("workitems_of_study", "study_uid"),
)

#: What a triage rule said of a finished job; one row, so that a job is judged once.
verdicts = Table(
    "verdicts",
    metadata,
    Column("job_id", jobs.c.id.type, primary_key=True),
    Column("study_uid", Text, nullable=False),
    Column("finding", Text, nullable=False),
    Column("value", Float),
    Column("flagged", Text, nullable=False),  # yes, no
    Column("head_start_s", Float, nullable=False),
    Column("at", Float, nullable=False),
)


@dataclass(frozen=True)
class Workitem:
    """One step; ``content`` is the rest of its data set in the DICOM JSON Model."""

    uid: str
    study_uid: str
    state: State
    priority: Priority
    transaction_uid: str
    arrived_at: float
    head_start_s: float
    content: Mapping[str, Any]


class Refused(Exception):
    """A change that the rules of the state machine forbid, with the HTTP status of PS3.18 11."""

    def __init__(self, status: int, fact: str) -> None:
        super().__init__(fact)
        self.status, self.fact = status, fact


def add(
    connection: Connection, uid: str, study_uid: str, priority: Priority, content: Mapping[str, Any], arrived: float
) -> bool:
    """Schedule a step; False when there is one of this UID."""
    if connection.execute(select(workitems.c.uid).where(workitems.c.uid == uid)).first() is not None:
        return False
    row = {"uid": uid, "study_uid": study_uid, "state": "SCHEDULED", "priority": priority, "transaction_uid": ""}
    times = {"arrived_at": arrived, "reading_key": arrived, "head_start_s": 0.0, "changed_at": time.time()}
    connection.execute(insert(workitems).values(**row, **times, content_json=json.dumps(dict(content))))
    return True


def get(connection: Connection, uid: str) -> Workitem:
    """One step.

    Raises
    ------
    Refused
        404 if there is none.
    """
    row = connection.execute(select(workitems).where(workitems.c.uid == uid).with_for_update()).first()
    if row is None:
        raise Refused(404, "there is no workitem of this UID")
    return _item(row)


def listed(
    connection: Connection, keys: Mapping[str, str], most: int, skip: int, *, study_uid: str = ""
) -> list[Workitem]:
    """Steps in reading order: arrival less head start; ``keys`` by column: state, priority, study_uid, uid."""
    query = select(workitems).order_by(workitems.c.reading_key, workitems.c.uid).limit(most).offset(skip)
    for column, value in keys.items():
        query = query.where(or_(*(workitems.c[column] == one for one in value.split("\\"))))
    if study_uid:
        query = query.where(workitems.c.study_uid == study_uid)
    return [_item(row) for row in connection.execute(query)]


def change_state(connection: Connection, uid: str, state: str, transaction_uid: str, performer: str) -> None:
    """Take, complete or give up a step (PS3.4 table CC.1.1-2).

    Raises
    ------
    Refused
        404 unknown, 400 without a transaction UID, 409 where the state machine forbids it.
    """
    item = get(connection, uid)
    if not transaction_uid:
        raise Refused(400, "a transaction UID is needed")
    if state == "IN PROGRESS":
        if item.state != "SCHEDULED":
            raise Refused(409, f"it is {item.state}, and cannot be taken")
    elif state in FINAL:
        if item.state != "IN PROGRESS":
            raise Refused(409, f"it is {item.state}: only what is in progress can be ended")
        if item.transaction_uid != transaction_uid:
            raise Refused(409, "another transaction UID holds it")
    else:
        raise Refused(400, "this is no state to change to")
    values = {"state": state, "transaction_uid": transaction_uid, "performer": performer, "changed_at": time.time()}
    connection.execute(update(workitems).where(workitems.c.uid == uid).values(**values))


def change_content(connection: Connection, uid: str, changes: Mapping[str, Any], transaction_uid: str) -> None:
    """Change attributes of a step; of one in progress only with its transaction UID.

    Raises
    ------
    Refused
        404 unknown, 409 over, or held by another.
    """
    item = get(connection, uid)
    if item.state in FINAL:
        raise Refused(409, f"it is {item.state}, and changes no more")
    if item.state == "IN PROGRESS" and item.transaction_uid != transaction_uid:
        raise Refused(409, "another transaction UID holds it")
    told = changes.get("00741200", {}).get("Value", [item.priority])[0]
    values = {"content_json": json.dumps({**item.content, **changes}), "changed_at": time.time()}
    priority = told if told in ("HIGH", "MEDIUM", "LOW") else item.priority
    connection.execute(update(workitems).where(workitems.c.uid == uid).values(**values, priority=priority))


def cancel(connection: Connection, uid: str) -> None:
    """Cancel a step that nobody has taken.

    Raises
    ------
    Refused
        404 unknown, 409 taken or over.
    """
    item = get(connection, uid)
    if item.state != "SCHEDULED":
        raise Refused(409, f"it is {item.state}: ask who has it")
    values = {"state": "CANCELED", "changed_at": time.time()}
    connection.execute(update(workitems).where(workitems.c.uid == uid).values(**values))


def unjudged(connection: Connection, most: int = 50) -> list[Any]:
    """Jobs that are done, not in the shadow, and on which no rule was tried yet."""
    there = select(verdicts.c.job_id).where(verdicts.c.job_id == jobs.c.id).exists()
    query = select(jobs.c.id, jobs.c.study_uid, jobs.c.route, jobs.c.outcome_json)
    query = query.where(jobs.c.state == "done", jobs.c.shadow.is_(False), ~there).order_by(jobs.c.id).limit(most)
    return list(connection.execute(query))


def record(connection: Connection, job_id: int, study_uid: str, finding: str, verdict: Verdict) -> None:
    """Write a verdict down, and let a flagged study's scheduled steps rise; flags never lower them."""
    row = {"job_id": job_id, "study_uid": study_uid, "finding": finding, "value": verdict.value}
    flagged = {"flagged": "yes" if verdict.flagged else "no", "head_start_s": verdict.head_start_s}
    connection.execute(insert(verdicts).values(**row, **flagged, at=time.time()))
    if not verdict.flagged:
        return
    higher = (
        workitems.c.study_uid == study_uid,
        workitems.c.state == "SCHEDULED",
        workitems.c.head_start_s < verdict.head_start_s,
    )
    values = {"head_start_s": verdict.head_start_s, "priority": "HIGH", "changed_at": time.time()}
    key = workitems.c.arrived_at - verdict.head_start_s
    connection.execute(update(workitems).where(*higher).values(**values, reading_key=key))


def _item(row: Any) -> Workitem:
    return Workitem(
        uid=row.uid,
        study_uid=row.study_uid,
        state=row.state,
        priority=row.priority,
        transaction_uid=row.transaction_uid,
        arrived_at=row.arrived_at,
        head_start_s=row.head_start_s,
        content=json.loads(row.content_json),
    )
