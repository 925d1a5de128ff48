"""OHIF beside a node on one address: what is passed on, whose log-in counts, and what is not reachable.

OHIF itself is not here: a page takes its place. What OHIF asks for is in ohif_requests.json, as a
browser sent it (docs/ohif_picture.py), and is asked again.
"""

from __future__ import annotations

import http.client
import importlib.util
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from urllib.parse import urlencode

import pytest

from hounsfield.usecases.node.people import add_user

from .serving import Serving, free_port

PLACE = Path(__file__).resolve().parents[2] / "examples" / "ohif" / "serve.py"
PASSWORD = "seven-green-bottles"  # noqa: S105


def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ohif_serve", PLACE)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@dataclass
class Browser:
    """Asks one address, and keeps its cookies."""

    port: int
    cookie: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: str = "", **more: str) -> tuple[int, bytes]:
        """One request; status and body."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        sent = {"Cookie": self.cookie, **more} if self.cookie else more
        link.request(method, path, body or None, sent)
        answer = link.getresponse()
        self.headers = {name.lower(): value for name, value in answer.getheaders()}
        found = answer.read()
        link.close()
        self.cookie = self.headers.get("set-cookie", self.cookie).split(";")[0]
        return answer.status, found


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Serving, Browser]]:
    """A node, and a page of one word beside it."""
    build = tmp_path / "dist"
    build.mkdir()
    (build / "index.html").write_text("<p>the viewer</p>")
    (build / "app.bundle.js").write_text("1;")
    (build / "app-config.js").write_text("the build's own")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "node").mkdir()
    with Serving(tmp_path / "node") as serving:
        add_user(serving.node, "vera", "viewer", PASSWORD, "tester")
        port = free_port()
        with module().make_server(build, f"http://127.0.0.1:{serving.port}", port) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield serving, Browser(port)
            server.shutdown()
            thread.join()


def log_in(browser: Browser) -> None:
    form = urlencode({"name": "vera", "password": PASSWORD, "target": "/"})
    kind = {"Content-Type": "application/x-www-form-urlencoded", "Origin": f"http://127.0.0.1:{browser.port}"}
    status, _ = browser.ask("POST", "/login", form, **kind)
    assert (status, browser.headers["location"]) == (303, "/")
    assert {"httponly", "samesite=strict"} <= {one.strip().lower() for one in browser.headers["set-cookie"].split(";")}


def test_a_persons_log_in_is_what_the_viewer_shows_to_the_node(served: tuple[Serving, Browser]) -> None:
    serving, browser = served
    assert browser.ask("GET", "/dicom-web/studies?limit=10")[0] == 401
    assert b'name="password"' in browser.ask("GET", "/login")[1]
    log_in(browser)
    status, found = browser.ask("GET", "/dicom-web/studies?limit=10&includefield=00081030&fuzzymatching=false")
    assert (status, found) == (200, b"[]")
    assert "access-control-allow-origin" not in browser.headers
    trail = (serving.node.root / "audit.jsonl").read_text()
    assert '"level":"study"' in trail
    assert '"vera"' in trail


def test_only_images_and_the_log_in_are_reached_through_the_viewers_address(served: tuple[Serving, Browser]) -> None:
    _, browser = served
    log_in(browser)
    for path in ("/", "/viewer?StudyInstanceUIDs=1.2", "/api/v1/jobs", "/metrics", "/system", "/../secret.txt"):
        assert browser.ask("GET", path) == (200, b"<p>the viewer</p>"), path
    assert browser.ask("GET", "/app.bundle.js")[1] == b"1;"
    assert b"qidoRoot: '/dicom-web'" in browser.ask("GET", "/app-config.js")[1]
    assert browser.headers["content-security-policy"].startswith("connect-src 'self'")
    assert browser.ask("POST", "/dicom-web/studies", "x")[0] == 405
    assert browser.ask("POST", "/api/v1/demo")[0] == 405
    assert browser.ask("POST", "/login", "x" * 20_000)[0] == 413


def test_a_folder_without_a_build_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"index\.html"):
        module().make_server(tmp_path, "http://127.0.0.1:1", 0)
