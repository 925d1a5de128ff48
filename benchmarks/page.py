"""How quick the page is: a worklist of 100,000 studies, a whole chest CT, switching an overlay.

    python benchmarks/page.py [--studies 100000]

The worklist is asked for over HTTP from a node's web part in this process. The CT (512 x 512 x 133,
shared/data) is opened in Debian's Chromium without a graphics card, from the click to the images;
the overlay is a label map of its lungs' air, switched twenty times. Medians; JSON on standard output.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright
from sqlalchemy import insert

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser.chromium import launch, window  # noqa: E402
from tests.browser.served import PASSWORD  # noqa: E402
from tests.server.serving import Serving, fill  # noqa: E402

from hounsfield.department.tables import studies, study_facts  # noqa: E402
from hounsfield.usecases.node.opening import Node, open_node  # noqa: E402
from hounsfield.usecases.node.people import add_user  # noqa: E402

CT = ROOT.parent / "shared" / "data" / "ct-chest-lidc-idri-0001" / "LIDC-IDRI-0001.tar.xz"
PAGES = {
    "first page": "/",
    "last page": "/?page=2000",
    "by name": "/?order=name",
    "by priority": "/?order=urgent",
    "searched": "/?text=name97",
    "one state": "/?state=done",
}
SWITCH = """async () => {
  const viewer = window.hounsfieldViewer, nv = viewer.nv, times = [];
  const copy = nv.volumes[0].clone();
  copy.img = Uint8Array.from(nv.volumes[0].img, (value) => (value < -700 ? 1 : 0));
  Object.assign(copy.hdr, { datatypeCode: 2, numBitsPerVoxel: 8, intent_code: 1002, scl_slope: 1, scl_inter: 0 });
  copy.setColormapLabel({ R: [0, 230], G: [0, 60], B: [0, 60], A: [0, 255], I: [0, 1], labels: ["", "air"] });
  copy.id = "air";
  nv.addVolume(copy);
  for (let turn = 0; turn < 20; turn += 1) {
    const began = performance.now();
    nv.setOpacity(1, turn % 2);
    nv.gl.finish();
    times.push(performance.now() - began);
  }
  return times;
}"""


def many(node: Node, count: int) -> None:
    """Rows of studies that never had a file."""
    now = time.time()
    with node.database.write() as connection:
        for start in range(0, count, 5000):
            numbers = range(start, min(count, start + 5000))
            rows = [
                {"study_uid": f"1.2.{n}", "state": "complete", "outcome": "unrouted", "reason": "", "revision": 3}
                | {"version": 1, "conflicts": 0, "calling_ae": "A", "first_at": now, "last_at": now - n}
                for n in numbers
            ]
            facts = [
                {"study_uid": f"1.2.{n}", "patient_name": f"Name{n % 977}", "patient_id": f"P{n}", "revision": 3}
                | {"description": "Chest", "study_date": "2026-01-01", "modalities": "CT"}
                for n in numbers
            ]
            connection.execute(insert(studies), rows)
            connection.execute(insert(study_facts), facts)


def worklist_ms(serving: Serving) -> dict[str, float]:
    """Milliseconds for each kind of page, median of nine."""
    import urllib.request

    found = {}
    for name, path in PAGES.items():
        times = []
        for _ in range(9):
            headers = {**serving.headers["viewer"], "Accept": "text/html"}
            request = urllib.request.Request(f"http://127.0.0.1:{serving.port}{path}", headers=headers)
            began = time.perf_counter()
            urllib.request.urlopen(request, timeout=60).read()  # noqa: S310
            times.append(1000 * (time.perf_counter() - began))
        found[name] = round(statistics.median(times), 1)
    return found


def images(serving: Serving, folder: Path) -> dict[str, Any]:
    """Seconds until a chest CT is seen, first and again, and milliseconds to switch an overlay."""
    with tarfile.open(CT) as archive:
        archive.extractall(folder, filter="data")
    fill(serving.node, sorted(path for path in folder.rglob("*") if path.is_file()))
    add_user(serving.node, "ada", "admin", PASSWORD, "benchmark")
    with sync_playwright() as playwright:
        browser, opened = launch(playwright), []
        with window(browser) as page:
            page.goto(f"http://127.0.0.1:{serving.port}/login")
            page.fill("input[name=name]", "ada")
            page.fill("input[name=password]", PASSWORD)
            page.click("form button.primary")
            for _ in range(3):
                page.goto(f"http://127.0.0.1:{serving.port}/?text=LIDC")
                began = time.perf_counter()
                page.locator("td.patient a").first.click()
                page.wait_for_selector("#study[data-viewer='1']", timeout=300_000)
                opened.append(round(time.perf_counter() - began, 2))
            times = page.evaluate(SWITCH)
        browser.close()
    return {"first_s": opened[0], "again_s": opened[1:], "switch_ms": round(statistics.median(times), 1)}


def main() -> None:
    """Measure everything and print it."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--studies", type=int, default=100_000)
    count = asked.parse_args().studies
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "node").mkdir()
        node = open_node(folder / "node")
        many(node, count)
        node.close()
        with Serving(folder / "node") as serving:
            found: dict[str, Any] = {"studies": count, "worklist_ms": worklist_ms(serving)}
            if CT.is_file():
                found["ct"] = images(serving, folder / "ct")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
