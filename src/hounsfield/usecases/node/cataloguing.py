"""Cataloguing: reads the header of what was kept, so that queries find it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from hounsfield.department import catalogue
from hounsfield.department.catalogue import KEYS, Missing
from hounsfield.reading.elements import Malformed
from hounsfield.reading.limits import Limits
from hounsfield.reading.whole_header import as_json, read_whole_header
from hounsfield.usecases.node.opening import Node

HEADER_LIMITS: Final = Limits(header_bytes=64 * 2**20, elements=1_000_000)
_BATCH: Final = 200

#: Attributes that answers show, by level (PS3.18 tables 10.6.3-3 to 10.6.3-5).
SHOWN: Final = {
    "study": [
        "00080020",
        "00080030",
        "00080050",
        "00080090",
        "00081030",
        "00100010",
        "00100020",
        "00100030",
        "00100040",
        "00101010",
        "0020000D",
        "00200010",
    ],
    "series": [
        "00080021",
        "00080031",
        "00080060",
        "00080070",
        "0008103E",
        "00180015",
        "00181030",
        "0020000E",
        "00200011",
        "00200060",
    ],
    "instance": [
        "00080008",
        "00080016",
        "00080018",
        "00200012",
        "00200013",
        "00200032",
        "00200037",
        "00200052",
        "00280002",
        "00280004",
        "00280008",
        "00280010",
        "00280011",
        "00280030",
        "00280100",
        "00280101",
        "00280103",
    ],
}
_KEPT: Final = {tag for tags in SHOWN.values() for tag in tags} | {"00080005"}
TAGS: Final = {
    "PatientName": "00100010",
    "PatientID": "00100020",
    "PatientBirthDate": "00100030",
    "PatientSex": "00100040",
    "StudyInstanceUID": "0020000D",
    "StudyDate": "00080020",
    "StudyTime": "00080030",
    "AccessionNumber": "00080050",
    "StudyID": "00200010",
    "StudyDescription": "00081030",
    "ReferringPhysicianName": "00080090",
    "Modality": "00080060",
    "SeriesInstanceUID": "0020000E",
    "SeriesNumber": "00200011",
    "SeriesDescription": "0008103E",
    "SeriesDate": "00080021",
    "BodyPartExamined": "00180015",
    "SOPInstanceUID": "00080018",
    "SOPClassUID": "00080016",
    "InstanceNumber": "00200013",
}


def catalogue_missing(node: Node, *, rounds: int = 1_000_000) -> int:
    """Make the rows that are missing, a batch at a time; how many.

    Parameters
    ----------
    rounds
        Most batches: the clerk does one and looks at other things again.
    """
    made = 0
    for _ in range(rounds):
        with node.database.read() as connection:
            waiting = catalogue.missing(connection, _BATCH)
        if not waiting:
            break
        rows = [_row(node, one) for one in waiting]
        with node.database.write(alone=True) as connection:
            catalogue.add(connection, rows)
        made += len(rows)
    with node.database.read() as connection:
        old = catalogue.superseded(connection)
    if old:
        with node.database.write(alone=True) as connection:
            catalogue.forget(connection, old)
    return made


def _row(node: Node, one: Missing) -> dict[str, Any]:
    """The row of one instance; one whose header cannot be told has its UIDs alone."""
    known = {
        "place": one.place,
        "result_id": one.result_id,
        "transfer_syntax_uid": one.transfer_syntax_uid,
        "sop_class_uid": one.sop_class_uid,
        "sop_instance_uid": one.sop_instance_uid,
    }
    try:
        header = as_json(read_whole_header(node.root / one.place, HEADER_LIMITS))
    except (Malformed, OSError, RecursionError):
        plain = {"study_uid": one.study_uid, "series_uid": one.series_uid, "modality": one.modality}
        return {**known, **plain, "whole": False, "attributes_json": "{}"}
    told = {
        column: text(header, TAGS[keyword])
        for keys in KEYS.values()
        for keyword, column in keys.items()
        if keyword in TAGS
    }
    uids = {name: getattr(one, name) or told[name] for name in ("study_uid", "series_uid")}  # of results: their own
    shown = {tag: element for tag, element in header.items() if tag in _KEPT}
    return {**told, **known, **uids, "whole": True, "attributes_json": json.dumps(shown, separators=(",", ":"))}


def text(header: Mapping[str, Any], tag: str) -> str:
    """The first value of an element as a text; empty where there is none."""
    values = header.get(tag, {}).get("Value") or [None]
    if isinstance(values[0], dict):
        return str(values[0].get("Alphabetic", ""))
    return "" if values[0] is None else str(values[0])
