"""Judging and correcting results, taking them out for training, and the order in which to look at them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from fastapi.testclient import TestClient

from hounsfield.audit import verify
from hounsfield.department import jobs, studies
from hounsfield.department.jobs import Finished, NewJob, NewResult
from hounsfield.department.tables import reviews
from hounsfield.errors import SettingsError
from hounsfield.reading import read
from hounsfield.server.app import make_app
from hounsfield.usecases.dataset import DatasetRequest, check_dataset
from hounsfield.usecases.demo import write_scan
from hounsfield.usecases.node.awaiting import awaiting, telling_order, uncertainty
from hounsfield.usecases.node.deploying import decide_route, standings
from hounsfield.usecases.node.exporting import export_reviews
from hounsfield.usecases.node.imaging import StudyImages
from hounsfield.usecases.node.opening import Node, open_node
from hounsfield.usecases.node.overseeing import oversee, verify_trail
from hounsfield.usecases.node.reviewing import Judged, judge, write_labels
from hounsfield.usecases.node.tokens import add_token
from hounsfield.usecases.node.viewing import view_study

from .serving import fill

SEGMENTS = [
    {"number": 1, "label": "Front", "colour_rgb": [1, 2, 3]},
    {"number": 2, "label": "Back", "colour_rgb": [4, 5, 6]},
]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = open_node(tmp_path / "node")
    yield made
    made.close()


class Scene:
    """A node with one brain box, which a job has read: labels 1 and 2 in two blocks."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node, self.images = node, StudyImages(node)
        self.study = write_scan(folder / "scan")
        assert fill(node, sorted((folder / "scan" / "right").glob("*.dcm"))) == 48
        (self.series,) = self.images.listed(self.study)
        self.geometry = self.images.series(self.study, self.series.name).geometry
        assert self.geometry is not None
        self.labels = np.zeros(self.geometry.shape, np.uint8)
        self.labels[10:20, 10:20, 10:20], self.labels[10:20, 20:30, 10:20] = 1, 2
        self._job()

    def _job(self) -> None:
        name = self.series.name
        with self.node.database.write() as connection:
            revision = studies.listed(connection, study_uid=self.study)[0].revision
            version = studies.close(connection, studies.Open(self.study, revision, None), "routed", "")
            order = {"model": "hippocampus-mr", "precision": "fp32", "memory": "", "destinations": [], "digests": []}
            jobs.make(connection, [NewJob(self.study, version or 1, "r", json.dumps(order), 1.0)])
        leased = jobs.claim(self.node.database, "w")
        assert leased is not None
        folder = self.node.results / "1-1" / name
        folder.mkdir(parents=True)
        write_labels(self.labels, self.geometry, folder / "labels.nii.gz")
        content = {"segments": SEGMENTS, "findings": [], "class_scores": []}
        (folder / "result.json").write_text(json.dumps(content))
        kinds = {"nifti": "labels.nii.gz", "json": "result.json"}
        written = tuple(NewResult(kind, f"1-1/{name}/{file}", "0" * 64, 1) for kind, file in kinds.items())
        done = {"name": name, "status": "done", "measured": [], "warnings": [], "figures": {}, "reason": ""}
        outcome = json.dumps({"package": "hippocampus-mr-2.0.0", "series": [done]})
        assert jobs.finish(self.node.database, leased, Finished("done", "", outcome, written))

    def drawing(self, array: Any, shift_mm: float = 0.0) -> bytes:
        """Labels as a viewer sends them."""
        affine = self.geometry.affine_ras.copy()
        affine[0, 3] += shift_mm
        return bytes(nibabel.Nifti1Image(array.transpose(2, 1, 0), affine).to_bytes())


@pytest.fixture
def scene(node: Node, tmp_path: Path) -> Scene:
    return Scene(node, tmp_path)


def test_the_viewer_gets_every_voxel_where_it_lies(scene: Scene) -> None:
    path = scene.images.volume(scene.study, scene.series.name)
    image: Any = nibabel.load(path)
    shown, scan = np.asanyarray(image.dataobj), read(path)
    assert shown.dtype == np.int16
    assert np.allclose(image.affine, scene.geometry.affine_ras)
    from pydicom import dcmread

    files = scene.images.series(scene.study, scene.series.name).files
    slices = sorted(map(dcmread, files), key=lambda one: float(one.ImagePositionPatient[2]))
    stored = np.stack([one.pixel_array for one in slices])
    assert np.array_equal(scan.array, stored)
    assert path == scene.images.volume(scene.study, scene.series.name)  # made once


def test_what_was_said_of_a_study_is_in_its_view(scene: Scene) -> None:
    judge(scene.node, Judged(1, scene.series.name, "rita", "too small", 12.5), "rejected")
    (answer,) = view_study(scene.images, scene.study)["answers"]
    assert answer["segments"] == SEGMENTS
    assert answer["files"] == ["nifti", "json"]
    assert [(one["verdict"], one["who"], one["reason"]) for one in answer["reviews"]] == [
        ("rejected", "rita", "too small")
    ]
    with pytest.raises(SettingsError, match="reason"):
        judge(scene.node, Judged(1, scene.series.name, "rita"), "rejected")
    with pytest.raises(SettingsError, match="no such result"):
        judge(scene.node, Judged(1, "series-0", "rita"), "accepted")
    with pytest.raises(SettingsError, match="no such result"):
        judge(scene.node, Judged(7, scene.series.name, "rita"), "accepted")


def test_a_drawing_becomes_a_version_only_on_the_same_grid_with_known_labels(scene: Scene) -> None:
    secret = add_token(scene.node, "rita", "reviewer", "tester")
    headers = {"Authorization": f"Bearer {secret}"}
    path = f"/api/v1/jobs/1/series/{scene.series.name}/labels?reason=more&seconds=30.5"
    better = scene.labels.copy()
    better[12, 12, 25] = 1
    unknown = better.copy()
    unknown[0, 0, 0] = 9
    with TestClient(make_app(scene.node)) as client:
        wrong = {
            "another grid": scene.drawing(better, shift_mm=2.0),
            "does not know": scene.drawing(unknown),
            "": b"no image at all",
        }
        for fact, body in wrong.items():
            answer = client.post(path, content=body, headers=headers)
            assert answer.status_code == 409
            assert fact in answer.json()["fact"]
        assert client.post(path.replace("more", ""), content=scene.drawing(better), headers=headers).status_code == 409
        for version in (1, 2):
            answer = client.post(path, content=scene.drawing(better), headers=headers)
            assert answer.json() == {"version": version}
        served = client.get(path.partition("?")[0] + "/2", headers=headers)
        assert client.get(path.partition("?")[0] + "/3", headers=headers).status_code == 409
    assert list(scene.node.files.incoming.iterdir()) == []
    with scene.node.database.read() as connection:
        rows = connection.execute(reviews.select()).all()
    assert [(row.verdict, row.who, row.seconds, row.label_version) for row in rows] == [
        ("corrected", "rita", 30.5, 1),
        ("corrected", "rita", 30.5, 2),
    ]
    kept = read(scene.node.root / "labels" / rows[1].label_path)
    assert np.array_equal(kept.array, better)
    assert served.content == (scene.node.root / "labels" / rows[1].label_path).read_bytes()
    assert verify(scene.node.ledger.path).holds


def first_row(table: Path) -> dict[str, str]:
    """The first case of a table."""
    with table.open(encoding="utf-8") as stream:
        return next(csv.DictReader(stream))


def test_what_was_reviewed_goes_out_as_a_data_set(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="accepted or corrected"):
        export_reviews(scene.images, tmp_path / "none", "rita")
    judge(scene.node, Judged(1, scene.series.name, "rita", "", 3.0), "accepted")
    made = export_reviews(scene.images, tmp_path / "out", "rita")
    assert made.cases == 1
    assert check_dataset(DatasetRequest(made.table)).usable
    row = first_row(made.table)
    assert row["verdict"] == "accepted"
    assert np.array_equal(read(tmp_path / "out" / row["label"]).array, scene.labels)
    again = export_reviews(scene.images, tmp_path / "again", "rita")
    assert first_row(again.table)["patient_id"] == row["patient_id"]
    assert "ICBM" not in made.table.read_text()
    judge(scene.node, Judged(1, scene.series.name, "rita", "no", 3.0), "rejected")
    with pytest.raises(SettingsError, match="accepted or corrected"):
        export_reviews(scene.images, tmp_path / "late", "rita")


def test_the_unsure_and_the_unlike_come_first(scene: Scene) -> None:
    assert [one.job_id for one in awaiting(scene.node)] == [1]
    judge(scene.node, Judged(1, scene.series.name, "rita"), "accepted")
    assert awaiting(scene.node) == ()
    scored = {"series": [{"measured": [{"probability": 0.5}], "warnings": []}]}
    assert uncertainty(scored) == 1.0
    assert uncertainty({"series": [{"measured": [{"probability": 1.0}]}]}) == 0.0
    assert uncertainty({"series": []}) == 0.5
    doubts = np.array([1.0, 0.9, 0.9, 0.1])
    places = np.array([[0.0], [0.0], [5.0], [5.0]])
    assert telling_order(doubts, places) == [0, 2, 1, 3]  # after the first, the equally unsure one elsewhere
    assert telling_order(np.zeros(0), np.zeros((0, 1))) == []


def test_routes_are_decided_and_come_back(node: Node) -> None:
    route = '[[route]]\nname = "a"\nmodel = "hippocampus-mr"\n[route.match]\nmodality = ["MR"]\n'
    (node.root / "routes.toml").write_text(route)
    assert [one.shadow for one in node.routes()] == [False]
    decide_route(node, "a", "shadow", "ada")
    assert [one.shadow for one in node.routes()] == [True]
    decide_route(node, "a", "retired", "ada")
    assert node.routes() == ()
    assert standings(node)[0].state == "retired"
    decide_route(node, "a", "active", "ada")
    assert [one.shadow for one in node.routes()] == [False]
    with pytest.raises(SettingsError, match="no route"):
        decide_route(node, "b", "active", "ada")
    said = (node.root / "audit.jsonl").read_text()
    assert said.count("route decided") == 3


def test_the_system_says_what_is_so(scene: Scene) -> None:
    health = oversee(scene.node)
    assert health.counts["jobs"] == {"done": 1}
    assert 0 < health.free_bytes < health.disk_bytes
    assert health.instances_bytes > 48 * 60 * 42 * 2
    judge(scene.node, Judged(1, scene.series.name, "rita"), "accepted")
    assert verify_trail(scene.node, "ada").holds
    path = scene.node.ledger.path
    path.write_text(path.read_text().replace("accepted", "rejected"))
    found = verify_trail(scene.node, "ada")
    assert not found.holds
    assert "line 1" in found.fault


def test_old_copies_make_room(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hounsfield.usecases.node.imaging.CACHE_BYTES", 10)
    first = scene.images.volume(scene.study, scene.series.name)
    (scene.images.folder / "other.nii").write_bytes(b"x" * 20)
    first.unlink()
    assert scene.images.volume(scene.study, scene.series.name).is_file()
    assert not (scene.images.folder / "other.nii").exists()


def test_the_demo_comes_in_like_a_study(node: Node) -> None:
    from hounsfield.usecases.node.demonstrating import demonstrate
    from hounsfield.usecases.node.keeping import Keeper
    from hounsfield.usecases.node.worklist import worklist

    keeper = Keeper(node.database, node.files)
    number = demonstrate(node, keeper, "otto")
    with pytest.raises(SettingsError, match="already"):
        demonstrate(node, keeper, "otto")
    keeper.close()
    leased = jobs.claim(node.database, "w")
    assert leased is not None
    assert leased.id == number
    from hounsfield.department import described

    with node.database.write() as connection:
        described.progress(connection, number, "windows", 2, 8, 10.0)
    from hounsfield.department.described import Wanted

    (line,) = worklist(node, Wanted(state="running")).lines
    assert (line.instances, line.state) == (96, "running")
    assert (line.jobs[0].share, line.jobs[0].left_s) == (0.25, 30.0)
