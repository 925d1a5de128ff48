"""A picture of OHIF over a node: docs/pictures/ohif.png.

    python docs/ohif_picture.py FOLDER [--requests FILE]

FOLDER is an unpacked build of OHIF (see docs/how-to/ohif.md); shared/data lies beside the checkout.
A real node starts in a temporary folder with a whole chest CT, lung-nodule-ct reads the surroundings
of its nodule, and Chromium opens both in OHIF, as a person who has logged in. It fails if anything
that OHIF asked the node for was not answered, or if it asked anybody else.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tarfile
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Page, Response, sync_playwright
from pydicom import dcmread

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "examples" / "ohif"))

from serve import make_server  # noqa: E402
from tests.browser.chromium import launch  # noqa: E402
from tests.browser.served import Served  # noqa: E402
from tests.server.serving import fill, free_port  # noqa: E402

from hounsfield.usecases.node.opening import open_node  # noqa: E402
from hounsfield.usecases.node.tokens import add_token  # noqa: E402

PICTURE: Final = ROOT / "docs" / "pictures" / "ohif.png"
SCAN: Final = ROOT.parent / "shared" / "data" / "ct-chest-lidc-idri-0001" / "LIDC-IDRI-0001.tar.xz"
#: The middle of the nodule that four readers marked: column, row, and z in mm (its SOURCE.md).
NODULE: Final = (316, 367, -115.0)
#: The scan has no name in it: this number is what tells it in a list.
ACCESSION: Final = "2819497684894126"
_WAIT_MS: Final = 240_000
_SETTLE_MS: Final = 15_000
#: OHIF shows the first slice of a segmentation; so many further on is the middle of this one.
_SLICES_ON: Final = 4


@dataclass
class Asked:
    """Everything that the page asked for."""

    node: list[tuple[int, str, str]] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def note(self, answer: Response) -> None:
        """Note one answer."""
        url = answer.url
        if url.startswith(("blob:", "data:")):
            return
        if "://127.0.0.1:" not in url:
            self.outside.append(url)
        elif "/dicom-web/" in url:
            accept = answer.request.headers.get("accept", "")
            self.node.append((answer.status, url.split("/dicom-web", 1)[1], accept))


def main() -> None:
    """Make the picture."""
    asked = argparse.ArgumentParser()
    asked.add_argument("folder", type=Path)
    asked.add_argument("--requests", type=Path)
    asked.add_argument("--picture", type=Path, default=PICTURE)
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with running(folder) as node, beside(given.folder, node) as url:
            study = read_scan(node, folder)
            seen = look(url, study, given.picture)
    if given.requests is not None:
        given.requests.write_text(json.dumps(sorted(set(seen.node)), indent=1) + "\n")
    wrong = sorted({one[:2] for one in seen.node if one[0] >= 400})
    if wrong or seen.outside:
        sys.exit(f"not answered: {wrong}; asked elsewhere: {sorted(set(seen.outside))}")


@contextmanager
def running(folder: Path) -> Iterator[Served]:
    """A node with accounts."""
    node = Served(folder / "node", {**os.environ, "HOUNSFIELD_HOME": str(folder / "home")})
    node.start()
    node.make_people()
    try:
        yield node
    finally:
        node.stop()


@contextmanager
def beside(build: Path, node: Served) -> Iterator[str]:
    """OHIF and the node on one address."""
    port = free_port()
    with make_server(build, node.url, port) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.shutdown()
            thread.join()


def read_scan(node: Served, folder: Path) -> str:
    """Bring the CT in, and let the model read its nodule; the study's UID."""
    with tarfile.open(SCAN) as archive:
        archive.extractall(folder / "scan", filter="data")
    files = sorted(path for path in (folder / "scan").rglob("*") if path.is_file())
    opened = open_node(node.root)
    token = add_token(opened, "picture", "admin", "tester")
    if fill(opened, files) != len(files):
        sys.exit("not every image was taken")
    opened.close()
    slices = [dcmread(path, stop_before_pixels=True) for path in files]
    first = min(slices, key=lambda one: abs(float(one.ImagePositionPatient[2]) - NODULE[2]))
    study, spacing = str(first.StudyInstanceUID), [float(one) for one in first.PixelSpacing]
    origin = [float(one) for one in first.ImagePositionPatient]
    lps = [origin[0] + NODULE[0] * spacing[1], origin[1] + NODULE[1] * spacing[0], origin[2]]
    api = f"{node.url}/api/v1"
    ask(f"{api}/upload/finished", token, {"studies": [study]})
    waited(lambda: [one["state"] for one in ask(f"{api}/studies", token)] == ["complete"])
    view = ask(f"{api}/studies/{study}/view", token)["series"]
    body = {"model": "lung-nodule-ct-2.0.0", "lps_mm": lps}
    job = ask(f"{api}/studies/{study}/series/{view[0]['name']}/point", token, body)["job"]
    waited(lambda: ask(f"{api}/jobs/{job}", token)["state"] == "done")
    return study


def waited(what: Any, seconds: float = 240.0) -> Any:
    """Wait until something is there."""
    end = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > end:
            raise TimeoutError("it did not happen in time")
        time.sleep(1.0)
    return found


def ask(url: str, token: str, body: Any = None) -> Any:
    """Ask the node as a program does."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=240) as answer:  # noqa: S310
        return json.loads(answer.read() or b"null")


def look(url: str, study: str, picture: Path) -> Asked:
    """Log in, find the study in OHIF's list, open it, load the segmentation, and keep a picture."""
    seen = Asked()
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="dark").new_page()
        page.set_default_timeout(_WAIT_MS)
        page.on("response", seen.note)
        page.add_init_script("localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']))")
        page.goto(f"{url}/login?target=/")
        page.fill("input[name=name]", "vera")
        page.fill("input[name=password]", "seven-green-bottles")
        page.click("form button.primary")
        show(page, url, study)
        page.screenshot(path=picture)
        browser.close()
    return seen


def show(page: Page, url: str, study: str) -> None:
    """The study list, then the study with its segmentation, at the middle of the nodule."""
    page.get_by_text(ACCESSION).first.wait_for()
    page.goto(f"{url}/viewer?StudyInstanceUIDs={study}")
    page.get_by_text("Confirm and hide").click()
    page.locator("[data-cy=study-browser-thumbnail]").first.wait_for()
    page.locator("canvas").first.wait_for()
    page.wait_for_timeout(_SETTLE_MS)
    page.locator("[data-cy=study-browser-thumbnail-no-image]").filter(has_text="SEG").first.dblclick()
    page.wait_for_timeout(_SETTLE_MS)
    for _ in range(_SLICES_ON):
        page.keyboard.press("ArrowDown")
        page.wait_for_timeout(1000)
    page.mouse.move(1300, 400)
    page.wait_for_timeout(_SETTLE_MS)


if __name__ == "__main__":
    main()
