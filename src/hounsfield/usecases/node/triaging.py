"""Triage in the node: a reading step for each complete study, raised when a model flags it."""

from __future__ import annotations

import json
import time
from typing import Any, Final

from sqlalchemy import select

from hounsfield.audit import AuditEvent
from hounsfield.department import catalogue, workitems
from hounsfield.department.routes import Route
from hounsfield.department.tables import studies
from hounsfield.department.triage import Verdict, judge
from hounsfield.findings.measuring import derived_uid
from hounsfield.usecases.node.cataloguing import catalogue_missing
from hounsfield.usecases.node.opening import Node, log

_PATIENT: Final = ("00100010", "00100020", "00100030", "00100040")
_BATCH: Final = 50


def triage(node: Node) -> int:
    """Schedule a step for each study that triage is about, and try the rules on new results; how many flags."""
    rules = {route.name: route for route in node.all_routes() if route.triage is not None}
    with node.database.read() as connection:
        waiting = workitems.unjudged(connection)
    flagged = 0
    if rules:
        _schedule(node)
    for job_id, study_uid, name, outcome in waiting:
        verdict = _judged(rules.get(name), outcome)
        route = rules.get(name)
        finding = "" if route is None or route.triage is None else route.triage.finding
        with node.database.write(alone=True) as connection:
            workitems.record(connection, job_id, study_uid, finding, verdict)
        flagged += verdict.flagged
        if verdict.flagged:
            log("study-flagged", job=job_id, head_start_s=verdict.head_start_s)
            what = {"activity": "triage", "study": study_uid, "job": job_id, "finding": finding}
            node.audit(AuditEvent("application-activity", "triage", what))
    return flagged


def _judged(route: Route | None, outcome_json: str) -> Verdict:
    if route is None or route.triage is None or not outcome_json:
        return Verdict(None, False)
    rows: list[dict[str, Any]] = []
    for one in json.loads(outcome_json)["series"]:
        rows += one["measured"]
    return judge(route.triage, rows)


def _schedule(node: Node) -> None:
    """A step for each complete study that has none yet."""
    there = select(workitems.workitems.c.uid).where(workitems.workitems.c.study_uid == studies.c.study_uid).exists()
    query = select(studies.c.study_uid, studies.c.first_at).where(studies.c.state == "complete", ~there).limit(_BATCH)
    with node.database.read() as connection:
        fresh = list(connection.execute(query))
    if fresh:
        catalogue_missing(node)
    for study_uid, first_at in fresh:
        with node.database.write(alone=True) as connection:
            content = reading_step(catalogue.entries(connection, study_uid))
            workitems.add(connection, derived_uid("reading", study_uid), study_uid, "MEDIUM", content, first_at)


def reading_step(entries: list[catalogue.Entry]) -> dict[str, Any]:
    """The content of a step 'read this study' (PS3.4 table CC.2.5-3), from the study's own header."""
    now = time.strftime("%Y%m%d%H%M%S", time.gmtime())
    about: dict[str, Any] = dict(entries[0].attributes) if entries else {}
    found: dict[str, Any] = {tag: about[tag] for tag in (*_PATIENT, "00080050") if tag in about}
    series: dict[str, list[catalogue.Entry]] = {}
    for one in entries:
        series.setdefault(one.series_uid, []).append(one)
    inputs = [
        {
            "0020000D": _ui(parts[0].study_uid),
            "0020000E": _ui(uid),
            "00081199": {
                "vr": "SQ",
                "Value": [{"00081150": _ui(one.sop_class_uid), "00081155": _ui(one.sop_instance_uid)} for one in parts],
            },
        }
        for uid, parts in series.items()
    ]
    found |= {
        "00404005": {"vr": "DT", "Value": [now]},
        "00404041": {"vr": "CS", "Value": ["READY"]},
        "00404021": {"vr": "SQ", "Value": inputs},
        "00741204": {"vr": "LO", "Value": ["Read"]},
        "00741202": {"vr": "LO", "Value": ["Reading"]},
    }
    return found


def _ui(uid: str) -> dict[str, Any]:
    return {"vr": "UI", "Value": [uid]}
