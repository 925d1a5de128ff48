"""Processes that end with the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

_SET_DEATH_SIGNAL: Final = 1


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to end this process when its parent is gone (prctl(2), PR_SET_PDEATHSIG).

    Parameters
    ----------
    parent
        Who must still be the parent; if it has gone already, this process ends at once.
    """
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


class StopOnSignal:
    """Becomes true at SIGTERM or SIGINT."""

    def __init__(self) -> None:
        self._stopped = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def __call__(self) -> bool:
        return self._stopped

    def _stop(self, number: int, frame: object) -> None:
        self._stopped = True
