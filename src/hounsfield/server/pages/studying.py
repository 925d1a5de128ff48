"""The study's page, and the bytes that its viewer asks for."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import FileResponse, HTMLResponse

from hounsfield.audit import AuditEvent
from hounsfield.errors import SettingsError
from hounsfield.server.access import Viewer
from hounsfield.server.adding import StudyUid
from hounsfield.server.pages.rendering import render
from hounsfield.usecases.node.imaging import StudyImages
from hounsfield.usecases.node.opening import Node
from hounsfield.usecases.node.viewing import result_path, view_study
from hounsfield.usecases.node.worklist import study_line

SeriesName = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
JobId = Annotated[int, Path(ge=1, le=2**62)]
_NIFTI: Final = "application/octet-stream"


class VolumeResponse(FileResponse):
    """A file of many megabytes, sent in large pieces: each piece costs a turn of a thread."""

    chunk_size = 1 << 22


def add_studying(app: FastAPI, node: Node, images: StudyImages) -> None:
    """The routes of one study."""

    @app.get("/studies/{study_uid}", include_in_schema=False)
    def show(request: Request, caller: Viewer, study_uid: StudyUid) -> HTMLResponse:
        line = study_line(node, study_uid)
        if line is None:
            raise SettingsError("there is no such study", "open the worklist")
        node.audit(AuditEvent("instances-accessed", caller.name, {"study": study_uid}))
        return render(request, "study.html", caller, line=line)

    @app.get("/api/v1/studies/{study_uid}/view")
    def view(caller: Viewer, study_uid: StudyUid) -> dict[str, Any]:
        """Series of a study, what models said of each, and what people said of that."""
        return view_study(images, study_uid)

    @app.get("/api/v1/studies/{study_uid}/series/{series}/volume.nii", response_class=VolumeResponse)
    def volume(
        caller: Viewer, study_uid: StudyUid, series: SeriesName, time: Annotated[int, Query(ge=0, le=10_000)] = 0
    ) -> VolumeResponse:
        """A series as NIfTI, without anything of the patient but the pixels."""
        return VolumeResponse(images.volume(study_uid, series, time), media_type=_NIFTI)

    @app.get("/api/v1/jobs/{job_id}/series/{series}/{kind}", response_class=FileResponse)
    def written(
        caller: Viewer, job_id: JobId, series: SeriesName, kind: Annotated[str, Path(pattern="^[a-z0-9-]{1,32}$")]
    ) -> FileResponse:
        """One file that a job wrote of a series, such as ``seg``, ``sr`` or ``nifti``; a download."""
        path = result_path(node, job_id, series, kind)
        node.audit(AuditEvent("instances-accessed", caller.name, {"job": job_id, "kind": kind}))
        return FileResponse(path, media_type=_NIFTI, filename=f"job-{job_id}-{series}-{path.name}")
