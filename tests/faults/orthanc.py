"""Orthanc as the PACS, on ports of its own.

Debian's Orthanc listens on every address whatever it is told, so where the system allows it a test
first moves into a network name space in which there is nothing but its own loopback.
"""

from __future__ import annotations

import base64
import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .nodes import free_port
from .sender import wait_until

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_UP_AND_RUNNING = 0x41
_PLUGINS = (
    Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"),
    Path(__file__).resolve().parents[2] / ".tools/root/usr/share/orthanc/plugins/libOrthancDicomWeb.so",
)


def isolate() -> bool:
    """Move this thread, and what it starts, into a name space with only a loopback; False where not allowed."""
    if os.geteuid() != 0 or ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        fcntl.ioctl(plug, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _UP_AND_RUNNING))
    return True


@dataclass
class Orthanc:
    """A running Orthanc with an empty storage; a context manager."""

    folder: Path
    port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    title: str = "ORTHANC"
    more: dict[str, Any] = field(default_factory=dict)

    def __enter__(self) -> Self:
        storage = self.folder / "storage"
        storage.mkdir(parents=True, exist_ok=True)
        plugin = next(path for path in _PLUGINS if path.exists())
        config = {
            "Name": "TestPacs",
            "StorageDirectory": str(storage),
            "IndexDirectory": str(storage),
            "Plugins": [str(plugin)],
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {"tester": "secret"},
            "DicomAet": self.title,
            "DicomPort": self.port,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True,
            "UnknownSopClassAccepted": True,
            "OverwriteInstances": False,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            **self.more,
        }
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(config))
        log = (self.folder / "orthanc.log").open("wb")
        self._process = subprocess.Popen(
            ["Orthanc", str(path)], stdout=log, stderr=log, env={**os.environ, "TCP_NODELAY": "1"}
        )
        log.close()
        wait_until(self._answers, 60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(30)

    def get(self, path: str, accept: str = "application/json") -> bytes:
        """GET with the tester's credentials."""
        pair = base64.b64encode(b"tester:secret").decode()
        url = f"http://127.0.0.1:{self.http_port}{path}"
        headers = {"Authorization": f"Basic {pair}", "Accept": accept}
        asked = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(asked, timeout=20) as answer:  # noqa: S310
            found: bytes = answer.read()
            return found

    def post(self, path: str, content: Any) -> Any:
        """POST of JSON with the tester's credentials."""
        pair = base64.b64encode(b"tester:secret").decode()
        url = f"http://127.0.0.1:{self.http_port}{path}"
        asked = urllib.request.Request(
            url, json.dumps(content).encode(), {"Authorization": f"Basic {pair}", "Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:  # noqa: S310
            return json.loads(answer.read() or b"null")

    def qido(self, query: str) -> list[dict[str, Any]]:
        """QIDO-RS below ``/dicom-web/``."""
        found: list[dict[str, Any]] = json.loads(self.get(f"/dicom-web/{query}", "application/dicom+json") or b"[]")
        return found

    def file(self, sop_instance_uid: str) -> bytes:
        """A stored instance as a file."""
        for number in json.loads(self.get("/instances")):
            if json.loads(self.get(f"/instances/{number}/simplified-tags"))["SOPInstanceUID"] == sop_instance_uid:
                return self.get(f"/instances/{number}/file")
        raise KeyError(sop_instance_uid)

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self.folder / "orthanc.log").read_text()
        try:
            self.get("/system")
        except (OSError, urllib.error.URLError):
            return False
        return True


def apart(work: Callable[[], None]) -> None:
    """Do work on a thread of its own, in a name space of its own where that is allowed."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            isolate()
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
