"""The worklist: a page of studies with what became of each, in words that a person reads at a glance."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row

from hounsfield.department import described
from hounsfield.department.described import StudyFacts, Wanted
from hounsfield.usecases.node.describing import describe_study
from hounsfield.usecases.node.opening import Node

_LEAST_SHARE: Final = 0.05  # before this much is done, the time left is a guess that is not shown


@dataclass(frozen=True)
class JobLine:
    """One job of a study, as the worklist shows it.

    Parameters
    ----------
    state
        ``running`` for a leased one, ``failed`` for a dead one, otherwise its own word.
    share
        How much of the running stage is done, 0 to 1; ``None`` when not known.
    left_s
        Seconds left of the stage, ``None`` when not known.
    """

    id: int
    route: str
    model: str
    state: str
    reason: str
    found: str
    stage: str
    share: float | None
    left_s: float | None
    attempts: int
    priority: float
    shadow: bool


@dataclass(frozen=True)
class StudyLine:
    """One study of the worklist; ``last_at`` in seconds since 1970, ``flag`` the finding that raised it."""

    study_uid: str
    facts: StudyFacts | None
    state: str
    reason: str
    instances: int
    conflicts: int
    last_at: float
    flag: str
    verdict: str
    jobs: tuple[JobLine, ...]


@dataclass(frozen=True)
class WorklistPage:
    """Some studies, and how many there are of the wanted kind."""

    lines: tuple[StudyLine, ...]
    total: int
    wanted: Wanted


def worklist(node: Node, wanted: Wanted) -> WorklistPage:
    """One page; facts of studies that nobody looked at yet are read now, of this page only."""
    with node.database.read() as connection:
        rows, total = described.page(connection, wanted)
    return WorklistPage(_lines(node, rows), total, wanted)


def study_line(node: Node, study_uid: str) -> StudyLine | None:
    """One study as the worklist shows it."""
    with node.database.read() as connection:
        rows = described.one(connection, study_uid)
    return next(iter(_lines(node, rows)), None)


def pulse(node: Node) -> str:
    """A text that changes whenever a worklist must be drawn again."""
    with node.database.read() as connection:
        return str(described.pulse(connection))


def _lines(node: Node, rows: Sequence[Row[Any]]) -> tuple[StudyLine, ...]:
    uids = [row.study_uid for row in rows]
    with node.database.read() as connection:
        verdicts, flags = described.verdicts_of(connection, uids), described.flags_of(connection, uids)
        jobs: dict[str, list[JobLine]] = {uid: [] for uid in uids}
        for one in described.jobs_of(connection, uids):
            jobs[one.study_uid].append(_job(one))
    return tuple(
        _line(node, row, tuple(jobs[row.study_uid]), verdicts.get(row.study_uid, ""), flags.get(row.study_uid, ""))
        for row in rows
    )


def _line(node: Node, row: Row[Any], jobs: tuple[JobLine, ...], verdict: str, flag: str) -> StudyLine:
    facts = None
    if row.patient_name is None:
        facts = describe_study(node, row.study_uid)
    else:
        kept = (row.patient_name, row.patient_id, row.description, row.study_date, row.modalities)
        facts = StudyFacts(row.study_uid, *kept, row.revision)
    return StudyLine(
        study_uid=row.study_uid,
        facts=facts,
        state=_state(row, jobs),
        reason=row.reason or next((one.reason for one in jobs if one.reason), ""),
        instances=row.revision,
        conflicts=row.conflicts,
        last_at=row.last_at,
        flag=flag,
        verdict=verdict,
        jobs=jobs,
    )


def _state(row: Row[Any], jobs: Iterable[JobLine]) -> str:
    if row.state == "receiving":
        return "receiving"
    states = {one.state for one in jobs}
    for state in ("running", "waiting", "failed", "done", "refused"):
        if state in states:
            return state
    if states:
        return "cancelled"
    return {"unrouted": "not routed"}.get(row.outcome, row.outcome or "not routed")


def _job(row: Row[Any]) -> JobLine:
    order = json.loads(row.order_json)
    state = {"leased": "running", "dead": "failed"}.get(row.state, row.state)
    share = left = None
    if state == "running" and row.total:
        share = min(1.0, row.done / row.total)
        left = row.elapsed_s * (1 - share) / share if share >= _LEAST_SHARE else None
    return JobLine(
        id=row.id,
        route=row.route,
        model=str(order.get("model", "")),
        state=state,
        reason=row.reason,
        found=in_few_words(json.loads(row.outcome_json)) if row.outcome_json else "",
        stage=str(row.stage or ""),
        share=share,
        left_s=left,
        attempts=row.attempts,
        priority=row.priority,
        shadow=bool(row.shadow),
    )


def in_few_words(outcome: Mapping[str, Any]) -> str:
    """The findings of a job: up to four, largest first, and how many more there are."""
    done = [one for one in outcome.get("series", ()) if one["status"] == "done"]
    said = [_measured(row) for one in done for row in one["measured"]]
    said = [text for text in said if text]
    if not done:
        return ""
    more = f"; {len(said) - 4} more" if len(said) > 4 else ""
    return "; ".join(said[:4]) + more if said else "nothing found"


def _measured(row: Mapping[str, Any]) -> str:
    label, values = str(row.get("label", "")), []
    if isinstance(row.get("probability"), int | float):
        values.append(f"{row['probability']:.2f}")
    if isinstance(row.get("score"), int | float):
        values.append(f"score {row['score']:.2f}")
    for key, unit in (("diameter_mm", "mm"), ("volume_ml", "ml")):
        if isinstance(row.get(key), int | float):
            values.append(f"{row[key]:.3g} {unit}")
    return " ".join((label, *values)).strip()
