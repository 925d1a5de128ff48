"""How quick the page is: a worklist of 100,000 studies, a whole chest CT, an overlay, a model at a click.

    python benchmarks/page.py [--studies 100000] [--box] [--out benchmarks/results/page.json]

The worklist is asked for over HTTP from a node's web part in this process. The CT (512 x 512 x 133,
shared/data) is opened in Debian's Chromium without a graphics card: seconds from the click until the
images are drawn, and until its overlay lies there too. That is a label map of all air in the scan, on the
scan's whole grid, given to the node as a job's answer; it is switched twenty times with the key ``o`` and
twenty times with its tick, each time until the frame is drawn and the next one begins. Then
``lung-nodule-ct`` is asked at the nodule: the first time as soon as the images are there, then three times
more; seconds from the button to the overlay, and of that until the server had answered. ``--box`` takes 36
slices of 128 x 128 instead, to try the benchmark. Medians; JSON on standard output.
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

from playwright.sync_api import Page, sync_playwright
from sqlalchemy import insert

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser import chest  # noqa: E402
from tests.browser.answered import answer  # noqa: E402
from tests.browser.chromium import launch, window  # noqa: E402
from tests.browser.served import PASSWORD  # noqa: E402
from tests.server.serving import Serving, fill  # noqa: E402

from hounsfield.department.tables import studies, study_facts  # noqa: E402
from hounsfield.usecases.node.opening import Node, open_node  # noqa: E402
from hounsfield.usecases.node.people import add_user  # noqa: E402

DATA = ROOT.parent / "shared" / "data"
CT = DATA / chest.ARCHIVE
POINTS = 4
PAGES = {
    "first page": "/",
    "last page": "/?page=2000",
    "by name": "/?order=name",
    "by priority": "/?order=urgent",
    "searched": "/?text=name97",
    "one state": "/?state=done",
}
#: When the images are there and drawn, not only asked for.
DRAWN = """() => new Promise((done) => {
  const gl = window.hounsfieldViewer?.nv.gl ?? document.getElementById("canvas").getContext("webgl2");
  requestAnimationFrame(() => done(gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4))));
})"""
#: Switch twenty times as a person does; milliseconds until the frame was drawn and the next one began.
SWITCH = """async (how) => {
  const gl = window.hounsfieldViewer.nv.gl, times = [], seen = new Set();
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const pixels = () => {
    const found = new Uint8Array(4 * gl.drawingBufferWidth * gl.drawingBufferHeight);
    gl.readPixels(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight, gl.RGBA, gl.UNSIGNED_BYTE, found);
    return found.reduce((sum, one, at) => (sum * 31 + one * (at % 7)) % 1e9, 7);
  };
  const press = () => document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "o", bubbles: true }));
  const tick = document.querySelector("[id^='lay-']");
  for (let turn = 0; turn < 20; turn += 1) {
    const began = performance.now();
    if (how === "key") press(); else tick.click();
    await frame();
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
    await frame();
    times.push(performance.now() - began);
    window.hounsfieldViewer.nv.drawScene();
    seen.add(pixels());
  }
  return { times, pictures: seen.size };
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


def scan(folder: Path, *, box: bool) -> list[Path]:
    """The files of the CT, or of a small box of it."""
    if box:
        return sorted(chest.save(chest.slices(DATA), folder, "20000101", "1").iterdir())
    with tarfile.open(CT) as archive:
        archive.extractall(folder, filter="data")
    return sorted(path for path in folder.rglob("*") if path.is_file())


def opened(page: Page, port: int) -> dict[str, float]:
    """Seconds from the click in the worklist until the images are drawn, and until the overlay is."""
    page.goto(f"http://127.0.0.1:{port}/?text=LIDC")
    began = time.perf_counter()
    page.locator("td.patient a").first.click()
    page.wait_for_selector("#study[data-ready]")
    page.evaluate(DRAWN)
    seen = time.perf_counter() - began
    page.wait_for_selector("#study[data-viewer='1'][data-overlays='1']")
    page.evaluate(DRAWN)
    return {"seen_s": round(seen, 2), "laid_s": round(time.perf_counter() - began, 2)}


def switched(page: Page) -> dict[str, Any]:
    """Milliseconds to switch the overlay with the key and with the tick: median and worst of twenty."""
    found = {}
    for how in ("key", "tick"):
        said = page.evaluate(SWITCH, how)
        if said["pictures"] != 2:
            raise SystemExit(f"the overlay was not switched: {said['pictures']} different pictures")
        found[how] = {"median_ms": round(statistics.median(said["times"]), 1), "worst_ms": round(max(said["times"]), 1)}
    return found


def points(page: Page) -> dict[str, Any]:
    """Seconds that a model takes at a click: the first time, then again."""
    place, took = chest.nodule_mm(chest.slices(DATA)), []
    for turn in range(POINTS):
        page.evaluate(f"window.hounsfieldViewer.goTo({[place[0] + turn, *place[1:]]})")
        page.get_by_role("button", name="Lung nodule segmentation").click()
        page.wait_for_selector(f"#point-models[data-asked='{turn + 1}']", timeout=300_000)
        box = page.locator("#point-models")
        took.append([float(box.get_attribute(f"data-{name}") or "nan") for name in ("seconds", "answered")])
    seen, answered = zip(*took, strict=True)
    return {
        "first": {"seen_s": seen[0], "answered_s": answered[0]},
        "again": {"seen_s": list(seen[1:]), "answered_s": list(answered[1:])},
    }


def images(serving: Serving, files: list[Path]) -> dict[str, Any]:
    """Seconds until a chest CT is seen, first and again; milliseconds to switch its overlay; seconds of a point."""
    fill(serving.node, files)
    answer(serving.node, lambda hu: hu < -700)
    add_user(serving.node, "ada", "admin", PASSWORD, "benchmark")
    with sync_playwright() as playwright:
        browser = launch(playwright)
        with window(browser) as page:
            page.set_default_timeout(300_000)
            page.goto(f"http://127.0.0.1:{serving.port}/login")
            page.fill("input[name=name]", "ada")
            page.fill("input[name=password]", PASSWORD)
            page.click("form button.primary")
            times = [opened(page, serving.port) for _ in range(4)]
            switch = switched(page)
            page.reload(wait_until="commit")
            page.wait_for_selector("#study[data-viewer='1']", timeout=300_000)
            asked = points(page)
        browser.close()
    return {"slices": len(files), "first": times[0], "again": times[1:], "switch": switch, "point": asked}


def main() -> None:
    """Measure everything and print it."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--studies", type=int, default=100_000)
    asked.add_argument("--box", action="store_true")
    asked.add_argument("--out", type=Path)
    given = asked.parse_args()
    count = given.studies
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "node").mkdir()
        node = open_node(folder / "node")
        many(node, count)
        node.close()
        with Serving(folder / "node") as serving:
            found: dict[str, Any] = {"studies": count, "worklist_ms": worklist_ms(serving)}
            if CT.is_file():
                found["ct"] = images(serving, scan(folder / "ct", box=given.box))
    text = json.dumps(found, indent=1) + "\n"
    print(text, end="")
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
