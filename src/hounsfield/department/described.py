"""What a worklist shows of studies: facts read from an instance, and pages of a list that may be long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, delete, exists, func, insert, or_, select

from hounsfield.department.tables import job_progress, jobs, reviews, studies, study_facts
from hounsfield.department.workitems import verdicts, workitems

StudyState = Literal["receiving", "waiting", "running", "done", "failed", "refused", "not routed", "unreadable"]
STUDY_STATES: Final = ("receiving", "waiting", "running", "done", "failed", "refused", "not routed", "unreadable")
Order = Literal["newest", "oldest", "name", "urgent"]
ORDERS: Final = ("newest", "oldest", "name", "urgent")
_PRECEDENCE: Final = (
    ("running", "leased"),
    ("waiting", "waiting"),
    ("failed", "dead"),
    ("done", "done"),
    ("refused", "refused"),
)
_JOINED: Final = studies.outerjoin(study_facts, study_facts.c.study_uid == studies.c.study_uid)


@dataclass(frozen=True)
class StudyFacts:
    """What a person wants to know of a study before opening it.

    Parameters
    ----------
    revision
        How many instances were there when this was read.
    modalities
        Separated by spaces.
    """

    study_uid: str
    patient_name: str
    patient_id: str
    description: str
    study_date: str
    modalities: str
    revision: int


@dataclass(frozen=True)
class Wanted:
    """One page of the worklist.

    Parameters
    ----------
    text
        Stands anywhere in name, id, description or study UID, in any case.
    """

    text: str = ""
    state: str = ""
    modality: str = ""
    order: Order = "newest"
    offset: int = 0
    size: int = 50


def describe(connection: Connection, facts: StudyFacts) -> None:
    """Keep what is known of a study, in place of what was known before."""
    connection.execute(delete(study_facts).where(study_facts.c.study_uid == facts.study_uid))
    connection.execute(insert(study_facts).values(**vars(facts)))


def facts_of(connection: Connection, study_uid: str) -> StudyFacts | None:
    """What is known of a study."""
    row = connection.execute(select(study_facts).where(study_facts.c.study_uid == study_uid)).first()
    return None if row is None else StudyFacts(**row._mapping)


def others_of_person(connection: Connection, study_uid: str, *, most: int = 50) -> list[StudyFacts]:
    """Other studies with the patient id and name of a study, the latest first; none where it has no id."""
    own = facts_of(connection, study_uid)
    if own is None or not own.patient_id:
        return []
    same = (study_facts.c.patient_id == own.patient_id, study_facts.c.patient_name == own.patient_name)
    query = select(study_facts).where(*same, study_facts.c.study_uid != study_uid)
    rows = connection.execute(query.order_by(study_facts.c.study_date.desc(), study_facts.c.study_uid).limit(most))
    return [StudyFacts(**row._mapping) for row in rows]


def page(connection: Connection, wanted: Wanted) -> tuple[list[Row[Any]], int]:
    """The studies of one page, joined with their facts, and how many there are in all."""
    conditions = list(_conditions(wanted))
    query = _lines().where(*conditions)
    query = _in_reading_order(query) if wanted.order == "urgent" else query.order_by(*_order(wanted.order))
    rows = connection.execute(query.limit(wanted.size).offset(wanted.offset))
    counted = select(func.count()).select_from(_JOINED if wanted.text or wanted.modality else studies)
    return list(rows), int(connection.execute(counted.where(*conditions)).scalar_one())


def one(connection: Connection, study_uid: str) -> list[Row[Any]]:
    """The line of one study, if there is such a study."""
    return list(connection.execute(_lines().where(studies.c.study_uid == study_uid)))


def _lines() -> Select[Any]:
    facts = [column for column in study_facts.c if column.name not in ("study_uid", "revision")]
    return select(studies, *facts).select_from(_JOINED)


def jobs_of(connection: Connection, study_uids: Sequence[str]) -> list[Row[Any]]:
    """Jobs of the studies' newest versions with how far they are, oldest first."""
    query = (
        select(jobs, job_progress.c.stage, job_progress.c.done, job_progress.c.total, job_progress.c.elapsed_s)
        .join(studies, and_(studies.c.study_uid == jobs.c.study_uid, studies.c.version == jobs.c.version))
        .outerjoin(job_progress, job_progress.c.job_id == jobs.c.id)
        .where(jobs.c.study_uid.in_(study_uids))
        .order_by(jobs.c.id)
    )
    return list(connection.execute(query))


def verdicts_of(connection: Connection, study_uids: Sequence[str]) -> dict[str, str]:
    """The latest verdict on any result of each study that has one."""
    query = select(reviews.c.study_uid, reviews.c.verdict).where(reviews.c.study_uid.in_(study_uids))
    return {row.study_uid: row.verdict for row in connection.execute(query.order_by(reviews.c.id))}


def flags_of(connection: Connection, study_uids: Sequence[str]) -> dict[str, str]:
    """What raised each study that was raised: the finding."""
    wanted = (verdicts.c.study_uid.in_(study_uids), verdicts.c.flagged == "yes")
    query = select(verdicts.c.study_uid, verdicts.c.finding).where(*wanted).order_by(verdicts.c.job_id)
    return {row.study_uid: row.finding for row in connection.execute(query)}


def progress(connection: Connection, job_id: int, stage: str, done: int, total: int, elapsed_s: float) -> None:
    """Note how far a running job is."""
    connection.execute(delete(job_progress).where(job_progress.c.job_id == job_id))
    values = {"stage": stage[:32], "done": done, "total": total, "elapsed_s": elapsed_s}
    connection.execute(insert(job_progress).values(job_id=job_id, **values))


def pulse(connection: Connection) -> tuple[Any, ...]:
    """A few numbers that change when anything does that a worklist shows; cheap to ask for every second."""
    numbers = select(func.max(studies.c.last_at), func.count(), func.sum(studies.c.version))
    by_state = select(jobs.c.state, func.count(), func.max(jobs.c.id)).group_by(jobs.c.state)
    running = select(job_progress.c.job_id, job_progress.c.done, job_progress.c.stage).join(
        jobs, and_(jobs.c.id == job_progress.c.job_id, jobs.c.state == "leased")
    )
    judged = select(func.max(reviews.c.id))
    found = [*connection.execute(numbers), *connection.execute(by_state), *connection.execute(running)]
    return (*(tuple(row) for row in found), connection.execute(judged).scalar())


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.text:
        columns = (study_facts.c.patient_name, study_facts.c.patient_id, study_facts.c.description, studies.c.study_uid)
        found.append(or_(*(column.icontains(wanted.text, autoescape=True) for column in columns)))
    if wanted.modality:
        found.append(study_facts.c.modalities.icontains(wanted.modality, autoescape=True))
    if wanted.state:
        found.append(_in_state(wanted.state))
    return found


def _in_state(state: str) -> ColumnElement[bool]:
    """Whether a study is in a state; the same order of precedence as in the list: what runs, waits, failed, is done."""
    if state == "receiving":
        return studies.c.state == "receiving"
    if state in ("not routed", "unreadable"):
        outcome = {"not routed": "unrouted"}.get(state, state)
        return and_(studies.c.state == "complete", studies.c.outcome == outcome, ~_has_job())
    order = (
        ("running", "leased"),
        ("waiting", "waiting"),
        ("failed", "dead"),
        ("done", "done"),
        ("refused", "refused"),
    )
    before: list[ColumnElement[bool]] = []
    for shown, stored in order:
        if shown == state:
            return and_(studies.c.state == "complete", _has_job(stored), *before)
        before.append(~_has_job(stored))
    return studies.c.study_uid == ""


def _has_job(state: str = "") -> ColumnElement[bool]:
    same = and_(jobs.c.study_uid == studies.c.study_uid, jobs.c.version == studies.c.version)
    return exists().where(same, jobs.c.state == state) if state else exists().where(same)


def _in_reading_order(query: Select[Any]) -> Select[Any]:
    """What is to be read first comes first (arrival less head start); what waits for nobody comes last."""
    still = workitems.c.state.in_(("SCHEDULED", "IN PROGRESS"))
    first = select(workitems.c.study_uid, func.min(workitems.c.reading_key).label("key")).where(still)
    keys = first.group_by(workitems.c.study_uid).subquery()
    joined = query.outerjoin(keys, keys.c.study_uid == studies.c.study_uid)
    return joined.order_by(keys.c.key.asc().nulls_last(), studies.c.last_at.desc())


def _order(order: Order) -> tuple[ColumnElement[Any], ...]:
    if order == "oldest":
        return (studies.c.last_at.asc(),)
    if order == "name":
        return (func.lower(study_facts.c.patient_name).asc().nulls_last(), studies.c.last_at.desc())
    return (studies.c.last_at.desc(),)
