"""Who holds a job, and whether he is still there: judged without comparing two clocks.

The holder counts ``beats`` in the row; a lease is stale when an observer has seen the same count
for ``lease_s`` on his own monotonic clock, or when the holder was a process of this machine that
is gone. A holder that was only slow finds his ``fence`` passed and can change nothing more.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_UNKNOWN: Final = "unknown"


def this_process() -> str:
    """The name of this process, which no other process ever has."""
    return "/".join((_place(), str(os.getpid()), _started(os.getpid())))


def is_gone(owner: str) -> bool:
    """Whether an owner was a process of this machine that runs no more; of others nothing is known."""
    *place, pid, started = owner.split("/")
    return "/".join(place) == _place() and pid.isdigit() and _started(int(pid)) != started


def _place() -> str:
    """Machine, boot, and name space of process ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]")
    except OSError:
        boot = space = _UNKNOWN
    return "/".join((socket.gethostname().replace("/", "-"), boot, space))


def _started(pid: int) -> str:
    """Start time of a process in clock ticks after boot; empty if it is gone or a zombie (proc(5))."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


@dataclass(frozen=True)
class Held:
    """A lease as its row shows it."""

    id: int
    owner: str
    fence: int
    beats: int


@dataclass
class Observer:
    """Remembers when each lease last showed life.

    Parameters
    ----------
    lease_s
        How long a holder may be silent.
    """

    lease_s: float
    _seen: dict[tuple[int, int], tuple[int, float]] = field(default_factory=dict)

    def stale(self, held: Iterable[Held]) -> list[Held]:
        """Those whose holder is gone or has been silent for too long."""
        now, seen, found = time.monotonic(), {}, []
        for one in held:
            key = (one.id, one.fence)
            beats, since = self._seen.get(key, (-1, now))
            seen[key] = (one.beats, since if beats == one.beats else now)
            if is_gone(one.owner) or now - seen[key][1] > self.lease_s:
                found.append(one)
        self._seen = seen
        return found
