"""QIDO-RS and WADO-RS under ``/dicom-web``: enough for OHIF and other DICOMweb viewers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

from hounsfield.audit import AuditEvent
from hounsfield.department.catalogue import Entry, Level, Wanted
from hounsfield.errors import InputError
from hounsfield.server.accepting import Accepted, accepted
from hounsfield.server.access import Viewer
from hounsfield.usecases.node import retrieving
from hounsfield.usecases.node.opening import Node
from hounsfield.usecases.node.retrieving import Look, NotHere
from hounsfield.writing.rendered import Window

JSON: Final = "application/dicom+json"
_CHUNK: Final = 1 << 20
_MOST_ANSWERS: Final = 5000
_AGAIN_S: Final = 60.0
Uid = Annotated[str, Path(pattern=r"^[0-9.]{1,64}$")]
Numbers = Annotated[str, Path(pattern=r"^[0-9]{1,7}(,[0-9]{1,7})*$", max_length=4096)]


@dataclass
class Accesses:
    """Who looked at which study; within a minute the audit trail gets one line."""

    node: Node
    _last: dict[tuple[str, str], float] = field(default_factory=dict)

    def note(self, who: str, study: str) -> None:
        """Record that somebody fetched something of a study."""
        now = time.monotonic()
        self._last = {key: at for key, at in self._last.items() if now - at < _AGAIN_S}
        if (who, study) not in self._last:
            self._last[(who, study)] = now
            self.node.audit(AuditEvent("instances-accessed", who, {"study": study}))


def dicomweb_routes(node: Node) -> APIRouter:
    """The routes over an open node."""
    router, accesses = APIRouter(prefix="/dicom-web"), Accesses(node)
    _searching(router, node)
    _metadata(router, node, accesses)
    _files(router, node, accesses)
    _pictures(router, node, accesses)
    return router


def _base(request: Request) -> str:
    node: Node = request.app.state.node
    return f"{(node.config.public_url or str(request.base_url)).rstrip('/')}/dicom-web"


def _searching(router: APIRouter, node: Node) -> None:
    def found(request: Request, who: str, level: Level, **fixed: str) -> Response:
        wanted = _wanted(request, level, fixed)
        answers = [retrieving.answer(one, level, _base(request)) for one in retrieving.find(node, wanted)]
        node.audit(AuditEvent("query", who, {"level": level, "keys": sorted(wanted.keys), "answers": len(answers)}))
        return JSONResponse(answers, media_type=JSON)

    @router.get("/studies")
    def studies(token: Viewer, request: Request) -> Response:
        """QIDO-RS: studies that match; parameters are attribute keywords, ``limit`` and ``offset``."""
        return found(request, token.name, "study")

    @router.get("/series")
    def all_series(token: Viewer, request: Request) -> Response:
        """QIDO-RS: series that match."""
        return found(request, token.name, "series")

    @router.get("/instances")
    def all_instances(token: Viewer, request: Request) -> Response:
        """QIDO-RS: instances that match."""
        return found(request, token.name, "instance")

    @router.get("/studies/{study}/series")
    def series(token: Viewer, request: Request, study: Uid) -> Response:
        """QIDO-RS: series of a study."""
        return found(request, token.name, "series", StudyInstanceUID=study)

    @router.get("/studies/{study}/instances")
    def instances_of_study(token: Viewer, request: Request, study: Uid) -> Response:
        """QIDO-RS: instances of a study."""
        return found(request, token.name, "instance", StudyInstanceUID=study)

    @router.get("/studies/{study}/series/{series}/instances")
    def instances(token: Viewer, request: Request, study: Uid, series: Uid) -> Response:
        """QIDO-RS: instances of a series."""
        return found(request, token.name, "instance", StudyInstanceUID=study, SeriesInstanceUID=series)


def _wanted(request: Request, level: Level, fixed: dict[str, str]) -> Wanted:
    keys, numbers = dict(fixed), {"limit": 1000, "offset": 0}
    for name, text in request.query_params.multi_items():
        if name in numbers:
            if not text.isascii() or not text.isdigit() or len(text) > 9:
                raise HTTPException(400, f"{name} is no number")
            numbers[name] = int(text)
        elif name not in ("includefield", "fuzzymatching"):
            keyword = retrieving.known_key(name)
            if not keyword:
                raise HTTPException(400, "a parameter is no attribute that is matched on")
            if len(text) > 4096 or "\0" in text:
                raise HTTPException(400, "a value is too long, or not a text")
            keys.setdefault(keyword, text)
    return Wanted(level, keys, min(numbers["limit"], _MOST_ANSWERS), numbers["offset"])


def _entries(node: Node, study: str, series: str = "", instance: str = "") -> list[Entry]:
    try:
        return retrieving.entries(node, study, series, instance)
    except NotHere as error:
        raise HTTPException(404, error.fact) from error


def _metadata(router: APIRouter, node: Node, accesses: Accesses) -> None:
    def told(request: Request, who: str, study: str, series: str = "", instance: str = "") -> Response:
        found = _entries(node, study, series, instance)
        accesses.note(who, study)
        return JSONResponse(list(retrieving.metadata(node, found, _base(request))), media_type=JSON)

    @router.get("/studies/{study}/metadata")
    def of_study(token: Viewer, request: Request, study: Uid) -> Response:
        """WADO-RS: the headers of a study's instances."""
        return told(request, token.name, study)

    @router.get("/studies/{study}/series/{series}/metadata")
    def of_series(token: Viewer, request: Request, study: Uid, series: Uid) -> Response:
        """WADO-RS: the headers of a series' instances."""
        return told(request, token.name, study, series)

    @router.get("/studies/{study}/series/{series}/instances/{instance}/metadata")
    def of_instance(token: Viewer, request: Request, study: Uid, series: Uid, instance: Uid) -> Response:
        """WADO-RS: the header of an instance."""
        return told(request, token.name, study, series, instance)


def _files(router: APIRouter, node: Node, accesses: Accesses) -> None:
    def sent(request: Request, who: str, study: str, series: str = "", instance: str = "") -> Response:
        found = _entries(node, study, series, instance)
        takes = accepted(request)
        accesses.note(who, study)
        if instance and any(one.kind == "application/dicom" and not one.multipart for one in takes):
            return FileResponse(retrieving.path_of(node, found[0]), media_type="application/dicom")
        whole = [one for one in takes if one.kind in ("application/dicom", "*/*")]
        if not any(_satisfied(one, found) for one in whole):
            raise HTTPException(406, "instances are sent as they are stored: application/dicom; transfer-syntax=*")
        boundary = secrets.token_hex(16)
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        return StreamingResponse(_file_parts(node, found, boundary), media_type=kind)

    @router.get("/studies/{study}")
    def of_study(token: Viewer, request: Request, study: Uid) -> Response:
        """WADO-RS: every instance of a study, as stored."""
        return sent(request, token.name, study)

    @router.get("/studies/{study}/series/{series}")
    def of_series(token: Viewer, request: Request, study: Uid, series: Uid) -> Response:
        """WADO-RS: every instance of a series, as stored."""
        return sent(request, token.name, study, series)

    @router.get("/studies/{study}/series/{series}/instances/{instance}")
    def of_instance(token: Viewer, request: Request, study: Uid, series: Uid, instance: Uid) -> Response:
        """WADO-RS: an instance, as stored."""
        return sent(request, token.name, study, series, instance)

    @router.get("/studies/{study}/series/{series}/instances/{instance}/bulkdata/{tag}")
    def bulk(
        token: Viewer,
        study: Uid,
        series: Uid,
        instance: Uid,
        tag: Annotated[str, Path(pattern="^[0-9A-Fa-f]{8}$")],
    ) -> Response:
        """WADO-RS: the value of one large element."""
        accesses.note(token.name, study)
        (entry, *_) = _entries(node, study, series, instance)
        return _part([_told(lambda: retrieving.bulk(node, entry, int(tag, 16)))], "application/octet-stream")

    @router.get("/studies/{study}/series/{series}/instances/{instance}/frames/{numbers}")
    def frames(token: Viewer, request: Request, study: Uid, series: Uid, instance: Uid, numbers: Numbers) -> Response:
        """WADO-RS: frames, as stored or uncompressed."""
        accesses.note(token.name, study)
        (entry, *_) = _entries(node, study, series, instance)
        takes = [(one.kind, one.transfer_syntax) for one in accepted(request)]
        wanted = [int(number) for number in numbers.split(",")]
        found = _told(lambda: retrieving.frames(node, entry, wanted, takes))
        if found is None:
            raise HTTPException(406, f"the frames are stored in {entry.transfer_syntax_uid}; none of your types fits")
        return _part(found.contents, f"{found.media_type}; transfer-syntax={found.transfer_syntax_uid}")


def _satisfied(one: Accepted, found: list[Entry]) -> bool:
    if one.transfer_syntax in ("*", ""):
        return True
    return all(entry.transfer_syntax_uid == one.transfer_syntax for entry in found)


def _file_parts(node: Node, found: list[Entry], boundary: str) -> Iterator[bytes]:
    for entry in found:
        kind = f"application/dicom; transfer-syntax={entry.transfer_syntax_uid}"
        yield f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode()
        with retrieving.path_of(node, entry).open("rb") as stream:
            while block := stream.read(_CHUNK):
                yield block
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _part(contents: Any, kind: str) -> Response:
    """A multipart answer with these parts."""
    boundary = secrets.token_hex(16)
    head = f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode()
    body = b"".join(head + one + b"\r\n" for one in contents) + f"--{boundary}--\r\n".encode()
    base = kind.partition(";")[0]
    return Response(body, media_type=f'multipart/related; type="{base}"; boundary={boundary}')


def _told(work: Any) -> Any:
    """The outcome of some work, or the answer that says why there is none."""
    try:
        return work()
    except NotHere as error:
        raise HTTPException(404, error.fact) from error
    except InputError as error:
        raise HTTPException(406, error.fact) from error


def _pictures(router: APIRouter, node: Node, accesses: Accesses) -> None:
    def shown(request: Request, who: str, entry: Entry, number: int, fit: tuple[int, int] | None) -> Response:
        accesses.note(who, entry.study_uid)
        look = _look(request, fit)
        body = _told(lambda: retrieving.rendered(node, entry, number, look))
        return Response(body, media_type=f"image/{look.kind}")

    @router.get("/studies/{study}/series/{series}/instances/{instance}/rendered")
    def instance_rendered(token: Viewer, request: Request, study: Uid, series: Uid, instance: Uid) -> Response:
        """WADO-RS: an instance's first frame as a JPEG or PNG; ``window``, ``viewport`` and ``quality``."""
        return shown(request, token.name, _entries(node, study, series, instance)[0], 1, None)

    @router.get("/studies/{study}/series/{series}/instances/{instance}/frames/{number}/rendered")
    def frame_rendered(
        token: Viewer,
        request: Request,
        study: Uid,
        series: Uid,
        instance: Uid,
        number: Annotated[int, Path(ge=1, le=10_000_000)],
    ) -> Response:
        """WADO-RS: a frame as a JPEG or PNG."""
        return shown(request, token.name, _entries(node, study, series, instance)[0], number, None)

    @router.get("/studies/{study}/thumbnail")
    def study_thumbnail(token: Viewer, request: Request, study: Uid) -> Response:
        """WADO-RS: a small picture that stands for a study."""
        entry = _told(lambda: retrieving.middle(_entries(node, study)))
        return shown(request, token.name, entry, 1, (128, 128))

    @router.get("/studies/{study}/series/{series}/thumbnail")
    def series_thumbnail(token: Viewer, request: Request, study: Uid, series: Uid) -> Response:
        """WADO-RS: a small picture that stands for a series."""
        entry = _told(lambda: retrieving.middle(_entries(node, study, series)))
        return shown(request, token.name, entry, 1, (128, 128))

    @router.get("/studies/{study}/series/{series}/instances/{instance}/thumbnail")
    def thumbnail(token: Viewer, request: Request, study: Uid, series: Uid, instance: Uid) -> Response:
        """WADO-RS: a small picture of an instance."""
        return shown(request, token.name, _entries(node, study, series, instance)[0], 1, (128, 128))


def _look(request: Request, fit: tuple[int, int] | None) -> Look:
    """What the parameters of PS3.18 8.3.5 ask for."""
    kinds = [one.kind for one in accepted(request)]
    png = next((kind for kind in kinds if kind in ("image/png", "image/jpeg")), "image/jpeg") == "image/png"
    if kinds and not {"image/png", "image/jpeg", "*/*", "image/*"} & set(kinds):
        raise HTTPException(406, "pictures are image/jpeg or image/png")
    try:
        window, quality = _window(request), int(request.query_params.get("quality", "90"))
        if viewport := request.query_params.get("viewport", ""):
            width, height = (int(one) for one in viewport.split(","))
            fit = (min(max(width, 1), 8192), min(max(height, 1), 8192))
    except ValueError as error:
        raise HTTPException(400, "window, viewport or quality is not as PS3.18 8.3.5 says") from error
    return Look("png" if png else "jpeg", window, fit, min(max(quality, 1), 100))


def _window(request: Request) -> Window | None:
    text = request.query_params.get("window", "")
    if not text:
        return None
    centre, width, *function = text.split(",")
    name = function[0].strip().lower() if function else "linear"
    if name == "linear":
        return Window(float(centre), float(width), "linear")
    if name == "linear-exact":
        return Window(float(centre), float(width), "linear-exact")
    if name == "sigmoid":
        return Window(float(centre), float(width), "sigmoid")
    raise ValueError(name)
