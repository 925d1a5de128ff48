"""The whole road with real parts: storescu -> node -> the shipped model -> SEG and SR in Orthanc, read back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from hounsfield.network.destinations import Destination
from hounsfield.network.store_scu import echo
from hounsfield.usecases.node.looking import list_jobs, opened

from .nodes import free_port, make_node
from .orthanc import Orthanc, apart
from .sender import echoes, wait_until

SCAN = Path("mr-hippocampus-msd") / "dicom-hcrop-study1"
ROUTES = """
[[route]]
name = "hippocampus"
model = "hippocampus-mr"
destinations = ["pacs", "web"]
[route.match]
modality = ["MR"]
slices = { at_least = 10 }

[[route]]
name = "in-the-shadow"
model = "hippocampus-mr"
destinations = ["pacs"]
shadow = true
[route.match]
modality = ["CT"]
"""


def destinations(orthanc: Orthanc, root: Path) -> str:
    root.mkdir(exist_ok=True)
    (root / "password").write_text("secret\n")
    return f"""
quiet_s = 1.0
[[destinations]]
name = "pacs"
ae_title = "ORTHANC"
host = "127.0.0.1"
port = {orthanc.port}

[[destinations]]
name = "web"
kind = "stow"
url = "http://127.0.0.1:{orthanc.http_port}/dicom-web"
user = "tester"
password_file = "password"
"""


def hounsfield(*words: str | Path) -> str:
    command = [sys.executable, "-m", "hounsfield", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


@pytest.mark.shared_data
def test_from_storescu_to_seg_and_sr_in_orthanc(shared_data: Path, tmp_path: Path) -> None:
    apart(lambda: whole_road(shared_data / SCAN, tmp_path))


def whole_road(scan: Path, folder: Path) -> None:
    root = folder / "node"
    with Orthanc(folder / "pacs") as orthanc:
        port = make_node(root, port=free_port(), more=destinations(orthanc, root), routes=ROUTES)
        assert "hippocampus" in hounsfield("routes", "check", "--data", root)
        assert "-> hippocampus" in hounsfield("routes", "test", scan, "--data", root)
        there = Destination("pacs", "dicom", "ORTHANC", "127.0.0.1", orthanc.port)
        assert echo(there).delivered
        log = (folder / "serve.log").open("wb")
        serve = [sys.executable, "-m", "hounsfield", "serve", "--data", str(root)]
        node = subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=log)
        try:
            assert node.stdout is not None
            assert b"ready" in node.stdout.readline()
            assert echoes(port)
            send = ["storescu", "-aec", "HOUNSFIELD", "-R", "+sd", "+r", "127.0.0.1", str(port), str(scan)]
            subprocess.run(send, check=True, timeout=60, env={**os.environ, "TCP_NODELAY": "1"})
            wait_until(lambda: len(delivered(root)) == 4, 180)
        finally:
            node.send_signal(signal.SIGTERM)
            assert node.wait(30) == 0
            log.close()
            node.stdout.close()
        look(scan, orthanc, root, folder)
    assert "lines hold" in hounsfield("audit", "verify", "--data", root)
    said = (folder / "serve.log").read_text()
    names = {str(dcmread(path).get(name, "?")) for path in scan.rglob("*.dcm") for name in ("PatientName", "PatientID")}
    assert all(name and name not in said for name in names)


def delivered(root: Path) -> list[dict[str, Any]]:
    with opened(root) as node:
        return [one for job in list_jobs(node) for one in job.deliveries if one["state"] == "delivered"]


def look(scan: Path, orthanc: Orthanc, root: Path, folder: Path) -> None:
    """What Orthanc has is one SEG and one SR in the scan's own study, and they say what the job measured."""
    study = dcmread(next(scan.rglob("*.dcm"))).StudyInstanceUID
    found = orthanc.qido(f"studies/{study}/instances?includefield=00080060")
    by_modality = {one["00080060"]["Value"][0]: one["00080018"]["Value"][0] for one in found}
    assert sorted(by_modality) == ["SEG", "SR"]
    assert len(found) == 2  # over C-STORE and over STOW-RS, and yet once
    paths = {}
    for modality, uid in by_modality.items():
        paths[modality] = folder / f"{modality}.dcm"
        paths[modality].write_bytes(orthanc.file(uid))
        done = subprocess.run(["dciodvfy", "-new", str(paths[modality])], capture_output=True, text=True, check=False)
        assert [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")] == []
    (job,) = json.loads(hounsfield("jobs", "--json", "--data", root))
    assert job["state"] == "done"
    assert {one["sop_instance_uid"] for one in job["deliveries"]} == set(by_modality.values())
    volume = highdicom.seg.segread(paths["SEG"]).get_volume(combine_segments=True)
    (labels,) = root.glob("results/*/*/labels.nii.gz")
    assert (
        np.count_nonzero(volume.array) == np.count_nonzero(sitk.GetArrayFromImage(sitk.ReadImage(str(labels)))) > 2000
    )
    measured = {row["label"]: row["volume_ml"] for row in job["outcome"]["series"][0]["measured"]}
    text = str(highdicom.sr.srread(paths["SR"]))
    for value in measured.values():
        assert f"{value:.3f}"[:4] in text
