"""The node itself for people who look after it: parts, queue, disk, memory, destinations, audit trail."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from hounsfield.audit import AuditEvent, Verdict, verify
from hounsfield.department.tables import deliveries, instances, jobs
from hounsfield.planning.machine import read_machine
from hounsfield.usecases.node.looking import state_of
from hounsfield.usecases.node.opening import Node

_SHOWN_EVENTS = 60
_TAIL_BYTES = 1 << 18


@dataclass(frozen=True)
class DestinationHealth:
    """One destination and how sending to it goes; ``last_at`` in seconds since 1970, ``None`` when it never worked."""

    name: str
    kind: str
    address: str
    waiting: int
    dead: int
    delivered: int
    last_at: float | None
    problem: str


@dataclass(frozen=True)
class NodeHealth:
    """What a person who looks after a node wants to see; sizes in bytes."""

    counts: dict[str, Any]
    free_bytes: int
    disk_bytes: int
    reserve_bytes: int
    instances_bytes: int
    memory_bytes: int
    available_bytes: int
    cores: int
    workers: int
    working: tuple[dict[str, Any], ...]
    destinations: tuple[DestinationHealth, ...]
    events: tuple[dict[str, Any], ...]


def oversee(node: Node) -> NodeHealth:
    """Look at everything once."""
    disk, machine = shutil.disk_usage(node.root), read_machine(accelerators=False)
    with node.database.read() as connection:
        stored = connection.execute(select(func.sum(instances.c.size_bytes))).scalar() or 0
        leased = connection.execute(select(jobs).where(jobs.c.state == "leased").order_by(jobs.c.id)).all()
    working = tuple(
        {
            "job": row.id,
            "model": json.loads(row.order_json)["model"],
            "memory": json.loads(row.order_json)["memory"] or "no limit",
            "attempt": row.attempts,
        }
        for row in leased
    )
    return NodeHealth(
        counts=state_of(node),
        free_bytes=disk.free,
        disk_bytes=disk.total,
        reserve_bytes=node.config.limits.reserve_bytes,
        instances_bytes=int(stored),
        memory_bytes=machine.total_bytes,
        available_bytes=machine.available_bytes,
        cores=machine.cores,
        workers=node.config.workers,
        working=working,
        destinations=tuple(_health(node, one) for one in node.config.destinations),
        events=_last_events(node),
    )


def _health(node: Node, table: Any) -> DestinationHealth:
    theirs = deliveries.c.destination == table.name
    with node.database.read() as connection:
        grouped = select(deliveries.c.state, func.count()).where(theirs).group_by(deliveries.c.state)
        counts = {row[0]: int(row[1]) for row in connection.execute(grouped)}
        last = connection.execute(select(func.max(deliveries.c.delivered_at)).where(theirs)).scalar()
        troubled = theirs & deliveries.c.state.in_(("waiting", "dead")) & (deliveries.c.reason != "")
        problem = select(deliveries.c.reason).where(troubled).order_by(deliveries.c.id.desc()).limit(1)
        reason = connection.execute(problem).scalar()
    address = table.url or f"{table.ae_title}@{table.host}:{table.port}"
    numbers = (counts.get("waiting", 0), counts.get("dead", 0), counts.get("delivered", 0))
    return DestinationHealth(table.name, table.kind, address, *numbers, last, reason or "")


def _last_events(node: Node) -> tuple[dict[str, Any], ...]:
    """The last lines of the audit trail, the latest first."""
    path = node.ledger.path
    if not path.is_file():
        return ()
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = stream.read().splitlines()
    found = []
    for raw in reversed(lines[-_SHOWN_EVENTS:]):
        try:
            line = json.loads(raw)
        except ValueError:  # the first line of the piece that was read may be cut
            continue
        found.append({key: line[key] for key in ("number", "at", "event", "who", "what", "outcome")})
    return tuple(found)


def verify_trail(node: Node, who: str) -> Verdict:
    """Check the whole audit trail, and note in it that this was done.

    Raises
    ------
    NotReadable
        If it cannot be read.
    """
    found = verify(node.ledger.path)
    what = {"activity": "audit verify", "lines": found.lines, "holds": found.holds}
    node.audit(AuditEvent("application-activity", who, what, 0 if found.holds else 8))
    return found
