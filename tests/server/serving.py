"""A node with a running web part on a thread, filled with files, for clients of other projects."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn

from hounsfield.network.limits import NodeLimits
from hounsfield.network.received import Received
from hounsfield.server.app import make_app
from hounsfield.usecases.node.inbox import copy_in
from hounsfield.usecases.node.keeping import Keeper
from hounsfield.usecases.node.opening import Node, open_node
from hounsfield.usecases.node.tokens import add_token


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        return int(plug.getsockname()[1])


def fill(node: Node, files: Iterable[Path]) -> int:
    """Keep files as if they had come over the network; how many were taken."""
    keeper, taken = Keeper(node.database, node.files), 0
    for path in files:
        received = copy_in(path, node.files.incoming, NodeLimits())
        taken += isinstance(received, Received) and keeper.keep_now(received).status == 0
    keeper.close()
    return taken


@dataclass
class Serving:
    """A context manager; ``port`` is where it listens.

    Parameters
    ----------
    wrap
        Puts something before the application (ASGI).
    """

    root: Path
    more: str = ""
    port: int = 0
    wrap: Callable[[Any], Any] = lambda app: app
    headers: dict[str, dict[str, str]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.port = self.port or free_port()
        (self.root / "node.toml").write_text(f'public_url = "http://127.0.0.1:{self.port}"\n{self.more}')
        self.node = open_node(self.root)
        for role in ("viewer", "sender", "operator"):
            secret = add_token(self.node, f"a-{role}", role, "tester")
            self.headers[role] = {"Authorization": f"Bearer {secret}"}
        self.app = make_app(self.node)
        config = uvicorn.Config(self.wrap(self.app), host="127.0.0.1", port=self.port, log_level="error")
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined,method-assign]
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve()))
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        return self

    @property
    def url(self) -> str:
        """Where DICOMweb is."""
        return f"http://127.0.0.1:{self.port}/dicom-web"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        self.node.close()
