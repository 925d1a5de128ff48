"""``serve``: the parts of a node as processes, watched over and started again when one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from hounsfield.audit import AuditEvent
from hounsfield.errors import SettingsError
from hounsfield.usecases.node.clerk import Clerk
from hounsfield.usecases.node.committing import report_all
from hounsfield.usecases.node.delivering import deliver_all
from hounsfield.usecases.node.listening import Listening, listen
from hounsfield.usecases.node.opening import Node, log, open_node
from hounsfield.usecases.node.processes import StopOnSignal, die_with_parent
from hounsfield.usecases.node.routing import check_routes
from hounsfield.usecases.node.working import Worker

Part = Literal["receive", "clerk", "work", "web"]
PARTS: Final[tuple[Part, ...]] = ("receive", "clerk", "work", "web")
_LOOK_SECONDS: Final = 0.1
_STOP_SECONDS: Final = 10.0
_LONGEST_PAUSE: Final = 10.0


@dataclass(frozen=True)
class ServeRequest:
    """What to serve.

    Parameters
    ----------
    data
        The node's folder; made if it is not there.
    part
        Only this part, in this process; ``None`` starts and watches all of them.
    parent
        For a part: end when this process is gone.
    """

    data: Path
    part: Part | None = None
    parent: int | None = None


def serve(request: ServeRequest, on_ready: Callable[[Listening], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises
    ------
    SettingsError, PackageError
        If the configuration, the routes or a model that they name cannot be used.
    """
    node = open_node(request.data)
    try:
        if request.part is None:
            _serve_all(node, on_ready)
        else:
            if request.parent is not None:
                die_with_parent(request.parent)
            _serve_part(node, request.part, on_ready)
    finally:
        node.close()


def _serve_part(node: Node, part: Part, on_ready: Callable[[Listening], None] | None) -> None:
    if part == "web":
        os.execv(sys.executable, _web_command(node, os.getppid()))  # noqa: S606
    if part == "receive":
        listen(node, on_ready)
        return
    stopped = StopOnSignal()
    if part == "clerk":
        deliver_all(node, stopped)
        report_all(node, stopped)
        Clerk(node).run(stopped)
    else:
        Worker(node).run(stopped)


@dataclass
class _Running:
    part: Part
    process: subprocess.Popen[bytes]
    started: float
    pause: float = 0.5


def _serve_all(node: Node, on_ready: Callable[[Listening], None] | None) -> None:
    """Check everything, start the parts, and start again what ends, after a growing pause."""
    check_routes(node.routes())
    stopped = StopOnSignal()
    node.audit(AuditEvent("application-activity", "serve", {"activity": "start"}))
    web: list[Part] = ["web"] if node.config.web else []
    workers: list[Part] = ["work" for _ in range(node.config.workers)]
    wanted: list[Part] = ["receive", "clerk", *web, *workers]
    running = [_start(node, part) for part in wanted]
    if on_ready is not None:
        _wait_for_port(node, running[0], stopped)
        on_ready(Listening(node.config.ae_title, node.config.host, node.config.port))
    try:
        while not stopped():
            for number, one in enumerate(running):
                if one.process.poll() is not None:
                    running[number] = _again(node, one, stopped)
            time.sleep(_LOOK_SECONDS)
    finally:
        _end(running)
        node.audit(AuditEvent("application-activity", "serve", {"activity": "stop"}))


def _start(node: Node, part: Part) -> _Running:
    words = ["serve", "--data", str(node.root), "--part", part, "--parent", str(os.getpid())]
    command = _web_command(node, os.getpid()) if part == "web" else [sys.executable, "-m", "hounsfield", *words]
    return _Running(part, subprocess.Popen(command), time.monotonic())  # noqa: S603


def _web_command(node: Node, parent: int) -> list[str]:
    """The web part is a door of its own, which this room may not import: it is started by its name."""
    words = ["--data", str(node.root), "--parent", str(parent)]
    return [sys.executable, "-m", "hounsfield.server", *words]


def _again(node: Node, one: _Running, stopped: Callable[[], bool]) -> _Running:
    """Start a part again; one that ends at once each time waits longer and longer."""
    log("part-ended", part=one.part, status=one.process.returncode)
    lasted = time.monotonic() - one.started
    pause = 0.5 if lasted > 5 * _LONGEST_PAUSE else min(_LONGEST_PAUSE, 2 * one.pause)
    end = time.monotonic() + (0.0 if lasted > 2.0 else one.pause)
    while time.monotonic() < end and not stopped():
        time.sleep(_LOOK_SECONDS)
    fresh = _start(node, one.part)
    fresh.pause = pause
    return fresh


def _wait_for_port(node: Node, receiver: _Running, stopped: Callable[[], bool]) -> None:
    import socket

    while not stopped():
        if receiver.process.poll() is not None:
            fact = f"the part 'receive' ended with status {receiver.process.returncode}"
            raise SettingsError(fact, "see the lines before; often the port is taken", node.root / "node.toml")
        try:
            socket.create_connection((node.config.host, node.config.port), timeout=1).close()
        except OSError:
            time.sleep(_LOOK_SECONDS)
        else:
            return


def _end(running: list[_Running]) -> None:
    for one in running:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGTERM)
    end = time.monotonic() + _STOP_SECONDS
    for one in running:
        try:
            one.process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait()
