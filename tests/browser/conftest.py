"""One browser and one node for all tests; the node reads one real scan once."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright
from tests.browser.chromium import launch, window
from tests.browser.served import Served

from hounsfield.usecases.demo import write_scan

READ_MS = 240_000
expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")  # while it lives, an event loop runs in this thread, which other tests cannot bear
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        made = launch(playwright)
        yield made
        made.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A running node without studies."""
    environment = {**os.environ, "HOUNSFIELD_HOME": str(tmp_path_factory.mktemp("home"))}
    made = Served(tmp_path_factory.mktemp("node"), environment)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def people(served: Served) -> Served:
    """The same node, with an account of each role."""
    served.make_people()
    return served


@pytest.fixture(scope="session")
def brain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip with one series of a real brain: the box around the right hippocampus."""
    folder = tmp_path_factory.mktemp("brain")
    write_scan(folder / "scan")
    path = folder / "brain.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for one in sorted((folder / "scan" / "right").glob("*.dcm")):
            archive.write(one, one.name)
    return path


@pytest.fixture(scope="module")
def study(browser: Browser, people: Served, brain: Path) -> Served:
    """The node after a person added the brain on the page and saw it being read, over a restart of the node."""
    with window(browser, allowed=("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED", "ERR_CONNECTION_RESET")) as page:
        people.enter(page, "otto")
        page.set_input_files("#files", brain)
        expect(page.locator("#toast")).to_contain_text("48 images added")
        expect(page.locator(".state.running")).to_be_visible(timeout=60_000)
        people.stop()
        people.start()
        # Nobody loads the page again: it finds the node by itself, and the job goes on.
        expect(page.locator(".state.done")).to_be_visible(timeout=READ_MS)
        expect(page.locator("td.jobs")).to_contain_text(re.compile(r"Anterior hippocampus 2\.[45]\d ml"))
        expect(page.locator("td.patient")).to_contain_text("ICBM-152, Average brain")
    return people
