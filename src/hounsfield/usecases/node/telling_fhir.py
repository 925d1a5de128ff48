"""FHIR from the node: a Bundle for each finished job whose route sends to a FHIR server, stored before it is sent."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

from sqlalchemy import Row, insert, select

from hounsfield.department import catalogue, deliveries
from hounsfield.department import jobs as job_rows
from hounsfield.department.tables import jobs, results
from hounsfield.usecases.node.cataloguing import catalogue_missing, text
from hounsfield.usecases.node.opening import Node, log
from hounsfield.usecases.node.routing import Order
from hounsfield.writing.fhir import FhirFacts, FhirSeries, bundle
from hounsfield.writing.files import whole_file


def tell_fhir(node: Node) -> int:
    """Make the Bundles that are missing; how many."""
    servers = {one.name for one in node.config.destinations if one.kind == "fhir"}
    if not servers:
        return 0
    there = select(results.c.id).where(results.c.job_id == jobs.c.id, results.c.kind == "fhir").exists()
    query = select(jobs).where(jobs.c.state == "done", jobs.c.shadow.is_(False), ~there).order_by(jobs.c.id).limit(20)
    with node.database.read() as connection:
        waiting = [
            row for row in connection.execute(query) if servers & set(Order.from_json(row.order_json).destinations)
        ]
    for row in waiting:
        _tell(node, row)
    return len(waiting)


def fhir_of_job(node: Node, row: Row[Any]) -> dict[str, Any]:
    """The Bundle of a finished job."""
    catalogue_missing(node)
    with node.database.read() as connection:
        entries = catalogue.entries(connection, row.study_uid)
        written = job_rows.results_of(connection, row.id)
    outcome = json.loads(row.outcome_json)
    first = entries[0].attributes if entries else {}
    facts = FhirFacts(
        study_uid=row.study_uid,
        patient_id=text(first, "00100020"),
        patient_system=node.config.patient_id_system,
        accession_number=text(first, "00080050"),
        started=_day(text(first, "00080020")),
        series=_series(entries),
        package=str(outcome["package"]),
        package_digest=str(outcome["package_digest"]),
        issued=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row.finished_at)),
        measured=tuple(measured for one in outcome["series"] for measured in one["measured"]),
        result_uids=tuple(one.sop_instance_uid for one in written if one.sop_instance_uid),
        job=f"{row.study_uid}/{row.version}/{row.route}",
    )
    return bundle(facts)


def _tell(node: Node, row: Row[Any]) -> None:
    """Store the Bundle as a result of its job, and let it wait for its servers: all or nothing."""
    content = json.dumps(fhir_of_job(node, row), indent=1).encode()
    folder = node.results / f"{row.id}-{row.fence}"
    folder.mkdir(exist_ok=True)
    path = folder / "fhir.json"
    with whole_file(path, overwrite=True) as temporary:
        temporary.write_bytes(content)
    names = node.takers(Order.from_json(row.order_json).destinations, "fhir")
    values = {
        "job_id": row.id,
        "kind": "fhir",
        "path": str(path.relative_to(node.results)),
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
    }
    same = (results.c.job_id == row.id, results.c.kind == "fhir")
    with node.database.write(alone=True) as connection:
        if connection.execute(select(results.c.id).where(*same)).first() is None:
            made = connection.execute(insert(results).values(**values).returning(results.c.id)).scalar_one()
            deliveries.plan(connection, made, names)
    log("fhir-made", job=row.id)


def _day(date: str) -> str:
    """A FHIR dateTime from DA; the clock of a scanner has no zone, so only the day is told."""
    return f"{date[:4]}-{date[4:6]}-{date[6:8]}" if len(date) == 8 and date.isdigit() else ""


def _series(entries: list[catalogue.Entry]) -> tuple[FhirSeries, ...]:
    groups: dict[str, list[catalogue.Entry]] = {}
    for one in entries:
        groups.setdefault(one.series_uid, []).append(one)
    found = []
    for uid, parts in groups.items():
        about = parts[0].attributes
        number = text(about, "00200011")
        found.append(
            FhirSeries(
                uid,
                text(about, "00080060"),
                int(number) if number.isdigit() else None,
                text(about, "0008103E"),
                tuple((one.sop_class_uid, one.sop_instance_uid) for one in parts),
            )
        )
    return tuple(found)
