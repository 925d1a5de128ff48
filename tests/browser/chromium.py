"""Debian's Chromium under Playwright's hand, and what a page must never do while a test looks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Request

#: WebGL2 without a graphics card, and no connection of the browser's own.
FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)
_AXE: Final = Path(__file__).with_name("axe.min.js")
_OWN: Final = Path(__file__).resolve().parents[2] / ".tools" / "bin" / "chromium"


def launch(playwright: Playwright) -> Browser:
    """Start Chromium."""
    program = shutil.which("chromium") or str(_OWN)
    return playwright.chromium.launch(executable_path=program, args=list(FLAGS))


@dataclass
class Watch:
    """Everything that a page did and must not do.

    Attributes
    ----------
    errors
        Console errors, uncaught exceptions, refused content.
    outside
        Requests that would have left this machine.
    """

    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def follow(self, page: Page) -> None:
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._asked)
        page.on("dialog", lambda dialog: (self.errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _asked(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("blob", "data") and parts.hostname != "127.0.0.1":
            self.outside.append(request.url)


def barriers(page: Page) -> list[str]:
    """What axe-core finds serious or critical."""
    page.evaluate(_AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    bad = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    return [f"{one['id']}: {one['nodes'][0]['target']} {one['nodes'][0]['failureSummary']}" for one in bad]


def drop(page: Page, path: Path) -> None:
    """Drop a file or a folder of this machine in the middle of the page."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 640, "y": 400, "data": data})


@contextmanager
def window(browser: Browser, *, theme: str = "dark", allowed: tuple[str, ...] = ()) -> Iterator[Page]:
    """A fresh window of 1280 x 720; afterwards nothing forbidden may have happened in it.

    Parameters
    ----------
    allowed
        Parts of console errors that the test provokes.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 720}, color_scheme=theme)  # type: ignore[arg-type]
    watch = Watch()
    page = context.new_page()
    page.set_default_timeout(90_000)
    watch.follow(page)
    try:
        yield page
    finally:
        context.close()
    assert watch.outside == []
    assert [one for one in watch.errors if not any(part in one for part in allowed)] == []
