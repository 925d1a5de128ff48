"""Memory-mapped scans: let pages go that were read, so that a scan on disk stays on disk."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray


def release(array: NDArray[Any] | None) -> None:
    """Let the resident pages of a file-backed array go; touched again, they come back from the file.

    Does nothing for arrays in memory, nor for copy-on-write maps, whose changes would be lost.
    Changes to a shared map are kept by the operating system and still reach the file.
    """
    part: Any = array
    while part is not None and not isinstance(part, np.memmap):
        part = getattr(part, "base", None)
    if part is None or part.mode not in ("r", "r+", "w+"):
        return
    base: Any = part
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    if base is not None:
        base.madvise(mmap.MADV_DONTNEED)
