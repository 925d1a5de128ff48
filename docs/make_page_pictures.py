"""Pictures of every page, in both themes: docs/pictures/NAME-dark.png and NAME-light.png.

    python docs/make_page_pictures.py

A real node starts in a temporary folder, an average brain and, where shared/data lies beside the
checkout, a chest X-ray, the surroundings of a lung nodule and a whole chest CT come in; Chromium looks
at the pages as an admin.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser import chest  # noqa: E402
from tests.browser.chromium import launch, window  # noqa: E402
from tests.browser.served import ROUTES, Served  # noqa: E402

from hounsfield.usecases.demo import write_scan  # noqa: E402

PICTURES: Final = ROOT / "docs" / "pictures"
DATA: Final = ROOT.parent / "shared" / "data"
MORE: Final = {"no name": "ct-chest-lidc-idri-0001/LIDC-IDRI-0001.tar.xz", "0a0f91dc": "cxr/rsna-dicom/PatientA.dcm"}
PAGES: Final = {
    "worklist": "/",
    "review": "/review",
    "models": "/models",
    "model": "/models/lung-nodule-ct-2.0.0",
    "system": "/system",
    "account": "/account",
}
_WAIT_MS: Final = 600_000


def main() -> None:
    """Make all pictures."""
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary)
        environment = {**os.environ, "HOUNSFIELD_HOME": str(folder / "home")}
        explained = ROUTES.replace('model = "pneumonia-cxr"', 'model = "pneumonia-cxr"\nexplain = true')
        node, browser = Served(folder / "node", environment, explained), launch(playwright)
        node.start()
        node.make_people()
        try:
            first_start(node, browser)
            fill(node, browser, folder)
            for picture in (pictures, reading_pictures, large_pictures):
                for theme in ("dark", "light"):
                    picture(node, browser, theme)
        finally:
            browser.close()
            node.stop()


def first_start(node: Served, browser: Browser) -> None:
    """The log-in and the worklist before any study."""
    for theme in ("dark", "light"):
        with window(browser, theme=theme) as page:
            page.goto(f"{node.url}/login")
            keep(page, "login", theme)
            node.enter(page, "ada")
            keep(page, "first-start", theme)


def fill(node: Served, browser: Browser, folder: Path) -> None:
    """Bring studies in and wait until they were read."""
    write_scan(folder / "scan")
    with window(browser) as page:
        page.set_default_timeout(_WAIT_MS)
        node.enter(page, "ada")
        page.set_input_files("#files", sorted((folder / "scan").rglob("*.dcm")))
        more = [path for path in (DATA / name for name in MORE.values()) if path.is_file()]
        for files in (*more, nodule(folder)) if DATA.is_dir() else more:
            expect(page.locator("#sending")).to_be_hidden(timeout=_WAIT_MS)
            page.set_input_files("#files", files)
        expect(page.locator("tr", has_text="ICBM").locator(".state.done")).to_be_visible(timeout=_WAIT_MS)
        if DATA.is_dir():
            expect(page.locator("tr", has_text="pneumonia-cxr").locator(".state.done")).to_be_visible(timeout=_WAIT_MS)


def nodule(folder: Path) -> list[Path]:
    """The files of a real lung nodule and its surroundings."""
    return sorted(chest.save(chest.slices(DATA), folder / "nodule", "20000101", "1").iterdir())


def pictures(node: Served, browser: Browser, theme: str) -> None:
    """One picture of each page."""
    with window(browser, theme=theme) as page:
        page.set_default_timeout(_WAIT_MS)
        node.enter(page, "ada")
        for name, path in PAGES.items():
            page.goto(f"{node.url}{path}")
            page.wait_for_load_state("load")
            keep(page, name, theme)
        study(node, page, "ICBM-152, Average brain")
        page.keyboard.press("n")
        keep(page, "study", theme)
        page.get_by_role("button", name="Correct").click()
        page.locator(".pen").wait_for()
        keep(page, "correct", theme)


def reading_pictures(node: Served, browser: Browser, theme: str) -> None:
    """A result beside another, after a model was asked at two points."""
    if not DATA.is_dir():
        return
    with window(browser, theme=theme) as page:
        page.set_default_timeout(_WAIT_MS)
        node.enter(page, "ada")
        study(node, page, "Nodule, Real")
        for shift in (0.0, 3.0):
            x, y, z = chest.nodule_mm(chest.slices(DATA))
            page.evaluate(f"window.hounsfieldViewer.goTo({[x + shift, y, z]})")
            known = page.locator(".answer .state.done").count()
            if known < 2:
                page.get_by_role("button", name="Lung nodule segmentation").click()
                expect(page.locator(".answer .state.done")).to_have_count(known + 1, timeout=_WAIT_MS)
        page.select_option("#beside", index=1)
        page.wait_for_selector("#beside-pane[data-ready]")
        keep(page, "study-beside", theme)


def large_pictures(node: Served, browser: Browser, theme: str) -> None:
    """Studies that take a browser without a graphics card long to draw."""
    with window(browser, theme=theme) as page:
        page.set_default_timeout(_WAIT_MS)
        node.enter(page, "ada")
        for patient, name in zip(MORE, ("study-ct", "study-x-ray"), strict=True):
            if (DATA / MORE[patient]).is_file():
                study(node, page, patient)
                if page.locator(".maps input").count():
                    page.locator(".maps input").first.check()
                    page.locator("#bar").wait_for()
                keep(page, name, theme)


def study(node: Served, page: Page, patient: str) -> None:
    """Open a study and wait for its images."""
    page.goto(node.url)
    page.get_by_role("link", name=patient).first.click()
    page.wait_for_selector("#study[data-viewer='1']", timeout=_WAIT_MS)


def keep(page: Page, name: str, theme: str) -> None:
    """Save what the window shows once it stands still."""
    page.wait_for_timeout(800)
    page.screenshot(path=PICTURES / f"{name}-{theme}.png")


if __name__ == "__main__":
    main()
