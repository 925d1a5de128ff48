"""A reader's point starts a model: a job that is read at once, in a process that keeps scan and model loaded."""

from __future__ import annotations

import functools
import secrets
import shutil
import threading
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final

from hounsfield.audit import AuditEvent
from hounsfield.department import jobs, studies
from hounsfield.department.jobs import Leased, NewJob
from hounsfield.department.leases import this_process
from hounsfield.errors import HounsfieldError, SettingsError
from hounsfield.packages import ModelPackage, open_package
from hounsfield.reading import Series
from hounsfield.usecases.job import Choices, Job, SeriesResult
from hounsfield.usecases.models import list_models
from hounsfield.usecases.node.imaging import StudyImages
from hounsfield.usecases.node.opening import Node, log
from hounsfield.usecases.node.point_reader import OnSeen, PointReader
from hounsfield.usecases.node.routing import Order
from hounsfield.usecases.node.working import record
from hounsfield.usecases.run import RunResult
from hounsfield.usecases.stages import result_name
from hounsfield.volume import Place

PRIORITY: Final = 1000.0
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Asked:
    """A point of a series, the model that is to read its surroundings, and who wants to know."""

    study_uid: str
    series: str
    model: str
    lps_mm: Triple
    who: str


@functools.cache
def point_models() -> tuple[dict[str, Any], ...]:
    """The installed models that read the surroundings of a point and answer with voxels."""
    found = []
    for row in list_models().models:
        if row.problem:
            continue
        manifest = open_package(row.reference).manifest
        if manifest.input.point is not None and manifest.output.segments:
            modality = manifest.input.channels[0].modality
            found.append({"reference": row.reference, "title": row.title, "modality": modality})
    return tuple(found)


def prepare_points(images: StudyImages, reader: PointReader, study_uid: str, series: str, model: str) -> None:
    """Load a series and a model, because a person who may ask looks at it; what is wrong is told when he asks."""
    with suppress(HounsfieldError):
        package, found = _package(model), images.series(study_uid, series)
        reader.prepare(_job(images.node, package, found, None, "prepared"))


def ask_at(images: StudyImages, reader: PointReader, asked: Asked) -> dict[str, Any]:
    """Read the surroundings of a point: the job's number and state, and under ``seen`` what the model found.

    It answers as soon as that is known, while the results are still being written (state ``leased``); what
    was seen is empty where nothing came of it. The results stay on the node: they are sent nowhere. Where
    the process that stays cannot read it, the job goes to the queue, before everything else that waits.

    Raises
    ------
    SettingsError
        If there is no such study, series or model, or the point lies outside the series.
    """
    node, package = images.node, _package(asked.model)
    found = images.series(asked.study_uid, asked.series)
    if found.geometry is None or not found.geometry.contains_mm(asked.lps_mm):
        raise SettingsError("the point lies outside the series", "put the cross inside it")
    digests = tuple(path.stem for path in found.files)
    order = Order(asked.model, "fp32", "", False, found.is_repairable, False, (), digests, asked.lps_mm)
    leased = _leased(node, asked.study_uid, order)
    what = {"activity": "point", "job": leased.id, "model": asked.model}
    node.audit(AuditEvent("application-activity", asked.who, what))
    job = _job(node, package, found, asked.lps_mm, f"{leased.id}-{leased.fence}")
    first: SimpleQueue[dict[str, Any]] = SimpleQueue()

    def work() -> None:
        try:
            _read(node, reader, leased, order, job, first.put)
        finally:
            first.put({})

    threading.Thread(target=work, name=f"point-{leased.id}").start()
    seen = first.get()
    with node.database.read() as connection:
        (row,) = jobs.listed(connection, job_id=leased.id)
    return {"job": leased.id, "state": row.state, "seen": seen}


def _package(model: str) -> ModelPackage:
    if model not in {one["reference"] for one in point_models()}:
        raise SettingsError(f"{model} does not read the surroundings of a point", "choose another model")
    return open_package(model)


def _leased(node: Node, study_uid: str, order: Order) -> Leased:
    """The job, in our hands."""
    with node.database.write(alone=True) as connection:
        version = studies.listed(connection, study_uid=study_uid, most=1)[0].version
        name = f"point-{secrets.token_hex(4)}"
        return jobs.make_leased(connection, NewJob(study_uid, version, name, order.to_json(), PRIORITY), this_process())


def _job(node: Node, package: ModelPackage, series: Series, lps_mm: Triple | None, folder: str) -> Job:
    """What the process that stays is told."""
    return Job(
        package=package.root,
        package_digest=package.digest,
        source=node.root / "instances",
        files=series.files,
        name=result_name(series),
        output=node.work / folder / "output",
        choices=Choices(at=() if lps_mm is None else (Place(lps_mm=lps_mm),), repair=series.is_repairable),
    )


def _read(node: Node, reader: PointReader, leased: Leased, order: Order, job: Job, on_seen: OnSeen) -> None:
    """Read it, and record what came of it; without an answer the queue tries."""
    try:
        job.output.mkdir(parents=True)
        said = reader.read(job, lambda: jobs.beat(node.database, leased), on_seen)
        if "result" in said:
            result = SeriesResult.from_dict(said["result"])
            said = {"result": RunResult(order.model, job.package_digest, (result,)).as_dict()}
        record(node, leased, order, job.output.parent, said)
    except HounsfieldError as error:
        jobs.fail(node.database, leased, error.fact, again=True)
        log("job-failed", job=leased.id, reason=error.fact)
    except OSError as error:
        reason = f"the system refused ({error.strerror or type(error).__name__})"
        jobs.fail(node.database, leased, reason, again=True)
        log("job-failed", job=leased.id, reason=reason)
    finally:
        shutil.rmtree(job.output.parent, ignore_errors=True)
