"""Give freed memory back to the system at once, where a budget is tight.

The C library keeps freed blocks of up to 32 MiB for later; with tensors of changing sizes that
made the peak of a small 3-D training 1.8 times what was alive. Fixing the threshold from which blocks
are mapped (mallopt, M_MMAP_THRESHOLD) ends that, for some time in page faults.
"""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD = -3
_FROM_BYTES = 2**20


def return_memory_at_once() -> bool:
    """Map blocks of 1 MiB and more, for the rest of the process; False where the C library cannot."""
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _FROM_BYTES))
    except (OSError, AttributeError):
        return False
