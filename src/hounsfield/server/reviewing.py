"""Routes by which reviewers judge results, correct them, and take the reviewed ones out as a data set."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import BackgroundTasks, FastAPI, Path, Query, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from hounsfield.audit import AuditEvent
from hounsfield.server.access import Reviewer, Viewer
from hounsfield.server.adding import StudyUid
from hounsfield.server.pages.studying import JobId, SeriesName
from hounsfield.usecases.node.corrected import corrected_seg
from hounsfield.usecases.node.exporting import export_reviews
from hounsfield.usecases.node.imaging import StudyImages
from hounsfield.usecases.node.opening import Node
from hounsfield.usecases.node.point_reader import PointReader
from hounsfield.usecases.node.pointing import Asked, ask_at, prepare_points
from hounsfield.usecases.node.reviewing import (
    Judged,
    Verdict,
    judge,
    label_path,
    receive_labels,
    save_labels,
)
from hounsfield.usecases.node.zipping import zip_folder

Version = Annotated[int, Path(ge=1, le=10**6)]
Seconds = Annotated[float, Query(ge=0, le=86400)]
Millimetres = Annotated[float, Field(ge=-1e5, le=1e5)]
Reason = Annotated[str, Query(max_length=1000)]


class PointModel(BaseModel):
    """A model that reads the surroundings of points."""

    model: str = Field(max_length=128, pattern=r"^[a-z0-9]+(-[a-z0-9.]+)*$")


class Point(PointModel):
    """A point of a series, and the model that is to read its surroundings."""

    lps_mm: tuple[Millimetres, Millimetres, Millimetres]


class Said(BaseModel):
    """A verdict."""

    verdict: Verdict
    reason: str = Field("", max_length=1000)
    seconds: float = Field(0.0, ge=0, le=86400)


def add_reviewing(app: FastAPI, node: Node, images: StudyImages, reader: PointReader) -> None:
    """Add the routes."""
    _judging(app, node)
    _showing(app, node, images)
    _pointing(app, images, reader)
    _taking_out(app, node, images)


def _judging(app: FastAPI, node: Node) -> None:

    @app.post("/api/v1/jobs/{job_id}/series/{series}/review")
    def review(caller: Reviewer, job_id: JobId, series: SeriesName, said: Said) -> dict[str, int]:
        """Accept or reject what a job said of a series."""
        judged = Judged(job_id, series, caller.name, said.reason, said.seconds)
        return {"review": judge(node, judged, said.verdict)}

    @app.post("/api/v1/jobs/{job_id}/series/{series}/labels")
    async def correct(
        caller: Reviewer,
        request: Request,
        job_id: JobId,
        series: SeriesName,
        reason: Reason = "",
        seconds: Seconds = 0.0,
    ) -> dict[str, int]:
        """Keep corrected labels, a NIfTI file on the result's grid, as the next version."""
        judged = Judged(job_id, series, caller.name, reason, seconds)
        drawing = await receive_labels(node, request.stream())
        try:
            return {"version": await run_in_threadpool(save_labels, node, drawing, judged)}
        finally:
            drawing.unlink(missing_ok=True)


def _showing(app: FastAPI, node: Node, images: StudyImages) -> None:
    @app.get("/api/v1/jobs/{job_id}/series/{series}/labels/{version}", response_class=FileResponse)
    def drawn(caller: Viewer, job_id: JobId, series: SeriesName, version: Version) -> FileResponse:
        """Corrected labels, as NIfTI."""
        path = label_path(node, job_id, series, version)
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    @app.get("/api/v1/jobs/{job_id}/series/{series}/labels/{version}/seg", response_class=FileResponse)
    def drawn_seg(caller: Viewer, job_id: JobId, series: SeriesName, version: Version) -> FileResponse:
        """Corrected labels, as DICOM SEG of a person's hand."""
        path = corrected_seg(images, job_id, series, version)
        node.audit(AuditEvent("instances-accessed", caller.name, {"job": job_id, "labels": version}))
        return FileResponse(path, media_type="application/dicom", filename=path.name)


def _pointing(app: FastAPI, images: StudyImages, reader: PointReader) -> None:
    @app.post("/api/v1/studies/{study_uid}/series/{series}/point")
    def point(caller: Reviewer, study_uid: StudyUid, series: SeriesName, said: Point) -> dict[str, Any]:
        """Let a model read the surroundings of a point now; the job, and what was found."""
        return ask_at(images, reader, Asked(study_uid, series, said.model, said.lps_mm, caller.name))

    @app.post("/api/v1/studies/{study_uid}/series/{series}/point/prepare", status_code=202)
    def prepare(
        caller: Reviewer, study_uid: StudyUid, series: SeriesName, said: PointModel, after: BackgroundTasks
    ) -> None:
        """Say that points of this series may be asked about soon, so that scan and model are loaded."""
        after.add_task(prepare_points, images, reader, study_uid, series, said.model)


def _taking_out(app: FastAPI, node: Node, images: StudyImages) -> None:
    @app.get("/api/v1/reviews/export.zip", response_class=FileResponse)
    def export(caller: Reviewer, model: Annotated[str, Query(max_length=128)] = "") -> Any:
        """Accepted and corrected results as a data set for ``hounsfield train``, without names and ids."""
        folder = FilePath(tempfile.mkdtemp(prefix=".export-", dir=node.work))
        try:
            export_reviews(images, folder / "reviewed", caller.name, model)
            zip_folder(folder / "reviewed", folder / "reviewed.zip")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        after = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
        return FileResponse(
            folder / "reviewed.zip", media_type="application/zip", filename="reviewed.zip", background=after
        )
