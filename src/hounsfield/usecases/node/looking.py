"""What a person asks of a node: its jobs, studies, deliveries, and to try something again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from hounsfield.audit import AuditEvent
from hounsfield.department import deliveries, jobs, studies
from hounsfield.errors import SettingsError
from hounsfield.usecases.node.opening import Node, open_node


@dataclass(frozen=True)
class JobRow:
    """One job, with its deliveries."""

    id: int
    state: str
    route: str
    study_uid: str
    version: int
    attempts: int
    priority: float
    reason: str
    shadow: bool
    deliveries: tuple[dict[str, Any], ...] = ()
    outcome: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The job as data."""
        return {**vars(self), "deliveries": list(self.deliveries)}


@contextmanager
def opened(root: Path) -> Iterator[Node]:
    """A node that is there already.

    Raises
    ------
    SettingsError
        If there is none: looking makes nothing.
    """
    if not (root / "incoming").is_dir():
        raise SettingsError("there is no node in this folder", "name it with --data, or make it with serve", root)
    node = open_node(root)
    try:
        yield node
    finally:
        node.close()


def list_jobs(node: Node, *, state: str = "", study_uid: str = "", most: int = 200) -> tuple[JobRow, ...]:
    """Jobs, newest first, each with its deliveries."""
    with node.database.read() as connection:
        rows = jobs.listed(connection, state=state, study_uid=study_uid, most=most)
        return tuple(_job(row, deliveries.of_job(connection, row.id)) for row in rows)


def one_job(node: Node, job_id: int) -> JobRow:
    """One job.

    Raises
    ------
    SettingsError
        If there is none of this number.
    """
    with node.database.read() as connection:
        rows = jobs.listed(connection, job_id=job_id)
        if not rows:
            raise SettingsError(f"there is no job {job_id}", "list the jobs")
        return _job(rows[0], deliveries.of_job(connection, job_id))


def result_file(node: Node, job_id: int, kind: str) -> Path:
    """The file of a kind that a job wrote.

    Raises
    ------
    SettingsError
        If the job wrote none.
    """
    with node.database.read() as connection:
        found = {row.kind: row.path for row in jobs.results_of(connection, job_id)}
    if kind not in found:
        raise SettingsError(f"job {job_id} wrote no {kind}", f"it wrote: {', '.join(found) or 'nothing'}")
    return node.results / str(found[kind])


def list_studies(node: Node, *, most: int = 200) -> list[dict[str, Any]]:
    """Studies, the latest first: their state and counts, nothing of a person but the study's UID."""
    shown = ("study_uid", "state", "outcome", "reason", "version", "conflicts", "expected", "calling_ae", "last_at")
    with node.database.read() as connection:
        rows = studies.listed(connection, most=most)
        return [{**{name: getattr(row, name) for name in shown}, "instances": row.revision} for row in rows]


def _job(row: Row[Any], sent: list[Row[Any]]) -> JobRow:
    return JobRow(
        id=row.id,
        state=row.state,
        route=row.route,
        study_uid=row.study_uid,
        version=row.version,
        attempts=row.attempts,
        priority=row.priority,
        reason=row.reason,
        shadow=bool(row.shadow),
        deliveries=tuple(
            {
                "kind": one.kind,
                "destination": one.destination,
                "state": one.state,
                "attempts": one.attempts,
                "status": one.status,
                "reason": one.reason,
                "sop_instance_uid": one.sop_instance_uid,
            }
            for one in sent
        ),
        outcome=json.loads(row.outcome_json) if row.outcome_json else None,
    )


def retry_job(node: Node, job_id: int, who: str) -> None:
    """Let a dead, refused or cancelled job wait again.

    Raises
    ------
    SettingsError
        If there is no such job, or it is in another state.
    """
    with node.database.write() as connection:
        changed = jobs.retry(connection, job_id)
    _changed(node, changed, job_id, who, "retry", "only dead, refused and cancelled jobs can be tried again")


def cancel_job(node: Node, job_id: int, who: str) -> None:
    """Cancel a waiting or running job.

    Raises
    ------
    SettingsError
        If there is no such job, or it is over.
    """
    with node.database.write() as connection:
        changed = jobs.cancel(connection, job_id)
    _changed(node, changed, job_id, who, "cancel", "only waiting and running jobs can be cancelled")


def _changed(node: Node, changed: bool, job_id: int, who: str, verb: str, rule: str) -> None:
    if not changed:
        raise SettingsError(f"job {job_id} is not there, or not in a state for this", rule)
    node.audit(AuditEvent("application-activity", who, {"activity": verb, "job": job_id}))


def resend(node: Node, job_id: int | None, who: str) -> int:
    """Let dead deliveries be tried again, of one job or all; how many."""
    with node.database.write() as connection:
        count = deliveries.resend(connection, job_id=job_id)
    node.audit(AuditEvent("application-activity", who, {"activity": "resend", "deliveries": count}))
    return count


def expect(node: Node, study_uid: str, count: int) -> None:
    """Say how many instances a study will have, so that it is complete as soon as they are there.

    Raises
    ------
    SettingsError
        If nothing of the study has come yet.
    """
    with node.database.write() as connection:
        if not studies.expect(connection, study_uid, count):
            raise SettingsError("nothing of this study has come yet", "say it after the first instance")


def state_of(node: Node) -> dict[str, Any]:
    """Counts for health and metrics: nothing of a person, nothing of a single study."""
    with node.database.read() as connection:
        sent = {f"{name}/{state}": n for (name, state), n in deliveries.counts(connection).items()}
        return {**studies.counts(connection), "jobs": deliveries.job_counts(connection), "deliveries": sent}
