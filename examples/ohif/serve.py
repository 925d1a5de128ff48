"""OHIF beside a node, on one address, to try it on one's own machine.

    python examples/ohif/serve.py FOLDER [--node http://127.0.0.1:8042] [--port 3000]

FOLDER is an unpacked build of OHIF: the one with ``index.html`` in it. Nothing is downloaded. A
person logs in to the node as always, and the browser shows that log-in to the node when OHIF asks
for images, so the node knows who looks at what. Only DICOMweb, the log-in and its files are passed
on to the node; everything else is OHIF. Listens on loopback. In a hospital the web server that is
there anyway does the same; see docs/how-to/ohif.md.
"""

from __future__ import annotations

import argparse
import http.client
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

CONFIG: Final = Path(__file__).with_name("app-config.js")
#: What the node answers; all else is OHIF's.
PASSED_ON: Final = ("/dicom-web/", "/login", "/logout", "/static/")
#: Let OHIF use WebAssembly with threads, and let it talk to nobody but this address.
HEADERS: Final = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Content-Security-Policy": "connect-src 'self' blob: data:; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_HOP_BY_HOP: Final = ("connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "date", "server")
_BLOCK: Final = 1 << 16
_MOST_FORM_BYTES: Final = 1 << 14


class Handler(SimpleHTTPRequestHandler):
    """OHIF's files, its own addresses, and the way to the node."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *given: Any, node: str, directory: str) -> None:
        self.node = urlsplit(node)
        super().__init__(*given, directory=directory)

    def do_GET(self) -> None:
        """A file, or an answer of the node."""
        if self._passed_on():
            self._ask_node()
        else:
            super().do_GET()

    def do_HEAD(self) -> None:
        """As GET, without the body."""
        if self._passed_on():
            self._ask_node()
        else:
            super().do_HEAD()

    def do_POST(self) -> None:
        """Only the form of the log-in, and logging out."""
        if not self.path.startswith(("/login", "/logout")):
            self.send_error(405)
            return
        self._ask_node()

    def _passed_on(self) -> bool:
        return self.path.startswith(PASSED_ON)

    def translate_path(self, path: str) -> str:
        """The build's file; our configuration in place of its own; the page itself for its inner addresses."""
        found = Path(super().translate_path(path))
        if urlsplit(path).path == "/app-config.js":
            return str(CONFIG)
        return str(found if found.is_file() else Path(self.directory) / "index.html")

    def end_headers(self) -> None:
        """Add what keeps the page to itself; the node's answers bring their own."""
        if not self._passed_on():
            for name, value in HEADERS.items():
                self.send_header(name, value)
        super().end_headers()

    def _ask_node(self) -> None:
        length = int(self.headers.get("Content-Length", "0") or 0)
        if length > _MOST_FORM_BYTES:
            self.send_error(413)
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers |= {"X-Forwarded-For": self.client_address[0], "X-Forwarded-Proto": "http"}
        upstream = http.client.HTTPConnection(self.node.hostname or "127.0.0.1", self.node.port or 80, timeout=120)
        try:
            upstream.request(self.command, self.path, self.rfile.read(length) or None, headers)
            self._pass_back(upstream.getresponse())
        except OSError:
            self.close_connection = True
            self.send_error(502, "the node does not answer")
        finally:
            upstream.close()

    def _pass_back(self, answer: http.client.HTTPResponse) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        if answer.length is None and answer.status not in (204, 304):
            self.send_header("Connection", "close")  # the end of the answer is the end of the connection
            self.close_connection = True
        self.end_headers()
        while block := answer.read(_BLOCK):
            self.wfile.write(block)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: addresses name studies."""


def make_server(folder: Path, node: str, port: int) -> ThreadingHTTPServer:
    """A server on loopback over an unpacked build; ``port`` 0 for any free one."""
    if not (folder / "index.html").is_file():
        sys.exit(f"{folder} holds no index.html: give the folder 'dist' of an unpacked build of OHIF")
    return ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, node=node, directory=str(folder)))


def main() -> None:
    """Serve until Ctrl-C."""
    asked = argparse.ArgumentParser()
    asked.add_argument("folder", type=Path)
    asked.add_argument("--node", default="http://127.0.0.1:8042")
    asked.add_argument("--port", type=int, default=3000)
    given = asked.parse_args()
    with make_server(given.folder, given.node, given.port) as server:
        print(f"OHIF: http://127.0.0.1:{given.port}/  (first log in: http://127.0.0.1:{given.port}/login)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
