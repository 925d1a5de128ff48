"""The application: routes under ``/api/v1``, metrics, and STOW-RS under ``/dicom-web``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final

from fastapi import FastAPI, HTTPException, Path, Query, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from sqlalchemy.exc import SQLAlchemyError

from hounsfield.audit import AuditEvent
from hounsfield.errors import HounsfieldError
from hounsfield.network import dimse
from hounsfield.server.access import Operator, Sender, Viewer
from hounsfield.server.adding import add_adding
from hounsfield.server.bodies import INSTANCES
from hounsfield.server.dicomweb import dicomweb_routes
from hounsfield.server.pages import add_pages
from hounsfield.server.worklist import worklist_routes
from hounsfield.usecases.models import list_models
from hounsfield.usecases.node import looking
from hounsfield.usecases.node.keeping import Keeper
from hounsfield.usecases.node.opening import Node
from hounsfield.usecases.node.point_reader import PointReader
from hounsfield.usecases.node.storing_web import BadBody, as_dicom_json, boundary_of, store_parts
from hounsfield.version import __version__

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
_STATES: Final = "^(waiting|leased|done|refused|dead|cancelled|superseded)?$"
Number = Annotated[int, Path(ge=1, le=2**62)]


def make_app(node: Node) -> FastAPI:
    """The application over an open node."""
    keeper, points = Keeper(node.database, node.files), PointReader()

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        yield
        points.close()
        keeper.close()

    app = FastAPI(
        title="hounsfield",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=living,
        description="A DICOM node that reads studies with models. Research use only.",
    )
    app.state.node, app.state.keeper, app.state.points = node, keeper, points
    app.middleware("http")(_with_headers)
    app.exception_handler(HounsfieldError)(_refusal)
    app.exception_handler(SQLAlchemyError)(_database_failed)
    app.exception_handler(UnicodeError)(_no_text)  # of a body, or of half a surrogate pair inside JSON
    _looking(app, node)
    _acting(app, node)
    _storing(app, node, keeper)
    add_adding(app, node, keeper)
    add_pages(app, node, _refusal)
    for router in (dicomweb_routes(node), worklist_routes(node)):
        app.router.routes.extend(router.routes)  # flat, so that a walk over all routes sees them
    return app


async def _with_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response


async def _refusal(request: Request, error: Exception) -> JSONResponse:
    told = error.as_dict() if isinstance(error, HounsfieldError) else {}
    return JSONResponse({**told, "path": None}, 409)


async def _no_text(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": "InputError", "fact": "a text is not Unicode in UTF-8"}, 400)


async def _database_failed(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": "DatabaseFailed", "fact": "the database does not answer"}, 503)


def _looking(app: FastAPI, node: Node) -> None:
    @app.get("/api/v1/health")
    def health() -> dict[str, str]:
        """Whether the node and its database answer; open to everyone, and says nothing else."""
        looking.state_of(node)
        return {"status": "ok"}

    @app.get("/api/v1/openapi.json", include_in_schema=False)
    def openapi(token: Viewer) -> dict[str, Any]:
        """What this interface can do."""
        return app.openapi()

    @app.get("/api/v1/state")
    def state(token: Viewer) -> dict[str, Any]:
        """Counts of studies, instances, jobs and deliveries by state."""
        return looking.state_of(node)

    @app.get("/metrics", response_class=PlainTextResponse)
    def metrics(token: Viewer) -> str:
        """The same counts for Prometheus."""
        return prometheus(looking.state_of(node))

    @app.get("/api/v1/jobs")
    def jobs(
        token: Viewer,
        state: Annotated[str, Query(pattern=_STATES)] = "",
        most: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> list[dict[str, Any]]:
        """Jobs, newest first, with their deliveries."""
        return [job.as_dict() for job in looking.list_jobs(node, state=state, most=most)]

    @app.get("/api/v1/jobs/{job_id}")
    def job(token: Viewer, job_id: Number) -> dict[str, Any]:
        """One job."""
        return looking.one_job(node, job_id).as_dict()

    @app.get("/api/v1/jobs/{job_id}/results/{kind}", response_class=FileResponse)
    def result(token: Viewer, job_id: Number, kind: Annotated[str, Path(pattern="^[a-z-]{1,32}$")]) -> FileResponse:
        """One file that a job wrote, such as ``seg``, ``sr`` or ``json``; never shown, always a download."""
        path = looking.result_file(node, job_id, kind)
        node.audit(AuditEvent("instances-accessed", token.name, {"job": job_id, "kind": kind}))
        return FileResponse(path, media_type="application/octet-stream", filename=f"job-{job_id}-{path.name}")

    @app.get("/api/v1/studies")
    def studies(token: Viewer, most: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[dict[str, Any]]:
        """Studies, the latest first."""
        return looking.list_studies(node, most=most)

    @app.get("/api/v1/models")
    def models(token: Viewer) -> list[dict[str, Any]]:
        """The models that routes can name."""
        return [row.as_dict() for row in list_models().models]

    @app.get("/api/v1/routes")
    def routes(token: Viewer) -> list[dict[str, Any]]:
        """The routes as the file has them now."""
        return [route.model_dump(mode="json", exclude_none=True) for route in node.routes()]


def _acting(app: FastAPI, node: Node) -> None:
    @app.post("/api/v1/jobs/{job_id}/retry", status_code=204)
    def retry(token: Operator, job_id: Number) -> None:
        """Let a dead, refused or cancelled job be tried again."""
        looking.retry_job(node, job_id, token.name)

    @app.post("/api/v1/jobs/{job_id}/cancel", status_code=204)
    def cancel(token: Operator, job_id: Number) -> None:
        """Cancel a waiting or running job."""
        looking.cancel_job(node, job_id, token.name)

    @app.post("/api/v1/jobs/{job_id}/resend")
    def resend(token: Operator, job_id: Number) -> dict[str, int]:
        """Try a job's deliveries again that were given up."""
        return {"deliveries": looking.resend(node, job_id, token.name)}


def _storing(app: FastAPI, node: Node, keeper: Keeper) -> None:
    @app.post("/dicom-web/studies", openapi_extra=INSTANCES)
    async def stow(token: Sender, request: Request) -> Response:
        """STOW-RS: store instances; a success is as durable as one of C-STORE."""
        if request.headers.get("content-encoding", "identity") != "identity":
            raise HTTPException(415, "send the body as it is, without content encoding")
        host = request.client.host if request.client else ""
        try:
            boundary = boundary_of(request.headers.get("content-type", ""))
        except BadBody as error:
            raise HTTPException(415, str(error)) from error
        try:
            stored = await store_parts(request.stream(), boundary, node, keeper, token.name[:16], host)
        except BadBody as error:
            raise HTTPException(400, str(error)) from error
        statuses = {one.status for one in stored}
        counts = {f"{status:04X}": sum(one.status == status for one in stored) for status in statuses}
        what = {"host": host, "statuses": counts}
        whole = statuses == {dimse.SUCCESS}
        node.audit(AuditEvent("instances-transferred", token.name, what, 0 if whole else 4))
        return JSONResponse(as_dicom_json(stored), _http_status(statuses), media_type="application/dicom+json")


def _http_status(statuses: set[int]) -> int:
    """200 all stored, 202 some, 507 no space for any, 409 none (PS3.18 table 10.5.3-1)."""
    if statuses == {dimse.SUCCESS}:
        return 200
    if dimse.SUCCESS in statuses:
        return 202
    return 507 if statuses == {dimse.OUT_OF_RESOURCES} else 409


def prometheus(state: dict[str, Any]) -> str:
    """Counts in the text format of Prometheus; labels are states and names of the configuration."""
    lines = []
    for name, value in sorted(state.items()):
        if isinstance(value, dict):
            for label, count in sorted(value.items()):
                destination, _, inner = label.rpartition("/")
                extra = f'destination="{destination}",' if destination else ""
                lines.append(f'hounsfield_{name}{{{extra}state="{inner}"}} {count}')
        else:
            lines.append(f"hounsfield_{name} {value}")
    return "\n".join(lines) + "\n"
