"""What people said of results: rows that are only ever added."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from hounsfield.department.tables import jobs, reviews


@dataclass(frozen=True)
class NewReview:
    """One verdict on what a job said of one series.

    Parameters
    ----------
    seconds
        How long the person took.
    label_version, label_path, label_sha256
        The corrected labels, counted from 1; 0 and empty where nothing was drawn.
    """

    job_id: int
    study_uid: str
    series: str
    verdict: str
    reason: str
    who: str
    seconds: float
    label_version: int = 0
    label_path: str = ""
    label_sha256: str = ""


def add(connection: Connection, review: NewReview) -> int:
    """Add a verdict; its number."""
    row = insert(reviews).values(**vars(review), at=time.time()).returning(reviews.c.id)
    return int(connection.execute(row).scalar_one())


def of_study(connection: Connection, study_uid: str) -> list[Row[Any]]:
    """What people said of results of a study, the latest first."""
    query = select(reviews).where(reviews.c.study_uid == study_uid).order_by(reviews.c.id.desc())
    return list(connection.execute(query))


def next_version(connection: Connection, job_id: int, series: str) -> int:
    """The number of the next corrected labels of a job's series."""
    query = select(func.max(reviews.c.label_version)).where(reviews.c.job_id == job_id, reviews.c.series == series)
    return int(connection.execute(query).scalar() or 0) + 1


def version_of(connection: Connection, job_id: int, series: str, version: int) -> Row[Any] | None:
    """The correction that made a label version."""
    query = select(reviews).where(reviews.c.job_id == job_id, reviews.c.series == series)
    return connection.execute(query.where(reviews.c.label_version == version, reviews.c.label_path != "")).first()


def latest(connection: Connection) -> list[Row[Any]]:
    """The latest verdict on each series of each job, with the model that it is about."""
    newest = select(func.max(reviews.c.id)).group_by(reviews.c.job_id, reviews.c.series)
    query = select(reviews, jobs.c.order_json).join(jobs, jobs.c.id == reviews.c.job_id)
    return list(connection.execute(query.where(reviews.c.id.in_(newest)).order_by(reviews.c.id)))


def unreviewed(connection: Connection, *, most: int) -> list[Row[Any]]:
    """Finished jobs of which nobody said anything, the latest first."""
    said = select(reviews.c.job_id)
    query = select(jobs).where(jobs.c.state == "done", jobs.c.id.not_in(said))
    return list(connection.execute(query.order_by(jobs.c.id.desc()).limit(most)))
