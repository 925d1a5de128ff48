"""C-FIND as provider: the same catalogue and the same matching as QIDO-RS (PS3.4 C.4.1)."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from hounsfield.audit import AuditEvent
from hounsfield.department.catalogue import KEYS, LEVELS, Level, Match, Wanted
from hounsfield.network import dimse
from hounsfield.network.encoding import encode_item
from hounsfield.network.received import Answer
from hounsfield.reading.elements import Malformed
from hounsfield.reading.whole_header import JsonItem
from hounsfield.usecases.node.cataloguing import TAGS, text
from hounsfield.usecases.node.committing import read_message
from hounsfield.usecases.node.opening import Node
from hounsfield.usecases.node.retrieving import answer, find

_LEVELS: Final[dict[str, Level]] = {"PATIENT": "study", "STUDY": "study", "SERIES": "series", "IMAGE": "instance"}
_MOST: Final = 5000
_LEVEL, _CHARSET, _TITLE = "00080052", "00080005", "00080054"
_NOT_THE_MODEL: Final = Answer(0xA900, "the identifier does not follow the model")


def answer_query(node: Node, calling_ae: str, data: bytes, transfer_syntax_uid: str) -> tuple[Answer, list[bytes]]:
    """The last status, and the encoded data sets that match."""
    try:
        asked = read_message(data, transfer_syntax_uid)
    except (Malformed, RecursionError):
        return Answer(dimse.CANNOT_UNDERSTAND, "the identifier is damaged"), []
    name = text(asked, _LEVEL)
    if name not in _LEVELS:
        return _NOT_THE_MODEL, []
    level = _LEVELS[name]
    keys = {keyword: _asked(asked, TAGS.get(keyword, "00080061")) for one in LEVELS for keyword in KEYS[one]}
    keys = {keyword: value for keyword, value in keys.items() if value}
    try:
        found = find(node, Wanted(level, keys, _MOST + 1))
    except SQLAlchemyError:
        return Answer(dimse.OUT_OF_RESOURCES, "the database does not answer"), []
    what = {"level": name, "keys": sorted(keys), "answers": len(found)}
    node.audit(AuditEvent("query", calling_ae, what))
    if len(found) > _MOST:
        return Answer(dimse.OUT_OF_RESOURCES, f"more than {_MOST} match, narrow the query"), []
    if name == "PATIENT":
        found = list({text(one.entry.attributes, TAGS["PatientID"]): one for one in reversed(found)}.values())[::-1]
    told = [_told(node, one, level, asked) for one in found]
    return Answer(dimse.SUCCESS), [encode_item(one, transfer_syntax_uid) for one in told]


def _asked(asked: JsonItem, tag: str) -> str:
    """All values of a key as one text, with backslashes between."""
    values = [one for one in asked.get(tag, {}).get("Value", []) if one is not None]
    return "\\".join(str(one.get("Alphabetic", "")) if isinstance(one, dict) else str(one) for one in values)


def _told(node: Node, match: Match, level: Level, asked: JsonItem) -> dict[str, Any]:
    """The attributes that were asked for; empty where nothing is known."""
    known = answer(match, level, "")
    known.pop("00081190")
    found: dict[str, Any] = {tag: known.get(tag, {"vr": element["vr"]}) for tag, element in asked.items()}
    found = {tag: element for tag, element in found.items() if element["vr"] != "SQ" and tag != "00080061"} | {
        tag: known[tag] for tag in ("00080061",) if tag in asked and tag in known
    }
    found[_CHARSET] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    found[_LEVEL] = asked[_LEVEL]
    found[_TITLE] = {"vr": "AE", "Value": [node.config.ae_title]}
    return found
