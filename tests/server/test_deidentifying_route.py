"""A route that takes the person out: images and answers go on under a pseudonym, and nothing else does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydicom import dcmread

from faults.chain_kills import ball, install_model
from faults.sink import Sink
from hounsfield.department import jobs
from hounsfield.errors import SettingsError
from hounsfield.usecases.node.clerk import Clerk
from hounsfield.usecases.node.delivering import deliver_due
from hounsfield.usecases.node.looking import list_jobs
from hounsfield.usecases.node.opening import open_node
from hounsfield.usecases.node.working import Worker

from .serving import fill

ROUTES = """
[[route]]
name = "research"
model = "tiny-levels"
destinations = ["sink"]
allow_unproven = true
captures = true
[route.match]
modality = ["MR"]
[route.deidentify]
modified_dates = true
"""


def test_what_leaves_is_whole_and_names_nobody(tmp_path: Path) -> None:
    install_model(Path(os.environ["HOUNSFIELD_HOME"]))
    sent = ball(tmp_path / "sent", "zebrafinch")
    root = tmp_path / "node"
    root.mkdir()
    (root / "routes.toml").write_text(ROUTES)
    with Sink() as sink:
        more = f'[[destinations]]\nname = "sink"\nae_title = "SINK"\nhost = "127.0.0.1"\nport = {sink.port}\n'
        (root / "node.toml").write_text(f"quiet_s = 0.01\n{more}")
        node = open_node(root)
        with pytest.raises(SettingsError, match="pseudonym_key"):
            node.routes()
        node.close()
        key = tmp_path / "apart" / "key"
        (root / "node.toml").write_text(f'quiet_s = 0.01\npseudonym_key = "{key}"\n{more}')
        node = open_node(root)
        fill(node, sorted((tmp_path / "sent").rglob("*.dcm")))
        clerk = Clerk(node)
        clerk.round()
        clerk.round()
        job = jobs.claim(node.database, "w")
        assert job is not None
        Worker(node).do(job)
        (done,) = list_jobs(node)
        assert done.state == "done", done.reason
        assert deliver_due(node, node.destination(node.config.destinations[0])).postponed == 0
        names = {str(value) for one in sent for value in (one.PatientID, one.PatientName, one.StudyInstanceUID)}
        names |= {str(one.SOPInstanceUID) for one in sent}
        for content in sink.contents.values():
            assert not [name for name in names if len(name) > 3 and name.encode() in content]
        node.close()
    assert len(sink.stored) == len(sent) + 2 + 2  # the images, SEG and SR, a picture and a page
    files = [dcmread(path) for path in root.glob("results/*/**/*.dcm")]
    assert len({one.StudyInstanceUID for one in files}) == len({one.PatientID for one in files}) == 1
    images = {one.SOPInstanceUID for one in files if one.Modality == "MR" and "PatientIdentityRemoved" in one}
    (seg,) = [one for one in files if one.Modality == "SEG"]
    referred = {item.ReferencedSOPInstanceUID for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert referred <= images
    assert key.stat().st_mode & 0o777 == 0o600
