"""Requests for storage commitment, until the peer has heard the report."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import BigInteger, Column, Connection, Float, Index, Integer, Table, Text, insert, select, update

from hounsfield.department.deliveries import DEAD_AFTER_S, LONGEST_WAIT_S, full_wait_s
from hounsfield.department.tables import instances, metadata

NO_SUCH_INSTANCE: Final = 0x0112
CLASS_INSTANCE_CONFLICT: Final = 0x0119
_CHUNK: Final = 500

commitments = Table(
    "commitments",
    metadata,
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    Column("transaction_uid", Text, nullable=False),
    Column("calling_ae", Text, nullable=False),
    Column("references_json", Text, nullable=False),
    Column("state", Text, nullable=False),  # waiting, reported, dead
    Column("attempts", Integer, nullable=False, default=0),
    Column("waited_s", Float, nullable=False, default=0.0),
    Column("due_at", Float, nullable=False, default=0.0),
    Column("reason", Text, nullable=False, default=""),
    Column("asked_at", Float, nullable=False),
    Index("commitments_by_state", "state"),
)

#: (SOP class, SOP instance)
Reference = tuple[str, str]


@dataclass(frozen=True)
class Asked:
    """A request that waits for its report."""

    id: int
    transaction_uid: str
    calling_ae: str
    references: tuple[Reference, ...]
    attempts: int
    waited_s: float


def ask(connection: Connection, transaction_uid: str, calling_ae: str, references: Sequence[Reference]) -> None:
    """Remember a request; one that waits under the same transaction already is the same."""
    same = (
        commitments.c.transaction_uid == transaction_uid,
        commitments.c.calling_ae == calling_ae,
        commitments.c.state == "waiting",
    )
    if connection.execute(select(commitments.c.id).where(*same)).first() is None:
        row = {"transaction_uid": transaction_uid, "calling_ae": calling_ae, "state": "waiting"}
        told = json.dumps(list(references))
        connection.execute(insert(commitments).values(**row, references_json=told, asked_at=time.time()))


def due(connection: Connection, most: int = 16) -> list[Asked]:
    """Requests to report on now."""
    now = time.time()
    when = (commitments.c.due_at <= now) | (commitments.c.due_at > now + 2 * LONGEST_WAIT_S)
    query = select(commitments).where(commitments.c.state == "waiting", when).order_by(commitments.c.id).limit(most)
    return [
        Asked(
            row.id,
            row.transaction_uid,
            row.calling_ae,
            tuple((uid, instance) for uid, instance in json.loads(row.references_json)),
            row.attempts,
            row.waited_s,
        )
        for row in connection.execute(query)
    ]


def judged(connection: Connection, references: Sequence[Reference]) -> list[tuple[Reference, int, str]]:
    """Each reference with 0 and the digest of its file, or the reason why it is not committed."""
    known: dict[str, tuple[str, str]] = {}
    uids = [instance for _, instance in references]
    for start in range(0, len(uids), _CHUNK):
        query = select(instances.c.sop_instance_uid, instances.c.sop_class_uid, instances.c.sha256)
        part = instances.c.sop_instance_uid.in_(uids[start : start + _CHUNK])
        rows = connection.execute(query.where(instances.c.standing == "kept", part))
        known |= {row[0]: (row[1], row[2]) for row in rows}
    found = []
    for one in references:
        uid, digest = known.get(one[1], ("", ""))
        reason = NO_SUCH_INSTANCE if not digest else CLASS_INSTANCE_CONFLICT if uid != one[0] else 0
        found.append((one, reason, digest))
    return found


def reported(connection: Connection, asked: Asked) -> None:
    """The peer has heard it."""
    values = {"state": "reported", "attempts": asked.attempts + 1, "reason": ""}
    connection.execute(update(commitments).where(commitments.c.id == asked.id).values(**values))


def postponed(connection: Connection, asked: Asked, reason: str) -> None:
    """The peer could not be told; try again later, as with deliveries."""
    wait = full_wait_s(asked.attempts)
    waited = asked.waited_s + wait
    values = {
        "state": "dead" if waited > DEAD_AFTER_S else "waiting",
        "attempts": asked.attempts + 1,
        "waited_s": waited,
        "due_at": time.time() + wait,
        "reason": reason,
    }
    connection.execute(update(commitments).where(commitments.c.id == asked.id).values(**values))
