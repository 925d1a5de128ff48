"""A reader's point: read by a process that stays, recorded as a job, and left to the queue where that process fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hounsfield.department import jobs
from hounsfield.errors import EngineError, SettingsError
from hounsfield.usecases.demo import write_scan
from hounsfield.usecases.job import Job
from hounsfield.usecases.node.imaging import StudyImages
from hounsfield.usecases.node.opening import Node, open_node
from hounsfield.usecases.node.point_reader import OnSeen, PointReader
from hounsfield.usecases.node.pointing import PRIORITY, Asked, ask_at, point_models, prepare_points
from hounsfield.usecases.node.routing import Order, check_routes

from .serving import fill

MODEL = "lung-nodule-ct-2.0.0"


@dataclass
class Scene:
    """A node with one box of a real brain, in which no lung nodule can be asked for."""

    node: Node
    images: StudyImages
    study: str

    def ask(self, reader: PointReader, lps_mm: tuple[float, float, float] | None = None) -> dict[str, Any]:
        (series,) = self.images.listed(self.study)
        geometry = self.images.series(self.study, series.name).geometry
        assert geometry is not None
        x, y, z = lps_mm or geometry.centre_mm
        return ask_at(self.images, reader, Asked(self.study, series.name, MODEL, (x, y, z), "rita"))

    def job(self, number: int) -> Any:
        with self.node.database.read() as connection:
            return jobs.listed(connection, job_id=number)[0]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    node = open_node(tmp_path / "node")
    study = write_scan(tmp_path / "scan")
    assert fill(node, sorted((tmp_path / "scan" / "right").glob("*.dcm"))) == 48
    yield Scene(node, StudyImages(node), study)
    node.close()


@pytest.fixture
def reader() -> Iterator[PointReader]:
    made = PointReader()
    yield made
    made.close()


def test_what_the_model_refuses_is_recorded_and_the_process_stays(scene: Scene, reader: PointReader) -> None:
    (series,) = scene.images.listed(scene.study)
    prepare_points(scene.images, reader, scene.study, series.name, MODEL)
    process = reader._process
    assert process is not None
    for number in (1, 2):
        assert scene.ask(reader) == {"job": number, "state": "refused", "seen": {}}
        assert "MR" in scene.job(number).reason
    assert reader._process is process
    assert process.poll() is None
    assert list(scene.node.work.iterdir()) == []
    with pytest.raises(SettingsError, match="outside the series"):
        scene.ask(reader, (9e4, 0.0, 0.0))


class Broken(PointReader):
    """Its process dies in the middle."""

    def read(self, job: Job, still_wanted: Callable[[], bool], on_seen: OnSeen) -> dict[str, Any]:
        assert still_wanted()
        raise EngineError("the process that reads points ended without an answer", "ask again")


def test_a_point_that_could_not_be_read_at_once_waits_in_the_queue(scene: Scene) -> None:
    assert scene.ask(Broken()) == {"job": 1, "state": "waiting", "seen": {}}
    leased = jobs.claim(scene.node.database, "worker")
    assert leased is not None
    assert (leased.id, leased.attempt) == (1, 2)
    order = Order.from_json(leased.order_json)
    assert order.at_mm is not None
    assert (len(order.digests), order.destinations) == (48, ())
    assert scene.job(1).priority == PRIORITY
    assert [one["reference"] for one in point_models()] == [MODEL]
    whole_scans = Asked(scene.study, "series-0", "hippocampus-mr-2.0.0", (0.0, 0.0, 0.0), "rita")
    with pytest.raises(SettingsError, match="does not read"):
        ask_at(scene.images, Broken(), whole_scans)


def test_a_killed_process_is_started_again_and_an_idle_one_ends(scene: Scene) -> None:
    reader = PointReader(idle_seconds=5.0)
    assert scene.ask(reader)["state"] == "refused"
    first = reader._process
    assert first is not None
    first.kill()
    first.wait()
    assert scene.ask(reader)["state"] == "refused"
    second = reader._process
    assert second is not None
    assert second.pid != first.pid
    end = time.monotonic() + 30
    while second.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    assert second.poll() is not None


def test_a_route_that_explains_needs_a_model_that_can_be_explained(tmp_path: Path) -> None:
    text = '[[route]]\nname = "a"\nmodel = "{}"\nexplain = true\n[route.match]\nmodality = ["MR"]\n'
    node = open_node(tmp_path / "node")
    (node.root / "routes.toml").write_text(text.format("pneumonia-cxr"))
    check_routes(node.routes())
    assert Order.from_json(Order.of(node.routes()[0], ()).to_json()).explain
    (node.root / "routes.toml").write_text(text.format("hippocampus-mr"))
    with pytest.raises(SettingsError, match="explained"):
        check_routes(node.routes())
    node.close()
