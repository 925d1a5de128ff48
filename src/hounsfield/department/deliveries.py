"""Deliveries: each DICOM result to each destination, until it is there; dead only after days of waiting.

The waits between tries are summed in the row, so that no clock that jumps can end them early, and
a due time in the far future, left by a clock that was wrong, counts as due.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, select, update

from hounsfield.department.tables import deliveries, jobs, results

FIRST_WAIT_S: Final = 5.0
LONGEST_WAIT_S: Final = 900.0
DEAD_AFTER_S: Final = 72 * 3600.0


@dataclass(frozen=True)
class Due:
    """A delivery to try now, and the file it is about."""

    id: int
    path: str
    sha256: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    job_id: int
    attempts: int
    waited_s: float


def plan(connection: Connection, result_id: int, destinations: Sequence[str]) -> None:
    """Let a result go to these destinations."""
    for name in dict.fromkeys(destinations):
        row = {"result_id": result_id, "destination": name, "state": "waiting", "attempts": 0}
        connection.execute(insert(deliveries).values(**row, waited_s=0.0, due_at=0.0, reason=""))


def waiting_for(connection: Connection, destination: str, *, most: int = 64) -> list[Due]:
    """What is due for one destination, oldest first: SEG before the SR that refers to it."""
    now = time.time()
    due = (deliveries.c.due_at <= now) | (deliveries.c.due_at > now + 2 * LONGEST_WAIT_S)
    query = (
        select(
            deliveries.c.id,
            results.c.path,
            results.c.sha256,
            results.c.sop_class_uid,
            results.c.sop_instance_uid,
            results.c.transfer_syntax_uid,
            results.c.job_id,
            deliveries.c.attempts,
            deliveries.c.waited_s,
        )
        .join(results, results.c.id == deliveries.c.result_id)
        .where(deliveries.c.state == "waiting", deliveries.c.destination == destination, due)
        .order_by(deliveries.c.id)
        .limit(most)
    )
    return [Due(*row) for row in connection.execute(query)]


def delivered(connection: Connection, delivery_id: int, status: int, note: str = "") -> None:
    """The destination said that it has the instance."""
    values = {"state": "delivered", "status": status, "reason": note, "delivered_at": time.time()}
    grown = {"attempts": deliveries.c.attempts + 1}
    still = (deliveries.c.id == delivery_id, deliveries.c.state.in_(("waiting", "superseded")))
    connection.execute(update(deliveries).where(*still).values(**values, **grown))


def postponed(connection: Connection, due: Due, status: int | None, reason: str, share: float = 1.0) -> float:
    """It failed; the seconds until the next try, or 0 when it is dead now.

    Parameters
    ----------
    share
        Of the full wait, from :func:`jitter`; one for all that failed together, so that they are
        tried again together.
    """
    wait = share * full_wait_s(due.attempts)
    waited = due.waited_s + wait
    dead = waited > DEAD_AFTER_S
    values = {
        "state": "dead" if dead else "waiting",
        "attempts": due.attempts + 1,
        "waited_s": waited,
        "due_at": time.time() + wait,
        "status": status,
        "reason": reason,
    }
    still = (deliveries.c.id == due.id, deliveries.c.state == "waiting")
    connection.execute(update(deliveries).where(*still).values(**values))
    return 0.0 if dead else wait


def full_wait_s(attempts: int) -> float:
    """Doubling from 5 s to 15 min."""
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(attempts, 16))


def jitter() -> float:
    """A random share of the full wait, two thirds to all of it: peers are not hit in step."""
    return random.uniform(2 / 3, 1)


def supersede(connection: Connection, job_ids: Sequence[int]) -> None:
    """Send no more what these jobs wrote; what was delivered stays delivered."""
    theirs = select(results.c.id).where(results.c.job_id.in_(job_ids))
    still = (deliveries.c.state == "waiting", deliveries.c.result_id.in_(theirs))
    connection.execute(update(deliveries).where(*still).values(state="superseded"))


def resend(connection: Connection, *, job_id: int | None = None) -> int:
    """Let dead deliveries wait again, with all their time; of one job, or all."""
    dead = [deliveries.c.state == "dead"]
    if job_id is not None:
        dead.append(deliveries.c.result_id.in_(select(results.c.id).where(results.c.job_id == job_id)))
    values = {"state": "waiting", "attempts": 0, "waited_s": 0.0, "due_at": 0.0}
    return connection.execute(update(deliveries).where(*dead).values(**values)).rowcount


def of_job(connection: Connection, job_id: int) -> list[Row[Any]]:
    """Every delivery of what a job wrote."""
    query = select(deliveries, results.c.kind, results.c.sop_instance_uid).join(
        results, results.c.id == deliveries.c.result_id
    )
    return list(connection.execute(query.where(results.c.job_id == job_id).order_by(deliveries.c.id)))


def counts(connection: Connection) -> dict[tuple[str, str], int]:
    """How many deliveries are in which state, by (destination, state)."""
    query = select(deliveries.c.destination, deliveries.c.state, func.count()).group_by(
        deliveries.c.destination, deliveries.c.state
    )
    return {(name, state): number for name, state, number in connection.execute(query)}


def job_counts(connection: Connection) -> dict[str, int]:
    """How many jobs are in which state."""
    query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
    return {row[0]: row[1] for row in connection.execute(query)}
