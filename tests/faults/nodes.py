"""Folders of nodes for tests."""

from __future__ import annotations

import socket
from pathlib import Path


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        return int(plug.getsockname()[1])


def make_node(root: Path, *, port: int = 0, more: str = "", routes: str = "") -> int:
    """Write ``node.toml`` and ``routes.toml``; the port that the node will listen on."""
    root.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    (root / "node.toml").write_text(f"port = {port}\ninbox = false\nweb = false\n{more}")
    if routes:
        (root / "routes.toml").write_text(routes)
    return port
