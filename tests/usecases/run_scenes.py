"""Small scans, a tiny model, and runs in processes of their own, for the tests of ``run``."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hounsfield.findings.measuring import derived_uid
from hounsfield.usecases.resident import tree_bytes
from hounsfield.volume import Geometry, Volume
from hounsfield.writing.series import SeriesIdentity, write_mr_series

NOON = dt.datetime(2026, 1, 1, 12, 0, 0)


def write_ball(folder: Path, shape: tuple[int, int, int] = (8, 12, 10)) -> Path:
    """A bright ball in the dark, 2 x 1.5 x 1 mm, as a DICOM MR series with UIDs of its own."""
    k, j, i = np.indices(shape)
    far = (k - shape[0] / 2) ** 2 + (j - shape[1] / 2) ** 2 + (i - shape[2] / 2) ** 2
    volume = Volume((far < (min(shape) / 3) ** 2).astype(np.float32), Geometry.from_parts(shape, (2.0, 1.5, 1.0)))
    study, frame = derived_uid("study", folder.name), derived_uid("frame", folder.name)
    identity = SeriesIdentity("Phantom", "P", "s", folder.name, "BRAIN", 1, study, frame, "phantom", NOON)
    write_mr_series(volume, folder, identity)
    return folder


def ball_ml(shape: tuple[int, int, int] = (8, 12, 10)) -> float:
    """The ball's volume by counting."""
    k, j, i = np.indices(shape)
    far = (k - shape[0] / 2) ** 2 + (j - shape[1] / 2) ** 2 + (i - shape[2] / 2) ** 2
    return float((far < (min(shape) / 3) ** 2).sum() * 2.0 * 1.5 * 1.0 / 1000)


def start(*words: str | Path) -> subprocess.Popen[bytes]:
    """``hounsfield run ...`` in a process of its own."""
    command = [sys.executable, "-m", "hounsfield", "run", *(str(word) for word in words)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def workers_of(pid: int) -> list[int]:
    """Process ids of the workers that a run started."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if parent == pid and b"hounsfield.usecases.worker" in words:
            found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(what: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait for a fact, or fail."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@dataclass
class Watcher:
    """Looks at the workers of this process from outside, as often as it can."""

    peaks: dict[int, int] = field(default_factory=dict)
    most_at_once: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Watcher:
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def peak_bytes(self) -> int:
        """The largest resident memory of any worker with its children."""
        return max(self.peaks.values(), default=0)

    def _look(self) -> None:
        while not self._stop.wait(0.004):
            there = workers_of(os.getpid())
            self.most_at_once = max(self.most_at_once, len(there))
            for pid in there:
                self.peaks[pid] = max(self.peaks.get(pid, 0), tree_bytes(pid), _high_water(pid))


def _high_water(pid: int) -> int:
    """VmHWM: what the kernel itself saw, also between two looks."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
