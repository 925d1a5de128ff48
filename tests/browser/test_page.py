"""A person's whole way: the first account, a study added, its answer looked at, corrected, taken out for training."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect
from pydicom import dcmread
from pydicom.config import disable_value_validation
from tests.browser.chromium import barriers, window
from tests.browser.served import PASSWORD, Served
from tests.server.serving import fill

from hounsfield.audit import verify
from hounsfield.department.tables import deliveries, instances, jobs, results, reviews, studies
from hounsfield.reading import read
from hounsfield.usecases.dataset import DatasetRequest, check_dataset
from hounsfield.usecases.node.opening import open_node
from hounsfield.usecases.node.people import setup_code_path
from hounsfield.usecases.node.viewing import result_path

pytestmark = pytest.mark.timeout(900)  # the first test that wants it waits until the model has read the scan


#: Send an empty request as the page's own scripts would, and say its status.
POST = """path => fetch(path, {method: "POST", headers: {"X-CSRF-Token": document.documentElement.dataset.csrf}})
    .then(answer => answer.status)"""


def open_study(page: Page, node: Served, name: str, patient: str = "ICBM-152") -> None:
    node.enter(page, name)
    page.get_by_role("link", name=patient).first.click()
    page.wait_for_selector("#study[data-viewer='1']")


def ask(page: Page, expression: str) -> Any:
    return page.evaluate(expression)


def test_the_first_person_makes_an_account_and_is_told_what_to_do(browser: Browser, served: Served) -> None:
    node = open_node(served.root)
    code = setup_code_path(node).read_text().strip()
    node.close()
    with window(browser, allowed=("409",)) as page:
        page.goto(served.url)
        page.fill("input[name=code]", "0" * 16)
        page.fill("input[name=name]", "first")
        page.fill("input[name=password]", PASSWORD)
        page.click("form button.primary")
        expect(page.get_by_role("alert")).to_contain_text("not the set-up code")
        page.fill("input[name=code]", code)
        page.fill("input[name=name]", "first")
        page.fill("input[name=password]", PASSWORD)
        page.click("form button.primary")
        expect(page.get_by_role("heading", name="No studies yet")).to_be_visible()
        expect(page.get_by_role("button", name="Run the demo")).to_be_visible()
        expect(page.get_by_role("note")).to_contain_text("Research use only")


def test_a_study_is_added_read_over_a_restart_and_listed(study: Served) -> None:
    node = open_node(study.root)
    with node.database.read() as connection:
        kept = connection.execute(jobs.select()).all()
    assert [row.state for row in kept] == ["done"]
    assert verify(node.ledger.path).holds
    node.close()


def test_the_overlay_under_the_cross_is_the_seg(browser: Browser, study: Served) -> None:
    import highdicom

    node = open_node(study.root)
    with node.database.read() as connection:
        paths = {row.kind: node.results / row.path for row in connection.execute(results.select())}
        files = [node.files.path(row.sha256) for row in connection.execute(instances.select())]
    node.close()
    labels = highdicom.seg.segread(paths["seg"]).get_volume(combine_segments=True)
    scan = {str(one.SOPInstanceUID): one for one in map(dcmread, files) if one.Modality == "MR"}
    names = {0: "", 1: "Anterior hippocampus", 2: "Posterior hippocampus"}
    rng = np.random.default_rng(7)
    places = [tuple(rng.choice(np.argwhere(labels.array == number))) for number in (0, 1, 2) for _ in range(8)]
    with window(browser) as page:
        open_study(page, study, "vera")
        assert ask(page, "document.getElementById('study').dataset.overlays") == "1"
        for index in places:
            lps = labels.map_indices_to_reference(np.array([index]))[0]
            ask(page, f"window.hounsfieldViewer.goTo({json.dumps(lps.tolist())})")
            shown = ask(page, "({...document.getElementById('readout').dataset})")
            assert shown["labels"] == names[int(labels.array[index])]
            assert np.allclose([float(one) for one in shown["lps"].split(",")], lps, atol=0.01)
            assert float(shown["value"]) == value_at(scan, lps)


def value_at(scan: dict[str, Any], lps: Any) -> float:
    """The stored value at an LPS point, from the slices' own headers alone."""
    for one in scan.values():
        row, column = (np.array(one.ImageOrientationPatient[at : at + 3], float) for at in (0, 3))
        offset = np.asarray(lps) - np.array(one.ImagePositionPatient, float)
        if abs(offset @ np.cross(row, column)) < 0.01:
            spacing = np.array(one.PixelSpacing, float)
            i, j = round(offset @ row / spacing[1]), round(offset @ column / spacing[0])
            return float(one.pixel_array[j, i] * getattr(one, "RescaleSlope", 1) + getattr(one, "RescaleIntercept", 0))
    raise AssertionError("no slice holds this point")


def test_findings_jump_and_everything_is_in_reach_of_the_keyboard(browser: Browser, study: Served) -> None:
    with window(browser) as page:
        open_study(page, study, "vera")
        page.keyboard.press("n")
        lps = [float(one) for one in ask(page, "document.getElementById('readout').dataset.lps").split(",")]
        answers = ask(page, "fetch('/api/v1' + location.pathname + '/view').then(r => r.json())")
        centre = answers["answers"][0]["findings"][0]["centre_lps_mm"]
        assert np.allclose(lps, centre, atol=1.5)
        expect(page.locator(".findings button[aria-current=true]")).to_contain_text("Anterior hippocampus")
        for key, view in (("a", "axial"), ("c", "coronal"), ("s", "sagittal"), ("d", "render"), ("p", "planes")):
            page.keyboard.press(key)
            expect(page.locator(f"#views button[data-view={view}]")).to_have_attribute("aria-pressed", "true")
        page.keyboard.press("2")
        expect(page.locator("#window")).to_have_value("Whole range")
        page.keyboard.press("o")
        expect(page.locator("#opacity")).to_have_value("0")
        page.keyboard.press("o")
        expect(page.locator("#opacity")).to_have_value("0.5")
        page.locator("#canvas").focus()
        before = ask(page, "document.getElementById('readout').dataset.vox")
        page.keyboard.press("PageUp")
        assert ask(page, "document.getElementById('readout').dataset.vox") != before
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_contain_text("next finding")
        page.keyboard.press("Escape")
        with page.expect_download() as got:
            page.get_by_role("link", name="SEG", exact=True).click()
        assert dcmread(got.value.path()).Modality == "SEG"


def test_an_answer_is_corrected_and_taken_out_to_train(browser: Browser, study: Served, tmp_path: Path) -> None:
    with window(browser, allowed=("409",)) as page:
        open_study(page, study, "rita")
        page.get_by_role("button", name="Correct").click()
        voxels = ask(page, "window.hounsfieldViewer.nv.drawBitmap.reduce((sum, one) => sum + (one > 0), 0)")
        assert voxels > 4000  # the pen begins on the model's own labels
        page.get_by_role("button", name="Save as a new version").click()
        expect(page.locator("#toast")).to_contain_text("Say why")
        page.locator("#views button[data-view=axial]").click()
        page.get_by_role("button", name="Brush").click()
        stroke(page)
        page.get_by_role("textbox", name="Reason").fill("a bit is missing")
        page.get_by_role("button", name="Save as a new version").click()
        expect(page.locator("#toast")).to_contain_text("Saved as version 1")
        expect(page.locator(".said")).to_contain_text("rita")
        expect(page.locator(".said")).to_contain_text("a bit is missing")
        page.goto(f"{study.url}/review")
        expect(page.locator("main")).to_contain_text("Nothing waits for a review")
        with page.expect_download() as got:
            page.get_by_role("link", name="Take out").click()
        exported = Path(got.value.path()).read_bytes()
    check_exported(study, exported, tmp_path)


def stroke(page: Page) -> None:
    """Draw a short line in the upper left quarter of the axial view."""
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] * 0.45, box["y"] + box["height"] * 0.3
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y + 5, steps=8)
    page.mouse.up()


def check_exported(study: Served, exported: bytes, folder: Path) -> None:
    """The zip is a data set that ``train`` reads, and its labels are what was drawn."""
    with zipfile.ZipFile(io.BytesIO(exported)) as archive:
        archive.extractall(folder)
    text = (folder / "cases.csv").read_text()
    assert "ICBM" not in text
    row = next(csv.DictReader(io.StringIO(text)))
    assert (row["verdict"], row["reviewer"], row["label_version"]) == ("corrected", "rita", "1")
    assert check_dataset(DatasetRequest(folder / "cases.csv")).usable
    node = open_node(study.root)
    with node.database.read() as connection:
        said = connection.execute(reviews.select()).one()
    before = read(result_path(node, said.job_id, said.series, "nifti"))
    node.close()
    after = read(folder / row["label"])
    assert after.geometry.is_close(before.geometry, 1e-3)
    changed = after.array != before.array
    assert 0 < changed.sum() < 400
    assert set(after.array[changed].tolist()) == {1}
    assert len(np.unique(np.argwhere(changed)[:, 0])) == 1  # one axial slice, the one that was drawn on
    assert said.seconds > 0
    image = read(folder / row["image"])
    assert image.geometry.is_close(before.geometry, 1e-3)


def test_roles_are_kept(browser: Browser, study: Served) -> None:
    with window(browser, allowed=("403",)) as page:
        open_study(page, study, "vera")
        expect(page.get_by_role("button", name="Accept")).to_have_count(0)
        page.goto(study.url)
        expect(page.get_by_role("button", name="Add files")).to_have_count(0)
        expect(page.locator("td.acts button")).to_have_count(0)
        calls = ("/api/v1/jobs/1/cancel", "/api/v1/upload", "/api/v1/jobs/1/series/x/review", "/api/v1/users")
        for path in calls:
            assert page.evaluate(POST, path) == 403
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    with window(browser) as page:
        study.enter(page, "otto")
        expect(page.get_by_role("button", name="Add files")).to_be_visible()
        page.goto(f"{study.url}/account")
        expect(page.get_by_role("heading", name="Accounts")).to_have_count(0)


@pytest.mark.shared_data
def test_an_x_ray_is_shown_flat_with_its_scores(browser: Browser, study: Served, shared_data: Path) -> None:
    with window(browser) as page:
        study.enter(page, "otto")
        page.set_input_files("#files", shared_data / "cxr" / "rsna-dicom" / "PatientA.dcm")
        row = page.locator("tr", has_text="pneumonia-cxr")
        expect(row.locator(".state.done")).to_be_visible(timeout=120_000)
        row.get_by_role("link").first.click()
        page.wait_for_selector("#study[data-viewer='1']")
        expect(page.locator(".scores")).to_contain_text("pneumonia")
        expect(page.locator("#views button")).to_have_count(0)
        expect(page.locator("#plate")).to_contain_text("no place in the patient")
        assert ask(page, "window.hounsfieldViewer.nv.opts.isOrientationTextVisible") is False


HOSTILE = {
    "<script>window.hacked=1</script>": "<script>window.hacked",  # after the sign: another spelling
    '"><img src=x onerror=window.hacked=1>^x': '"><img src',
    "Lang" * 60: "LangLangLang",
    "\u202eevil\u202c^rtl": "evil",
    "שלום^עולם": "שלום",
    "nul\0in^side": "nul",
}


def test_hostile_names_are_only_text(browser: Browser, study: Served, brain: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(brain) as archive:
        archive.extract(archive.namelist()[0], tmp_path)
    files = []
    for number, name in enumerate(HOSTILE):
        one = dcmread(next(tmp_path.glob("0*.dcm")))
        one.SpecificCharacterSet = "ISO_IR 192"
        one.StudyInstanceUID = f"2.25.900{number}"
        one.SeriesInstanceUID, one.SOPInstanceUID = f"2.25.901{number}", f"2.25.902{number}"
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
        one.StudyDescription, one.Modality = name[:60].replace("\0", ""), "OT"
        path = tmp_path / f"hostile-{number}.dcm"
        with disable_value_validation():
            one.PatientName = name
            one.save_as(path)
        files.append(path)
    node = open_node(study.root)
    with ThreadPoolExecutor(1) as beside:  # Playwright's event loop runs on this thread
        assert beside.submit(fill, node, files).result() == len(HOSTILE)
    node.close()
    with window(browser) as page:
        study.enter(page, "vera")
        for number, shown in enumerate(HOSTILE.values()):
            page.goto(f"{study.url}/?text=2.25.900{number}")
            expect(page.locator("td.patient bdi").first).to_contain_text(shown)
            page.locator("td.patient a").first.click()
            expect(page.locator(".side h1")).to_contain_text(shown)
            assert ask(page, "window.hacked") is None
            assert ask(page, "document.documentElement.scrollWidth <= innerWidth")


def test_a_refusal_is_said_in_plain_words(browser: Browser, study: Served, brain: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(brain) as archive:
        archive.extractall(tmp_path)
    for path in tmp_path.glob("*.dcm"):
        one = dcmread(path)
        one.BodyPartExamined, one.PatientName = "KNEE", "Knee^Test"
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"):
            setattr(one, name, f"{getattr(one, name)[:50]}.9")
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
        one.save_as(path)
    with window(browser) as page:
        study.enter(page, "otto")
        page.set_input_files("#files", sorted(tmp_path.glob("*.dcm")))
        row = page.locator("tr", has_text="Knee, Test")
        expect(row.locator(".state.refused")).to_be_visible(timeout=120_000)
        expect(row.locator(".why")).to_contain_text("KNEE")
        expect(row.get_by_role("button", name="Retry")).to_be_visible()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_no_serious_barrier_on_any_page(browser: Browser, study: Served, theme: str) -> None:
    with window(browser, theme=theme) as page:
        page.goto(f"{study.url}/login")
        assert barriers(page) == []
        study.enter(page, "ada")
        for path in ("/", "/review", "/models", "/models/hippocampus-mr-2.0.0", "/system", "/account"):
            page.goto(f"{study.url}{path}")
            assert barriers(page) == [], path
            assert ask(page, "document.documentElement.scrollWidth <= innerWidth"), path
        open_study(page, study, "ada")
        assert barriers(page) == []


def test_the_trail_is_verified_on_the_page_and_routes_are_decided(browser: Browser, study: Served) -> None:
    with window(browser) as page:
        study.enter(page, "ada")
        page.goto(f"{study.url}/system")
        page.get_by_role("button", name="Verify the whole trail").click()
        expect(page.locator("#verdict")).to_contain_text("it holds")
        page.goto(f"{study.url}/models")
        row = page.locator("tr", has_text="chest-xray").filter(has=page.get_by_role("button"))
        row.get_by_role("button", name="Retire").click()
        expect(page.get_by_role("dialog")).to_contain_text("makes no new jobs")
        page.get_by_role("button", name="Yes").click()
        expect(page.locator("tr", has_text="chest-xray").locator(".tag", has_text="retired").first).to_be_visible()
    node = open_node(study.root)
    assert [one.name for one in node.routes()] == ["hippocampus"]
    with node.database.read() as connection:
        assert connection.execute(deliveries.select()).first() is None
        assert connection.execute(studies.select()).first() is not None
    node.close()
