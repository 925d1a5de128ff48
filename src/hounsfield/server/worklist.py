"""UPS-RS under ``/dicom-web/workitems``: a reading worklist to push to and to pull from (PS3.18 section 11)."""

from __future__ import annotations

import json
import secrets
import time
from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import JSONResponse, Response

from hounsfield.audit import AuditEvent
from hounsfield.department import workitems
from hounsfield.department.workitems import Refused, Workitem
from hounsfield.network.uids import is_uid
from hounsfield.server.access import Operator, Viewer
from hounsfield.server.bodies import DATA_SET
from hounsfield.usecases.node.opening import Node

JSON: Final = "application/dicom+json"
_MOST_BYTES: Final = 1 << 20
_OWN: Final = frozenset(("00080016", "00080018", "00741000", "00081195"))
_PUSH: Final = "1.2.840.10008.5.1.4.34.6.1"
_KEYS: Final = {
    "00741000": "state",
    "ProcedureStepState": "state",
    "00741200": "priority",
    "ScheduledProcedureStepPriority": "priority",
    "StudyInstanceUID": "study_uid",
    "0020000D": "study_uid",
}
Uid = Annotated[str, Path(pattern=r"^[0-9.]{1,64}$")]
Ae = Annotated[str, Path(pattern=r"^[A-Za-z0-9_. +-]{1,16}$")]


def worklist_routes(node: Node) -> APIRouter:
    """The routes over an open node."""
    router = APIRouter(prefix="/dicom-web/workitems")
    _looking(router, node)
    _creating(router, node)
    _changing(router, node)
    return router


def _looking(router: APIRouter, node: Node) -> None:
    @router.get("")
    def search(token: Viewer, request: Request) -> Response:
        """UPS-RS: steps in reading order; by ProcedureStepState, priority or study, ``limit`` and ``offset``."""
        keys, numbers = {}, {"limit": 100, "offset": 0}
        for name, text in request.query_params.multi_items():
            if name in numbers and text.isascii() and text.isdigit() and len(text) < 9:
                numbers[name] = int(text)
            elif name in _KEYS and len(text) <= 1024 and "\0" not in text:
                keys[_KEYS[name]] = text.replace(",", "\\")
            elif name not in ("includefield", "fuzzymatching"):
                raise HTTPException(400, "a parameter is no attribute that is matched on, or no number")
        with node.database.read() as connection:
            found = workitems.listed(connection, keys, min(numbers["limit"], 1000), numbers["offset"])
        node.audit(AuditEvent("query", token.name, {"level": "workitem", "answers": len(found)}))
        return JSONResponse([told(one) for one in found], media_type=JSON)

    @router.get("/{uid}")
    def retrieve(token: Viewer, uid: Uid) -> Response:
        """UPS-RS: one step."""
        try:
            with node.database.read() as connection:
                return JSONResponse([told(workitems.get(connection, uid))], media_type=JSON)
        except Refused as refused:
            raise HTTPException(refused.status, refused.fact) from refused


def told(item: Workitem) -> dict[str, Any]:
    """A step as data set; its transaction UID is never told (PS3.4 CC.2.7)."""
    own: dict[str, Any] = {
        "00080016": {"vr": "UI", "Value": [_PUSH]},
        "00080018": {"vr": "UI", "Value": [item.uid]},
        "00741000": {"vr": "CS", "Value": [item.state]},
        "00741200": {"vr": "CS", "Value": [item.priority]},
    }
    return dict(sorted({**item.content, **own}.items()))


def _creating(router: APIRouter, node: Node) -> None:
    @router.post("", status_code=201, openapi_extra=DATA_SET)
    async def create(token: Operator, request: Request) -> Response:
        """UPS-RS: schedule a step; its UID is the name of the only parameter, else a new one."""
        content = await _body(request)
        named = next(iter(request.query_params), "") or _first(content, "00080018")
        uid = named or f"2.25.{secrets.randbits(126)}"
        state, priority = _first(content, "00741000"), _first(content, "00741200") or "MEDIUM"
        if not is_uid(uid) or state not in ("", "SCHEDULED") or "00081195" in content:
            raise HTTPException(400, "the UID is none, or the step is not SCHEDULED, or brings a transaction UID")
        if priority not in ("HIGH", "MEDIUM", "LOW"):
            raise HTTPException(400, "the priority is HIGH, MEDIUM or LOW")
        kept = {tag: element for tag, element in content.items() if tag not in _OWN}
        study = _study_of(content)
        with node.database.write(alone=True) as connection:
            made = workitems.add(connection, uid, study, priority, kept, time.time())  # type: ignore[arg-type]
        if not made:
            raise HTTPException(409, "there is a workitem of this UID")
        node.audit(AuditEvent("procedure-record", token.name, {"activity": "workitem made", "workitem": uid}))
        where = f"{(node.config.public_url or str(request.base_url)).rstrip('/')}/dicom-web/workitems/{uid}"
        return Response(status_code=201, headers={"Location": where})


def _changing(router: APIRouter, node: Node) -> None:
    def changed(who: str, uid: str, activity: str, work: Any) -> Response:
        try:
            with node.database.write(alone=True) as connection:
                work(connection)
        except Refused as refused:
            raise HTTPException(refused.status, refused.fact) from refused
        node.audit(AuditEvent("procedure-record", who, {"activity": activity, "workitem": uid}))
        return Response(status_code=200)

    @router.post("/{uid}", openapi_extra=DATA_SET)
    async def update(token: Operator, request: Request, uid: Uid) -> Response:
        """UPS-RS: change attributes; ``transaction-uid`` for a step in progress."""
        content = await _body(request)
        if _OWN & content.keys():
            raise HTTPException(400, "the state, the UIDs and the class change by other requests")
        transaction = request.query_params.get("transaction-uid", "")
        return changed(
            token.name,
            uid,
            "workitem changed",
            lambda connection: workitems.change_content(connection, uid, content, transaction),
        )

    @router.put("/{uid}/state", openapi_extra=DATA_SET)
    @router.put("/{uid}/state/{ae}", openapi_extra=DATA_SET)
    async def state(token: Operator, request: Request, uid: Uid, ae: str = "") -> Response:
        """UPS-RS: take, complete or give up a step."""
        content = await _body(request)
        wanted, transaction = _first(content, "00741000"), _first(content, "00081195")
        return changed(
            token.name,
            uid,
            f"workitem {wanted.lower()[:16]}",
            lambda connection: workitems.change_state(connection, uid, wanted, transaction, ae[:16]),
        )

    @router.post("/{uid}/cancelrequest", status_code=202)
    @router.post("/{uid}/cancelrequest/{ae}", status_code=202)
    async def cancel(token: Operator, uid: Uid, ae: str = "") -> Response:
        """UPS-RS: cancel a step that nobody has taken."""
        done = changed(token.name, uid, "workitem canceled", lambda connection: workitems.cancel(connection, uid))
        done.status_code = 202
        return done


async def _body(request: Request) -> dict[str, Any]:
    """The data set of a body in the DICOM JSON Model: one, or a list of one."""
    raw = b""
    async for block in request.stream():
        raw += block
        if len(raw) > _MOST_BYTES:
            raise HTTPException(413, "the workitem is too large")
    try:
        content = json.loads(raw, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the body is not JSON") from error
    content = content[0] if isinstance(content, list) and len(content) == 1 else content
    if not isinstance(content, dict) or not all(_is_element(tag, one) for tag, one in content.items()):
        raise HTTPException(400, "the body is no data set of the DICOM JSON Model")
    return content


def _no_number(text: str) -> float:
    raise ValueError(text)


def _is_element(tag: str, element: Any) -> bool:
    hexadecimal = len(tag) == 8 and all(c in "0123456789ABCDEF" for c in tag)
    if not hexadecimal or not isinstance(element, dict) or not isinstance(element.get("vr"), str):
        return False
    return isinstance(element.get("Value", []), list)


def _first(content: dict[str, Any], tag: str) -> str:
    values = content.get(tag, {}).get("Value") or [""]
    return values[0] if isinstance(values[0], str) else ""


def _study_of(content: dict[str, Any]) -> str:
    """The study of the first input, if it says one."""
    values = content.get("00404021", {}).get("Value") or [{}]
    return _first(values[0], "0020000D") if isinstance(values[0], dict) else ""
