"""Jobs: made once per study version and route, leased, beaten, finished behind a fence.

::

    waiting -> leased -> done | refused
       ^         |-----> waiting        the worker failed or died, attempts are left
       |         '-----> dead           no attempts are left, or trying again cannot help
       '---- retry ----- dead, refused, cancelled
    waiting, leased ---> cancelled      by a person
    waiting -----------> superseded     a later version of the study came
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from sqlalchemy import Connection, Row, insert, select, update

from hounsfield.department import deliveries
from hounsfield.department.database import Database
from hounsfield.department.leases import Held, Observer
from hounsfield.department.tables import jobs, results, studies

MOST_ATTEMPTS: Final = 3
Outcome = Literal["done", "refused"]
OPEN_STATES: Final = ("waiting", "leased")
#: States in which nothing more happens by itself.
FINAL_STATES: Final = ("done", "refused", "dead", "cancelled", "superseded")


@dataclass(frozen=True)
class NewJob:
    """A job to make; ``order_json`` says what to run on what."""

    study_uid: str
    version: int
    route: str
    order_json: str
    priority: float
    shadow: bool = False


@dataclass(frozen=True)
class Leased:
    """A job in the hands of one worker."""

    id: int
    study_uid: str
    version: int
    route: str
    order_json: str
    shadow: bool
    attempt: int
    fence: int


@dataclass(frozen=True)
class NewResult:
    """A file that a job wrote; DICOM files have UIDs."""

    kind: str
    path: str
    sha256: str
    size_bytes: int
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    transfer_syntax_uid: str = ""


@dataclass(frozen=True)
class Finished:
    """What a worker says of a job that it brought to an end."""

    outcome: Outcome
    reason: str
    outcome_json: str
    results: tuple[NewResult, ...] = ()
    destinations: tuple[str, ...] = ()


def make(connection: Connection, wanted: Sequence[NewJob]) -> int:
    """Make those jobs that are not there yet, and close older versions' waiting ones; how many are new."""
    made = 0
    for one in wanted:
        there = select(jobs.c.id).where(
            jobs.c.study_uid == one.study_uid, jobs.c.version == one.version, jobs.c.route == one.route
        )
        if connection.execute(there).first() is None:
            connection.execute(insert(jobs).values(**vars(one), state="waiting", created_at=time.time()))
            made += 1
    return made


def supersede(connection: Connection, study_uid: str, version: int) -> None:
    """Close waiting jobs and unsent results of versions before this one."""
    older = (jobs.c.study_uid == study_uid, jobs.c.version < version)
    connection.execute(
        update(jobs)
        .where(*older, jobs.c.state == "waiting")
        .values(state="superseded", reason="a later version of the study came", finished_at=time.time())
    )
    ids = list(connection.execute(select(jobs.c.id).where(*older, jobs.c.state == "done")).scalars())
    connection.execute(update(results).where(results.c.job_id.in_(ids)).values(superseded=True))
    deliveries.supersede(connection, ids)


def claim(database: Database, owner: str) -> Leased | None:
    """Lease the waiting job that comes first: highest priority, then oldest."""
    with database.write() as connection:
        query = (
            select(jobs)
            .where(jobs.c.state == "waiting")
            .order_by(jobs.c.priority.desc(), jobs.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        row = connection.execute(query).first()
        return None if row is None else _lease(connection, row, owner)


def make_leased(connection: Connection, wanted: NewJob, owner: str) -> Leased:
    """Make a job that is in its maker's hands at once: no other worker can come before him."""
    row = insert(jobs).values(**vars(wanted), state="waiting", created_at=time.time()).returning(jobs)
    return _lease(connection, connection.execute(row).one(), owner)


def _lease(connection: Connection, row: Row[Any], owner: str) -> Leased:
    values = {"state": "leased", "owner": owner, "fence": row.fence + 1, "attempts": row.attempts + 1, "beats": 0}
    connection.execute(update(jobs).where(jobs.c.id == row.id).values(**values))
    return Leased(
        id=row.id,
        study_uid=row.study_uid,
        version=row.version,
        route=row.route,
        order_json=row.order_json,
        shadow=row.shadow,
        attempt=row.attempts + 1,
        fence=row.fence + 1,
    )


def beat(database: Database, job: Leased) -> bool:
    """Show life; False when the job is not ours any more (lost, cancelled), and work on it must stop."""
    with database.write() as connection:
        return _change(connection, job, {"beats": jobs.c.beats + 1})


def finish(database: Database, job: Leased, finished: Finished) -> bool:
    """End a job together with its results and what is to be sent, all or nothing.

    Returns
    -------
    bool
        False when the job is not ours any more; then nothing was written.
    """
    with database.write() as connection:
        values = {
            "state": finished.outcome,
            "reason": finished.reason,
            "outcome_json": finished.outcome_json,
            "finished_at": time.time(),
        }
        if not _change(connection, job, values):
            return False
        newest = connection.execute(select(studies.c.version).where(studies.c.study_uid == job.study_uid)).scalar()
        late = newest is not None and newest > job.version
        for one in finished.results:
            row = insert(results).values(**vars(one), job_id=job.id, superseded=late).returning(results.c.id)
            result_id = connection.execute(row).scalar_one()
            if one.sop_instance_uid and not job.shadow and not late:
                deliveries.plan(connection, result_id, finished.destinations)
        return True


def fail(database: Database, job: Leased, reason: str, *, again: bool) -> bool:
    """End an attempt that failed: back to waiting if trying again may help, else dead."""
    dead = not again or job.attempt >= MOST_ATTEMPTS
    values = {"state": "dead" if dead else "waiting", "reason": reason, "finished_at": time.time() if dead else None}
    with database.write() as connection:
        return _change(connection, job, values)


def _change(connection: Connection, job: Leased, values: dict[str, Any]) -> bool:
    ours = (jobs.c.id == job.id, jobs.c.fence == job.fence, jobs.c.state == "leased")
    return connection.execute(update(jobs).where(*ours).values(**values)).rowcount == 1


@dataclass
class Reclaimer:
    """Takes jobs back from workers that died; one of them is enough, several do no harm."""

    database: Database
    observer: Observer = field(default_factory=lambda: Observer(30.0))

    def reclaim(self) -> int:
        """Look once; how many jobs were taken back."""
        with self.database.read() as connection:
            query = select(jobs.c.id, jobs.c.owner, jobs.c.fence, jobs.c.beats).where(jobs.c.state == "leased")
            held = [Held(*row) for row in connection.execute(query)]
        stale = self.observer.stale(held)
        return sum(self._take(one) for one in stale)

    def _take(self, held: Held) -> bool:
        with self.database.write() as connection:
            same = (jobs.c.id == held.id, jobs.c.fence == held.fence, jobs.c.beats == held.beats)
            row = connection.execute(select(jobs).where(*same, jobs.c.state == "leased")).first()
            if row is None:
                return False
            dead = row.attempts >= MOST_ATTEMPTS
            reason = f"the worker died {row.attempts} times" if dead else "the worker died"
            values = {"state": "dead" if dead else "waiting", "reason": reason, "fence": row.fence + 1}
            connection.execute(
                update(jobs).where(jobs.c.id == held.id).values(**values, finished_at=time.time() if dead else None)
            )
            return True


def cancel(connection: Connection, job_id: int) -> bool:
    """Cancel an open job; its worker notices at its next beat."""
    values = {"state": "cancelled", "reason": "cancelled by a person", "finished_at": time.time()}
    done = update(jobs).where(jobs.c.id == job_id, jobs.c.state.in_(OPEN_STATES)).values(**values)
    return connection.execute(done).rowcount == 1


def retry(connection: Connection, job_id: int) -> bool:
    """Let a job that is dead, refused or cancelled wait again, with all its attempts."""
    values = {"state": "waiting", "attempts": 0, "reason": "", "finished_at": None}
    done = update(jobs).where(jobs.c.id == job_id, jobs.c.state.in_(("dead", "refused", "cancelled"))).values(**values)
    return connection.execute(done).rowcount == 1


def listed(
    connection: Connection, *, state: str = "", study_uid: str = "", job_id: int | None = None, most: int = 1000
) -> list[Row[Any]]:
    """Jobs, newest first."""
    query = select(jobs).order_by(jobs.c.id.desc()).limit(most)
    if state:
        query = query.where(jobs.c.state == state)
    if study_uid:
        query = query.where(jobs.c.study_uid == study_uid)
    if job_id is not None:
        query = query.where(jobs.c.id == job_id)
    return list(connection.execute(query))


def results_of(connection: Connection, job_id: int) -> list[Row[Any]]:
    """What a job wrote."""
    return list(connection.execute(select(results).where(results.c.job_id == job_id).order_by(results.c.id)))
