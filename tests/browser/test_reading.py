"""A reader at work on real scans: asks a model at a click, compares, looks at heat maps, draws, takes the SEG along."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom
import nibabel
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect
from pydicom import dcmread
from tests.browser import chest
from tests.browser.chromium import barriers, drop, window
from tests.browser.served import Served

from hounsfield.department.tables import deliveries, instances, jobs, reviews
from hounsfield.usecases.node.opening import open_node
from hounsfield.usecases.node.reviewing import label_path

pytestmark = [pytest.mark.timeout(600), pytest.mark.shared_data]
ROUTES = """
[[route]]
name = "chest-xray"
model = "pneumonia-cxr"
explain = true
[route.match]
modality = ["CR", "DX"]
"""
VIEWER = "window.hounsfieldViewer"
PUT = f"([x, y]) => {{ const nv = {VIEWER}.nv; nv.scene.crosshairPos = nv.vox2frac([x, y, 0]); {VIEWER}.tell(); }}"
DRAWN = f"{VIEWER}.nv.drawBitmap.reduce((sum, one) => sum + (one > 0), 0)"


@dataclass
class Room:
    """A node with two studies of one person, and a chest X-ray that was read."""

    node: Served
    nodule_mm: list[float]
    now: str
    before: str

    def enter(self, page: Page, study: str) -> None:
        """Open a study as the reviewer."""
        self.node.enter(page, "rita", f"/studies/{study}")
        page.wait_for_selector("#study[data-viewer='1']")

    def ask(self, page: Page, shift_mm: float = 0.0) -> None:
        """Put the cross on the nodule, ask the model, wait for what it says."""
        place = [self.nodule_mm[0] + shift_mm, *self.nodule_mm[1:]]
        known = page.locator(".answer .state.done").count()
        page.evaluate(f"{VIEWER}.goTo({place})")
        page.get_by_role("button", name="Lung nodule segmentation").click()
        expect(page.locator(".answer .state.done")).to_have_count(known + 1)


@pytest.fixture(scope="module")
def room(browser: Browser, tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Iterator[Room]:
    folder = tmp_path_factory.mktemp("room")
    node = Served(folder / "node", {**os.environ, "HOUNSFIELD_HOME": str(folder / "home")}, ROUTES)
    box = chest.slices(shared_data)
    place = chest.nodule_mm(box)
    before = chest.save(box, folder / "before", "20240105", "1")
    studies = [str(box[0].StudyInstanceUID)]
    now = chest.save(box, folder / "now", "20260105", "2")
    studies.append(str(box[0].StudyInstanceUID))
    node.start()
    node.make_people()
    with window(browser) as page:
        node.enter(page, "otto")
        drop(page, now)
        expect(page.locator("#toast")).to_contain_text(f"{len(box)} images added")
        drop(page, shared_data / "cxr" / "rsna-dicom" / "PatientA.dcm")
        expect(page.locator("#toast")).to_contain_text("1 image added")
        page.set_input_files("#files", sorted(before.iterdir()))
        expect(page.locator("#toast")).to_contain_text(f"{len(box)} images added")
        expect(page.locator("td.patient", has_text="Nodule, Real")).to_have_count(2)
    yield Room(node, place, studies[1], studies[0])
    node.stop()


def test_a_click_starts_a_model_and_its_answer_lies_there(browser: Browser, room: Room) -> None:
    with window(browser) as page:
        room.enter(page, room.now)
        page.locator("#views button[data-view=axial]").click()
        away = [room.nodule_mm[0] + 20, room.nodule_mm[1] + 20, room.nodule_mm[2]]
        page.evaluate(f"{VIEWER}.goTo({away})")
        place = [-room.nodule_mm[0], -room.nodule_mm[1], room.nodule_mm[2]]
        x, y = page.evaluate(
            f"(nv => nv.frac2canvasPos(nv.mm2frac({place})).map(one => one / nv.uiData.dpr))({VIEWER}.nv)"
        )[:2]
        corner = page.locator("#canvas").bounding_box()
        assert corner is not None
        page.mouse.click(corner["x"] + x, corner["y"] + y)
        expect(page.locator("#readout")).to_contain_text("HU")
        page.get_by_role("button", name="Lung nodule segmentation").click()
        expect(page.locator("#point-state")).to_contain_text("ml. Being written")  # seen before it is written
        expect(page.locator(".answer .state.done")).to_be_visible()
        expect(page.locator("#readout")).to_contain_text("Lung nodule")
        expect(page.locator("#point-state")).to_be_empty()
        expect(page.locator(".findings")).to_contain_text("ml")
        assert page.evaluate(f"{VIEWER}.layers.size") == 1
        with page.expect_download() as got:
            page.get_by_role("link", name="NIfTI", exact=True).click()
        labels: Any = nibabel.load(Path(got.value.path()).rename(Path(got.value.path()).with_suffix(".nii.gz")))
        assert 200 < np.count_nonzero(labels.dataobj) < 20_000
        assert page.locator("#point-models").get_attribute("data-seconds")
    node = open_node(room.node.root)
    with node.database.read() as connection:
        (job,) = connection.execute(jobs.select().where(jobs.c.study_uid == room.now)).all()
        assert (job.state, job.attempts) == ("done", 1)
        assert connection.execute(deliveries.select()).first() is None
    node.close()


def test_a_result_stands_beside_another_and_the_crosses_go_together(browser: Browser, room: Room) -> None:
    with window(browser) as page:
        room.enter(page, room.before)
        room.ask(page)
        room.enter(page, room.now)
        for shift_mm in (0.0, 2.0)[page.locator(".answer .state.done").count() :]:
            room.ask(page, shift_mm)
        page.select_option("#beside", index=1)
        page.wait_for_selector("#beside-pane[data-ready]")
        expect(page.locator("#beside-link")).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#beside-table")).to_contain_text("Lung nodule")
        expect(page.locator("#beside-table")).to_contain_text("%")
        assert page.evaluate(f"{VIEWER}.layers.size") == 1  # the other is seen beside only
        page.evaluate(f"{VIEWER}.goTo({room.nodule_mm})")
        assert page.evaluate("window.hounsfieldBeside.viewer.place") == pytest.approx(room.nodule_mm, abs=0.5)
        assert barriers(page) == []

        page.select_option("#beside", label=page.locator("#beside option", has_text="2024-01-05").inner_text())
        page.wait_for_selector(f"#beside-pane[data-ready='study-{room.before}']")
        expect(page.locator("#beside-plate")).to_contain_text("another place in space")
        expect(page.locator("#beside-link")).to_have_attribute("aria-pressed", "false")
        assert page.evaluate("window.hounsfieldBeside.viewer.layers.size") == 1
        page.evaluate(f"window.hounsfieldBeside.viewer.goTo({[one + 5 for one in room.nodule_mm]})")
        still = page.evaluate(f"{VIEWER}.place")
        assert still == pytest.approx(room.nodule_mm, abs=0.5)  # not linked yet
        page.get_by_role("button", name="Linked").click()
        page.locator("#canvas").focus()
        page.keyboard.press("PageUp")
        moved, other = page.evaluate(f"[{VIEWER}.place, window.hounsfieldBeside.viewer.place]")
        assert moved[2] - still[2] == pytest.approx(2.5, abs=0.01)
        assert np.subtract(other, moved) == pytest.approx(np.full(3, 5.0), abs=1.3)  # within a voxel
        page.select_option("#beside", "")
        expect(page.locator("#beside-pane")).to_be_hidden()


def test_a_heat_map_has_a_scale_and_the_file_s_values_under_the_cross(browser: Browser, room: Room) -> None:
    with window(browser) as page:
        room.node.enter(page, "vera")
        row = page.locator("tr", has_text="pneumonia-cxr")
        expect(row.locator(".state.done")).to_be_visible(timeout=120_000)
        row.get_by_role("link").first.click()
        page.wait_for_selector("#study[data-viewer='1']")
        page.get_by_role("checkbox", name="Where the network looked for pneumonia").click()
        expect(page.locator("#bar")).to_contain_text("Not where a lesion is")
        expect(page.locator("#bar .high")).to_have_text("1")
        with page.expect_download() as got:
            page.locator(".maps a").first.click()
        image = map_of(Path(got.value.path()))
        for place in ((60, 60), (100, 40), (30, 110)):
            page.evaluate(PUT, list(place))
            said = page.evaluate("({...document.getElementById('readout').dataset})")
            x, y, z = (float(one) for one in said["lps"].split(","))
            index = np.rint(np.linalg.inv(image.affine) @ (-x, -y, z, 1))[:3].astype(int)
            value = float(np.asanyarray(image.dataobj)[tuple(index)])
            assert float(said["labels"].split(" ")[-1]) == pytest.approx(value, rel=0.01, abs=0.005)
        page.locator("#opacity").fill("1")
        assert page.evaluate(f"[...{VIEWER}.layers.values()][0].opacity") == 1
        assert barriers(page) == []
        page.get_by_role("checkbox", name="Where the network looked for pneumonia").click()
        expect(page.locator("#bar")).to_be_hidden()
        assert page.evaluate(f"{VIEWER}.layers.size") == 0


def map_of(path: Path) -> Any:
    """A downloaded map."""
    return nibabel.load(path.rename(path.with_suffix(".nii.gz")))


def drag(page: Page, points: list[tuple[float, float]]) -> None:
    """Draw a line through points of the canvas, given as shares of its size."""
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=6)
    page.mouse.up()


RING = [(0.52, 0.3), (0.58, 0.3), (0.58, 0.4), (0.52, 0.4), (0.52, 0.3)]


def test_outlines_are_filled_joined_undone_and_taken_along_as_seg(browser: Browser, room: Room) -> None:
    with window(browser) as page:
        room.enter(page, room.before)
        if not page.locator(".answer .state.done").count():
            room.ask(page)
        page.locator("#views button[data-view=axial]").click()
        page.evaluate(f"{VIEWER}.goTo({room.nodule_mm})")
        page.get_by_role("button", name="Correct").first.click()
        page.get_by_role("button", name="Outline and fill").click()
        counts = [page.evaluate(DRAWN)]
        page.locator("#canvas").focus()
        for _ in range(2):
            drag(page, RING)
            counts.append(page.evaluate(DRAWN))
            for _ in range(4):
                page.keyboard.press("PageUp")
        first, second = np.diff(counts)
        assert first > 100  # a ring of the pen would be far fewer: it is filled
        assert second == pytest.approx(first, rel=0.15)  # some of it may have had the label before
        page.get_by_role("button", name="Between axial").click()
        expect(page.locator("#toast")).to_contain_text("voxels filled")
        joined = page.evaluate(DRAWN) - counts[-1]
        assert joined == pytest.approx(3 * first, rel=0.15)
        page.get_by_role("button", name="Undo").click()
        assert page.evaluate(DRAWN) == counts[-1]
        page.keyboard.press("u")
        assert page.evaluate(DRAWN) == counts[-2]
        page.get_by_role("textbox", name="Reason").first.fill("it goes on there")
        page.reload()  # nothing was saved: nothing stays
        page.wait_for_selector("#study[data-viewer='1']")
        expect(page.locator(".said")).to_have_count(0)
        page.locator("#views button[data-view=axial]").click()
        page.get_by_role("button", name="Correct").first.click()
        page.get_by_role("button", name="Outline and fill").click()
        drag(page, RING)
        page.get_by_role("textbox", name="Reason").first.fill("it goes on there")
        page.get_by_role("button", name="Save as a new version").click()
        with page.expect_download() as got:
            page.get_by_role("link", name="SEG of version 1").click()
        check_seg(room, Path(got.value.path()))


def check_seg(room: Room, path: Path) -> None:
    """It is valid, drawn by hand, refers to the scan, and holds every voxel of the saved labels at its place."""
    done = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    assert [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")] == []
    header = dcmread(path)
    assert str(header.StudyInstanceUID) == room.before
    assert str(header.ContentCreatorName) == "rita"
    assert {one.SegmentAlgorithmType for one in header.SegmentSequence} == {"MANUAL"}
    told = [str(one.get("ContributionDescription", "")) for one in header.ContributingEquipmentSequence]
    assert any("drawn by rita" in text for text in told)
    node = open_node(room.node.root)
    with node.database.read() as connection:
        said = connection.execute(reviews.select().where(reviews.c.study_uid == room.before)).one()
    saved: Any = nibabel.load(label_path(node, said.job_id, said.series, 1))
    with node.database.read() as connection:
        kept = connection.execute(instances.select().where(instances.c.study_uid == room.before)).all()
    scan = {str(dcmread(node.files.path(one.sha256), stop_before_pixels=True).SOPInstanceUID) for one in kept}
    node.close()
    (series,) = header.ReferencedSeriesSequence
    assert {one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence} == scan
    found = highdicom.seg.segread(path).get_volume(combine_segments=True)
    index = np.argwhere(found.array > 0)
    lps = found.map_indices_to_reference(index)
    inverse = np.linalg.inv(saved.affine)
    places = np.rint((lps * (-1, -1, 1)) @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    labels = np.asanyarray(saved.dataobj)
    assert len(index) == np.count_nonzero(labels)
    assert (labels[tuple(places.T)] > 0).all()
