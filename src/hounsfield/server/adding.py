"""Routes by which people add studies and jobs: an upload, the demo, another route for a study."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request
from pydantic import BaseModel, Field

from hounsfield.server.access import Operator
from hounsfield.server.bodies import FILE
from hounsfield.usecases.node.demonstrating import demonstrate
from hounsfield.usecases.node.keeping import Keeper
from hounsfield.usecases.node.opening import Node
from hounsfield.usecases.node.rerouting import reroute
from hounsfield.usecases.node.uploading import finish_upload, upload

UID_PATTERN = r"^[0-9.]{1,64}$"
StudyUid = Annotated[str, Path(pattern=UID_PATTERN)]


class Studies(BaseModel):
    """Studies by their UIDs."""

    studies: list[Annotated[str, Field(pattern=UID_PATTERN)]] = Field(max_length=1000)


def add_adding(app: FastAPI, node: Node, keeper: Keeper) -> None:
    """Add the routes."""

    @app.post("/api/v1/upload", openapi_extra=FILE)
    async def add_file(caller: Operator, request: Request) -> dict[str, Any]:
        """Add one DICOM file, or a zip or tar of them; the body is the file itself."""
        host = request.client.host if request.client else ""
        return (await upload(node, keeper, request.stream(), caller.name, host)).as_dict()

    @app.post("/api/v1/upload/finished")
    def finished(caller: Operator, said: Studies) -> dict[str, int]:
        """Say that nothing more of these studies comes, so that they count as complete now."""
        return {"studies": finish_upload(node, said.studies)}

    @app.post("/api/v1/demo")
    def demo(caller: Operator) -> dict[str, int]:
        """Bring in the demo's study and let a shipped model read it."""
        return {"job": demonstrate(node, keeper, caller.name)}

    @app.post("/api/v1/studies/{study_uid}/reroute")
    def route(caller: Operator, study_uid: StudyUid, route: Annotated[str, Query(max_length=64)]) -> dict[str, int]:
        """Let a route read a study, whatever its conditions say."""
        return {"job": reroute(node, study_uid, route, caller.name)}
