"""Orthanc as DICOMweb client of the node: it searches, fetches a study, and has it as it was sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from server.serving import Serving, fill, free_port

from .orthanc import Orthanc, apart

SCAN = Path("mr-hippocampus-msd") / "dicom-hcrop-study1"
SAME = ("00080020", "00100010", "00100020", "0020000D", "00080061", "00201206", "00201208", "00100040")


@pytest.mark.shared_data
def test_orthanc_searches_and_fetches_and_both_answer_alike(shared_data: Path, tmp_path: Path) -> None:
    apart(lambda: _compare(sorted((shared_data / SCAN).rglob("*.dcm")), tmp_path))


def _compare(files: list[Path], folder: Path) -> None:
    (folder / "node").mkdir()
    with Serving(folder / "node", port=free_port()) as serving:
        assert fill(serving.node, files) == len(files)
        server = {"Url": serving.url + "/", "HttpHeaders": serving.headers["viewer"]}
        web = {"Enable": True, "Root": "/dicom-web/", "Servers": {"node": server}}
        with Orthanc(folder / "fetching", more={"DicomWeb": web}) as orthanc:
            study = str(dcmread(files[0]).StudyInstanceUID)
            told = orthanc.post("/dicom-web/servers/node/qido", {"Uri": "/studies", "Arguments": {"PatientName": "*"}})
            assert len(told) == 1
            assert study in json.dumps(told)
            orthanc.post("/dicom-web/servers/node/retrieve", {"Resources": [{"Study": study}]})
            _same_files(orthanc, files)
            _same_answers(orthanc, serving, study)


def _same_files(orthanc: Orthanc, files: list[Path]) -> None:
    for path in files:
        sent = dcmread(path)
        found = orthanc.file(str(sent.SOPInstanceUID))
        assert sent.PixelData in found
    assert len(json.loads(orthanc.get("/instances"))) == len(files)


def _same_answers(orthanc: Orthanc, serving: Serving, study: str) -> None:
    """QIDO-RS of both, attribute by attribute."""
    import requests

    (ours,) = requests.get(f"{serving.url}/studies", headers=serving.headers["viewer"], timeout=30).json()
    (theirs,) = orthanc.qido(f"studies?StudyInstanceUID={study}&includefield=00080061")
    for tag in SAME:
        assert _value(ours, tag) == _value(theirs, tag), tag


def _value(answer: dict[str, Any], tag: str) -> list[Any]:
    return [str(one) for one in answer.get(tag, {}).get("Value", [])]
