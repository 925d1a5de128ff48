"""Registering instances: idempotent by SOP Instance UID, other content kept apart and flagged."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import Connection, bindparam, insert, select, update

from hounsfield.department.tables import instances, studies

#: ``new``: kept. ``duplicate``: the same content was kept before. ``conflict``: the UID is known with
#: other content; this one is kept apart, and nothing reads it.
Standing = Literal["new", "duplicate", "conflict"]


@dataclass(frozen=True)
class NewInstance:
    """An instance whose file is on the disk under its digest."""

    sop_instance_uid: str
    sha256: str
    size_bytes: int
    sop_class_uid: str
    study_uid: str
    series_uid: str
    modality: str
    transfer_syntax_uid: str
    calling_ae: str
    host: str


@dataclass(frozen=True)
class StoredInstance:
    """A kept instance, for whoever reads a study."""

    sop_instance_uid: str
    sha256: str
    sop_class_uid: str
    series_uid: str
    modality: str
    calling_ae: str


# Statements are built once: building one takes longer than running it, and one instance needs four.
_SAME_UIDS: Final = select(instances.c.sop_instance_uid, instances.c.sha256).where(
    instances.c.sop_instance_uid.in_(bindparam("uids", expanding=True))
)
_SAME_STUDIES: Final = select(studies.c.study_uid).where(studies.c.study_uid.in_(bindparam("uids", expanding=True)))
_NEW_STUDIES: Final = insert(studies)
_NEW_INSTANCES: Final = insert(instances)
_CHANGED: Final = update(studies).where(studies.c.study_uid == bindparam("uid"))
_FLAGGED: Final = _CHANGED.values(conflicts=studies.c.conflicts + bindparam("odd"))
_GROWN: Final = _CHANGED.values(
    revision=studies.c.revision + bindparam("more"),
    conflicts=studies.c.conflicts + bindparam("odd"),
    state="receiving",
    last_at=bindparam("now"),
)


def register(connection: Connection, batch: Sequence[NewInstance]) -> list[Standing]:
    """Register a batch within one transaction; one standing for each, in order.

    A new kept instance makes its study one revision younger, which opens it again.
    """
    known = _known(connection, {one.sop_instance_uid for one in batch})
    rows: list[dict[str, Any]] = []
    answers: list[Standing] = []
    now = time.time()
    for one in batch:
        contents = known.setdefault(one.sop_instance_uid, set())
        standing: Standing = "new" if not contents else "duplicate" if one.sha256 in contents else "conflict"
        answers.append(standing)
        if standing == "duplicate":
            continue
        contents.add(one.sha256)
        rows.append({**vars(one), "standing": "kept" if standing == "new" else "conflict", "received_at": now})
    if rows:
        _touch_studies(connection, rows, now)
        connection.execute(_NEW_INSTANCES, rows)
    return answers


def _known(connection: Connection, uids: set[str]) -> dict[str, set[str]]:
    known: dict[str, set[str]] = {}
    for uid, digest in connection.execute(_SAME_UIDS, {"uids": list(uids)}):
        known.setdefault(uid, set()).add(digest)
    return known


def _touch_studies(connection: Connection, rows: Iterable[dict[str, Any]], now: float) -> None:
    counts: dict[str, list[int]] = {}
    senders: dict[str, str] = {}
    for row in rows:
        count = counts.setdefault(row["study_uid"], [0, 0])
        count[row["standing"] == "conflict"] += 1
        senders[row["study_uid"]] = row["calling_ae"]
    there = set(connection.execute(_SAME_STUDIES, {"uids": list(counts)}).scalars())
    fresh = [
        {"study_uid": uid, "calling_ae": senders[uid], "first_at": now, "last_at": now}
        | {"state": "receiving", "outcome": "", "reason": "", "revision": 0, "version": 0, "conflicts": 0}
        for uid in counts
        if uid not in there
    ]
    if fresh:
        connection.execute(_NEW_STUDIES, fresh)
    grown = [{"uid": uid, "more": new, "odd": odd, "now": now} for uid, (new, odd) in counts.items() if new]
    if grown:
        connection.execute(_GROWN, grown)
    flagged = [{"uid": uid, "odd": odd} for uid, (new, odd) in counts.items() if not new]
    if flagged:
        connection.execute(_FLAGGED, flagged)


def of_study(connection: Connection, study_uid: str) -> list[StoredInstance]:
    """The kept instances of a study, in the order they came."""
    wanted = (
        instances.c.sop_instance_uid,
        instances.c.sha256,
        instances.c.sop_class_uid,
        instances.c.series_uid,
        instances.c.modality,
        instances.c.calling_ae,
    )
    query = select(*wanted).where(instances.c.study_uid == study_uid, instances.c.standing == "kept")
    return [StoredInstance(*row) for row in connection.execute(query.order_by(instances.c.id))]


def studies_of(connection: Connection, sop_instance_uids: Sequence[str]) -> list[str]:
    """The studies that hold these instances, sorted."""
    found: set[str] = set()
    for start in range(0, len(sop_instance_uids), 500):
        some = sop_instance_uids[start : start + 500]
        query = select(instances.c.study_uid).where(instances.c.sop_instance_uid.in_(some)).distinct()
        found |= set(connection.execute(query).scalars())
    return sorted(found)


def is_named(connection: Connection, sha256: str) -> bool:
    """Whether a row names the content with this digest."""
    query = select(instances.c.id).where(instances.c.sha256 == sha256).limit(1)
    return connection.execute(query).first() is not None
