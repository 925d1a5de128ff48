"""When a study is complete: after a quiet period, or as soon as the expected number of instances is there.

Quiet means that an observer has seen the same revision for ``quiet_s`` on his own monotonic clock;
wall clocks are written for people only. A study that grows after it was complete opens again, and
its next completion is a new version.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from hounsfield.department.database import Database
from hounsfield.department.tables import instances, studies


@dataclass(frozen=True)
class Open:
    """A study that is being received."""

    study_uid: str
    revision: int
    expected: int | None


@dataclass
class QuietWatch:
    """Remembers since when each open study has been quiet.

    Parameters
    ----------
    quiet_s
        How long nothing new may come before a study counts as complete.
    """

    database: Database
    quiet_s: float
    _since: dict[str, tuple[int, float]] = field(default_factory=dict)

    def complete(self) -> list[Open]:
        """The open studies that are complete now."""
        with self.database.read() as connection:
            wanted = select(studies.c.study_uid, studies.c.revision, studies.c.expected)
            found = [Open(*row) for row in connection.execute(wanted.where(studies.c.state == "receiving"))]
        now, since, ready = time.monotonic(), {}, []
        for one in found:
            revision, first = self._since.get(one.study_uid, (-1, now))
            since[one.study_uid] = (one.revision, first if revision == one.revision else now)
            full = one.expected is not None and one.revision >= one.expected
            if full or now - since[one.study_uid][1] >= self.quiet_s:
                ready.append(one)
        self._since = since
        return ready


def close(connection: Connection, study: Open, outcome: str, reason: str) -> int | None:
    """Make a complete study's next version; its number, or ``None`` when it grew meanwhile."""
    row = connection.execute(select(studies).where(studies.c.study_uid == study.study_uid).with_for_update()).first()
    if row is None or row.revision != study.revision or row.state != "receiving":
        return None
    values = {"state": "complete", "outcome": outcome, "reason": reason, "version": row.version + 1}
    connection.execute(update(studies).where(studies.c.study_uid == study.study_uid).values(**values))
    return int(row.version) + 1


def expect(connection: Connection, study_uid: str, count: int) -> bool:
    """Say how many instances a study will have, so that it need not be quiet first."""
    done = update(studies).where(studies.c.study_uid == study_uid).values(expected=count)
    return connection.execute(done).rowcount == 1


def listed(connection: Connection, *, study_uid: str = "", most: int = 1000) -> list[Row[Any]]:
    """Studies, the latest first."""
    query = select(studies).order_by(studies.c.last_at.desc()).limit(most)
    if study_uid:
        query = query.where(studies.c.study_uid == study_uid)
    return list(connection.execute(query))


def counts(connection: Connection) -> dict[str, int]:
    """How many studies are in which state, and how many instances in which standing."""
    by_state = select(studies.c.state, func.count()).group_by(studies.c.state)
    by_standing = select(instances.c.standing, func.count()).group_by(instances.c.standing)
    found = {f"studies_{state}": number for state, number in connection.execute(by_state)}
    return found | {f"instances_{standing}": number for standing, number in connection.execute(by_standing)}
