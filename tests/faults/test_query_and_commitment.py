"""C-FIND and storage commitment as provider, C-FIND, C-GET and C-MOVE as user: with dcmtk, pynetdicom and Orthanc."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, FileDataset, dcmread
from pydicom.uid import MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
)
from sqlalchemy import select

from hounsfield.department.commitments import commitments
from hounsfield.department.database import open_database
from hounsfield.department.tables import instances
from hounsfield.errors import NotReadable, SettingsError
from hounsfield.usecases.node.looking import opened
from hounsfield.usecases.node.opening import open_node
from hounsfield.usecases.node.pulling import PullRequest, pull

from .instances import instance
from .nodes import free_port, make_node
from .orthanc import Orthanc, apart
from .scu import Scu
from .sender import echoes, wait_until

SCAN = Path("mr-hippocampus-msd") / "dicom-hcrop-study1"


@contextmanager
def running(root: Path, *parts: str) -> Iterator[None]:
    """Parts of a node as processes."""
    command = [sys.executable, "-m", "hounsfield", "serve", "--data", str(root), "--part"]
    log = root.with_suffix(".log").open("ab")
    processes = [subprocess.Popen([*command, part], stderr=log) for part in parts]
    try:
        yield
    finally:
        for one in processes:
            one.terminate()
        for one in processes:
            assert one.wait(30) == 0
        log.close()


def asked(level: str, **keys: str | None) -> Dataset:
    found = Dataset()
    found.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(found, keyword, value)
    return found


def query(port: int, identifier: Dataset, model: str = StudyRootQueryRetrieveInformationModelFind) -> list[Dataset]:
    entity = AE("ASKING")
    entity.add_requested_context(model)
    association = entity.associate("127.0.0.1", port, ae_title="HOUNSFIELD")
    assert association.is_established
    answers = list(association.send_c_find(identifier, model))
    association.release()
    assert answers[-1][0].Status == 0
    return [one for status, one in answers if status.Status == 0xFF00 and one is not None]


def store(port: int, *found: FileDataset) -> None:
    with Scu(port) as scu:
        assert [scu.store(one) for one in found] == [0] * len(found)


def test_c_find_answers_at_every_level_and_only_what_was_asked(tmp_path: Path) -> None:
    port = make_node(tmp_path / "node", more="query = true\n")
    with running(tmp_path / "node", "receive"):
        wait_until(lambda: echoes(port))
        store(port, *(instance(study, number) for study in (1, 2) for number in range(3)))
        studies = query(port, asked("STUDY", PatientID="CANARY-*", StudyInstanceUID="", ModalitiesInStudy=""))
        assert [(one.PatientID, one.ModalitiesInStudy) for one in studies] == [("CANARY-1", "CT"), ("CANARY-2", "CT")]
        assert "PatientName" not in studies[0]
        assert "NumberOfStudyRelatedInstances" not in studies[0]
        images = query(
            port, asked("IMAGE", StudyInstanceUID=studies[0].StudyInstanceUID, InstanceNumber=None, Rows=None)
        )
        assert sorted(int(one.InstanceNumber) for one in images) == [1, 2, 3]
        assert {one.Rows for one in images} == {32}
        (series,) = query(port, asked("SERIES", StudyInstanceUID=studies[1].StudyInstanceUID, SeriesInstanceUID=""))
        assert series.SeriesInstanceUID == instance(2, 0).SeriesInstanceUID
        model = PatientRootQueryRetrieveInformationModelFind
        people = query(port, asked("PATIENT", PatientName="canary^patient?", PatientID=""), model)
        assert sorted(one.PatientID for one in people) == ["CANARY-1", "CANARY-2"]
        assert query(port, asked("STUDY", PatientID="CANARY-9")) == []
        command = ["findscu", "-S", "-aec", "HOUNSFIELD", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=CANARY-1"]
        done = subprocess.run(
            [*command, "-k", "StudyInstanceUID", "127.0.0.1", str(port)], capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0
        assert str(instance(1, 0).StudyInstanceUID) in done.stdout + done.stderr
    said = (tmp_path / "node.log").read_text()
    assert "CANARY" not in said


def test_without_being_told_to_the_node_answers_no_query(tmp_path: Path) -> None:
    port = make_node(tmp_path / "node")
    with running(tmp_path / "node", "receive"):
        wait_until(lambda: echoes(port))
        entity = AE("ASKING")
        entity.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
        entity.add_requested_context(StorageCommitmentPushModel)
        association = entity.associate("127.0.0.1", port, ae_title="HOUNSFIELD")
        assert association.accepted_contexts == []
        association.abort()


def test_commitment_is_reported_until_the_peer_has_heard_and_tells_the_truth(tmp_path: Path) -> None:
    heard: list[tuple[int, Dataset]] = []
    refuse = [True]

    def report(event: Any) -> tuple[int, None]:
        if refuse:
            refuse.pop()
            return 0x0110, None
        heard.append((event.event_type, event.event_information))
        return 0x0000, None

    back = free_port()
    peer = f'[[peers]]\nae_title = "ASKING"\nhost = "127.0.0.1"\nport = {back}\n'
    peer += '[[peers]]\nae_title = "SENDER"\nhost = "127.0.0.1"\n'
    port = make_node(tmp_path / "node", more=peer)
    entity = AE("ASKING")
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    server = entity.start_server(("127.0.0.1", back), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, report)])
    try:
        with running(tmp_path / "node", "receive", "clerk"):
            wait_until(lambda: echoes(port))
            store(port, instance(1, 0), instance(1, 1))
            assert commit(port, "2.25.1", [instance(1, 0), instance(1, 1)]) == 0
            wait_until(lambda: bool(heard))
            event_type, told = heard.pop()
            assert (event_type, told.TransactionUID, len(told.ReferencedSOPSequence)) == (1, "2.25.1", 2)
            assert "FailedSOPSequence" not in told
            wrong = instance(1, 1)
            wrong.SOPClassUID = MRImageStorage
            assert commit(port, "2.25.2", [instance(1, 0), instance(9, 9), wrong]) == 0
            wait_until(lambda: bool(heard))
            event_type, told = heard.pop()
            assert (event_type, len(told.ReferencedSOPSequence)) == (2, 1)
            assert [item.FailureReason for item in told.FailedSOPSequence] == [0x0112, 0x0119]
            assert commit(port, "2.25.3", []) == 0x0115
    finally:
        server.shutdown()
    database = open_database(tmp_path / "node" / "state.sqlite")
    with database.read() as connection:
        rows = {row.transaction_uid: row for row in connection.execute(select(commitments))}
    database.close()
    assert {row.state for row in rows.values()} == {"reported"}
    assert rows["2.25.1"].attempts == 2


def commit(port: int, transaction: str, found: list[FileDataset]) -> int:
    """N-ACTION; the status."""
    entity = AE("ASKING")
    entity.add_requested_context(StorageCommitmentPushModel)
    association = entity.associate("127.0.0.1", port, ae_title="HOUNSFIELD")
    wanted = Dataset()
    wanted.TransactionUID, wanted.ReferencedSOPSequence = transaction, []
    for one in found:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
        wanted.ReferencedSOPSequence.append(item)
    status, _ = association.send_n_action(wanted, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    association.release()
    return int(status.Status)


@pytest.mark.shared_data
def test_orthanc_is_told_what_is_committed_and_studies_are_pulled_from_it(shared_data: Path, tmp_path: Path) -> None:
    apart(lambda: _with_orthanc(sorted((shared_data / SCAN).rglob("*.dcm")), tmp_path))


def _with_orthanc(files: list[Path], folder: Path) -> None:
    port, pacs = free_port(), free_port()
    more = {"DicomModalities": {"node": ["HOUNSFIELD", "127.0.0.1", port]}, "SynchronousCMove": True}
    with Orthanc(folder / "pacs", port=pacs, more=more) as orthanc:
        send = ["storescu", "-aec", "ORTHANC", "-R", "127.0.0.1", str(pacs), *map(str, files)]
        subprocess.run(send, check=True, timeout=60, env={**os.environ, "TCP_NODELAY": "1"})
        known = f'[[peers]]\nae_title = "ORTHANC"\nhost = "127.0.0.1"\nport = {pacs}\n'
        known += '[[peers]]\nae_title = "SENDER"\nhost = "127.0.0.1"\n'
        known += f'[[destinations]]\nname = "pacs"\nae_title = "ORTHANC"\nhost = "127.0.0.1"\nport = {pacs}\n'
        first = dcmread(files[0], stop_before_pixels=True)
        keys = {"PatientID": str(first.PatientID)}
        for number, by in enumerate(("get", "move")):
            root = folder / by
            make_node(root, port=port, more=known)
            with running(root, "receive", "clerk"):
                wait_until(lambda: echoes(port))
                _pull(root, first, keys, by)
                assert _pixels(root) == {str(one.SOPInstanceUID): one.PixelData for one in map(dcmread, files)}
                if number:
                    _commitment(orthanc, first)


def _pull(root: Path, first: Dataset, keys: dict[str, str], by: Any) -> None:
    with opened(root) as node:
        (seen,) = pull(node, PullRequest("pacs", keys, only_look=True), "tester")
        assert (seen.study_uid, seen.told["PatientID"]) == (first.StudyInstanceUID, first.PatientID)
        (came,) = pull(node, PullRequest("pacs", keys, by), "tester")
        assert came.is_whole
        with pytest.raises(SettingsError, match="every study"):
            pull(node, PullRequest("pacs", {"PatientID": "*"}), "tester")
        with pytest.raises(SettingsError, match="no PACS"):
            pull(node, PullRequest("other", keys), "tester")


def _commitment(orthanc: Orthanc, first: Dataset) -> None:
    """Orthanc asks, and has the report that all is there; and that what is not there is not."""
    for uid, wanted in ((str(first.SOPInstanceUID), "Success"), ("2.25.4", "Failure")):
        content = {"DicomInstances": [{"SOPClassUID": str(first.SOPClassUID), "SOPInstanceUID": uid}]}
        asked_for = orthanc.post("/modalities/node/storage-commitment", content)
        path = asked_for["Path"]
        wait_until(lambda path=path: json.loads(orthanc.get(path))["Status"] != "Pending")  # type: ignore[misc]
        assert json.loads(orthanc.get(path))["Status"] == wanted


def _pixels(root: Path) -> dict[str, bytes]:
    with opened(root) as node, node.database.read() as connection:
        rows = list(connection.execute(select(instances)))
        return {row.sop_instance_uid: dcmread(node.files.path(row.sha256)).PixelData for row in rows}


def test_a_source_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    pacs = f'[[destinations]]\nname = "pacs"\nae_title = "X"\nhost = "127.0.0.1"\nport = {free_port()}\ntimeout_s = 1\n'
    make_node(tmp_path / "node", more=pacs)
    node = open_node(tmp_path / "node")
    with pytest.raises(NotReadable, match="no connection"):
        pull(node, PullRequest("pacs", {"PatientID": "1"}), "tester")
    node.close()
