"""UPS-RS as its messages are written in PS3.18 11; and a node whose model flags, tells FHIR, and reorders the list."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from fhir.resources.R4B.bundle import Bundle
from pydicom import dcmread
from sqlalchemy import select

from hounsfield.department import deliveries, jobs
from hounsfield.department.jobs import Finished, NewJob
from hounsfield.department.tables import deliveries as delivery_rows
from hounsfield.department.tables import studies
from hounsfield.usecases.node.clerk import Clerk
from hounsfield.usecases.node.delivering import deliver_due
from hounsfield.usecases.node.routing import Order
from hounsfield.usecases.node.telling_fhir import tell_fhir

from .serving import Serving, fill

MR = Path("mr-hippocampus-msd") / "dicom-hcrop-study1"
ROUTES = """
[[route]]
name = "reading"
model = "hippocampus-mr"
destinations = ["ehr"]
[route.match]
modality = ["US"]
[route.triage]
finding = "Pneumonia"
at_least = 0.5
head_start_min = 30
"""
OUTCOME = {
    "package": "tiny 1.0.0",
    "package_digest": "0" * 64,
    "series": [
        {
            "name": "s",
            "status": "done",
            "measured": [{"label": "Pneumonia", "probability": 0.8}, {"label": "Lesion", "volume_ml": 1.5}],
        }
    ],
}


class Ehr:
    """A FHIR server that keeps what is PUT, and first fails as it is told."""

    def __init__(self, failures: int) -> None:
        self.kept: dict[str, Any] = {}
        self.failures, self.asked = failures, 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked += 1
                if outer.failures:
                    outer.failures -= 1
                    self.send_error(503)
                    return
                assert self.headers["Content-Type"] == "application/fhir+json"
                for entry in sent["entry"]:
                    outer.kept[entry["request"]["url"]] = entry["resource"]
                said = {"resourceType": "Bundle", "type": "transaction-response"}
                said["entry"] = [{"response": {"status": "200 OK"}} for _ in sent["entry"]]  # type: ignore[assignment]
                body = json.dumps(said).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words: Any) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def ehr() -> Iterator[Ehr]:
    server = Ehr(failures=1)
    yield server
    server.close()


def element(vr: str, *values: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)}


def test_a_step_is_pushed_found_taken_changed_and_completed(tmp_path: Path) -> None:
    with Serving(tmp_path) as serving:
        url, headers = f"{serving.url}/workitems", serving.headers["operator"]
        content = {"00741200": element("CS", "LOW"), "00741204": element("LO", "Read"), "00100020": element("LO", "P1")}
        made = requests.post(f"{url}?2.25.7", json=[content], headers=headers, timeout=20)
        assert (made.status_code, made.headers["Location"]) == (201, f"{url}/2.25.7")
        assert requests.post(f"{url}?2.25.7", json=[content], headers=headers, timeout=20).status_code == 409
        (found,) = requests.get(f"{url}?ProcedureStepState=SCHEDULED", headers=headers, timeout=20).json()
        assert (found["00080018"]["Value"], found["00741200"]["Value"]) == (["2.25.7"], ["LOW"])
        take = {"00741000": element("CS", "IN PROGRESS"), "00081195": element("UI", "2.25.9")}
        assert requests.put(f"{url}/2.25.7/state/READER", json=[take], headers=headers, timeout=20).status_code == 200
        assert requests.put(f"{url}/2.25.7/state/OTHER", json=[take], headers=headers, timeout=20).status_code == 409
        change = [{"00404041": element("CS", "READY"), "00741200": element("CS", "HIGH")}]
        assert requests.post(f"{url}/2.25.7", json=change, headers=headers, timeout=20).status_code == 409
        known = f"{url}/2.25.7?transaction-uid=2.25.9"
        assert requests.post(known, json=change, headers=headers, timeout=20).status_code == 200
        (now,) = requests.get(f"{url}/2.25.7", headers=serving.headers["viewer"], timeout=20).json()
        assert (now["00741000"]["Value"], now["00741200"]["Value"]) == (["IN PROGRESS"], ["HIGH"])
        assert "00081195" not in now
        done = {**take, "00741000": element("CS", "COMPLETED")}
        assert requests.put(f"{url}/2.25.7/state", json=[done], headers=headers, timeout=20).status_code == 200
        assert requests.post(f"{url}/2.25.7/cancelrequest", headers=headers, timeout=20).status_code == 409
        for wrong in ("x", [], [1], [{"0": {}}], [{"00741000": {"vr": 1}}], [{"00741000": element("CS", "COMPLETED")}]):
            assert requests.post(url, json=wrong, headers=headers, timeout=20).status_code == 400
        assert requests.post(url, json=[content], headers=serving.headers["viewer"], timeout=20).status_code == 403
        assert requests.get(f"{url}/1.2.3", headers=headers, timeout=20).status_code == 404


@pytest.mark.shared_data
def test_a_flag_raises_the_study_and_fhir_is_told_once(shared_data: Path, tmp_path: Path, ehr: Ehr) -> None:
    server = f'[[destinations]]\nname = "ehr"\nkind = "fhir"\nurl = "http://127.0.0.1:{ehr.port}/fhir"\n'
    (tmp_path / "routes.toml").write_text(ROUTES)
    files = sorted((shared_data / MR).rglob("*.dcm"))
    first = dcmread(files[0], stop_before_pixels=True)
    with Serving(tmp_path, more=f'patient_id_system = "urn:oid:1.2.3"\nquiet_s = 0.01\n{server}') as serving:
        fill(serving.node, files)
        clerk, node = Clerk(serving.node), serving.node
        clerk.round()
        clerk.round()
        url = f"{serving.url}/workitems?StudyInstanceUID={first.StudyInstanceUID}"
        (before,) = requests.get(url, headers=serving.headers["viewer"], timeout=20).json()
        assert before["00741200"]["Value"] == ["MEDIUM"]
        assert before["00100020"]["Value"] == [str(first.PatientID)]
        _finish(serving, str(first.StudyInstanceUID))
        for _ in range(3):
            clerk.round()
        (after,) = requests.get(url, headers=serving.headers["viewer"], timeout=20).json()
        assert after["00741200"]["Value"] == ["HIGH"]
        table = node.config.destinations[0]
        there = node.destination(table)
        assert deliver_due(node, there).delivered == 0
        with node.database.write() as connection:
            connection.execute(delivery_rows.update().values(due_at=0.0))
        assert deliver_due(node, there).delivered == 1
        assert tell_fhir(node) == 0
        with node.database.read() as connection:
            assert [row.state for row in deliveries.of_job(connection, 1)] == ["delivered"]
        (stored,) = node.results.rglob("fhir.json")
        _valid(json.loads(stored.read_text()), ehr.kept, first)


def _finish(serving: Serving, study: str) -> None:
    """A job that is done, with an outcome as the worker writes it."""
    order = Order("hippocampus-mr", "fp32", "", False, False, False, ("ehr",))
    with serving.node.database.write() as connection:
        version = connection.execute(select(studies.c.version).where(studies.c.study_uid == study)).scalar_one()
        jobs.make(connection, [NewJob(study, version, "reading", order.to_json(), 1.0)])
    job = jobs.claim(serving.node.database, "w")
    assert job is not None
    assert jobs.finish(serving.node.database, job, Finished("done", "", json.dumps(OUTCOME)))


def _valid(bundle: dict[str, Any], kept: dict[str, Any], first: Any) -> None:
    """By the schema of another project, and by what it must say."""
    Bundle.model_validate(bundle)
    by_kind: dict[str, list[Any]] = {}
    for entry in bundle["entry"]:
        by_kind.setdefault(entry["resource"]["resourceType"], []).append(entry["resource"])
        assert kept[entry["request"]["url"]] == entry["resource"]
    (study,), (report,) = by_kind["ImagingStudy"], by_kind["DiagnosticReport"]
    assert study["identifier"][0]["value"] == f"urn:oid:{first.StudyInstanceUID}"
    assert study["numberOfInstances"] == 32
    assert report["status"] == "preliminary"
    assert report["subject"]["identifier"] == {"value": str(first.PatientID), "system": "urn:oid:1.2.3"}
    values = {one["code"]["text"]: one["valueQuantity"]["value"] for one in by_kind["Observation"]}
    assert values == {"Pneumonia: probability": 0.8, "Lesion: volume": 1.5}
    assert {one["status"] for one in by_kind["Observation"]} == {"preliminary"}
    assert len(report["result"]) == 2
