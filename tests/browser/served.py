"""A node as its users start it: ``hounsfield serve`` in a process of its own, with people who may log in."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from playwright.sync_api import Page
from tests.server.serving import free_port

from hounsfield.usecases.node.opening import open_node
from hounsfield.usecases.node.people import add_user

PASSWORD: Final = "seven-green-bottles"  # noqa: S105
PEOPLE: Final = {"ada": "admin", "rita": "reviewer", "otto": "operator", "vera": "viewer"}
ROUTES: Final = """
[[route]]
name = "hippocampus"
model = "hippocampus-mr"
[route.match]
modality = ["MR"]

[[route]]
name = "chest-xray"
model = "pneumonia-cxr"
[route.match]
modality = ["CR", "DX"]
"""


@dataclass
class Served:
    """A node that can be stopped and started."""

    root: Path
    environment: dict[str, str]
    routes: str = ROUTES
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        ports = f"port = {free_port()}\nhttp_port = {self.port}\nquiet_s = 5.0\nlease_s = 5.0\n"
        (self.root / "node.toml").write_text(ports)
        (self.root / "routes.toml").write_text(self.routes)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "hounsfield", "serve", "--data", str(self.root)]
        with (self.root / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        end = time.monotonic() + 300
        while time.monotonic() < end:
            try:
                urllib.request.urlopen(f"{self.url}/api/v1/health", timeout=5).close()  # noqa: S310
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError((self.root / "log.txt").read_text())

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
            self._process = None

    def make_people(self, *names: str) -> None:
        node = open_node(self.root)
        for name in names or PEOPLE:
            add_user(node, name, PEOPLE[name], PASSWORD, "tester")
        node.close()

    def enter(self, page: Page, name: str, path: str = "/") -> None:
        """Log in as someone and go to a page."""
        page.goto(f"{self.url}/login?target={path}")
        page.fill("input[name=name]", name)
        page.fill("input[name=password]", PASSWORD)
        page.click("form button.primary")
        page.wait_for_selector(".me")
