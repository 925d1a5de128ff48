"""How much memory, time and structure one untrusted input may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB


@dataclass(frozen=True)
class Limits:
    """Bounds on reading; what passes them raises ``LimitExceeded`` naming the file.

    Parameters
    ----------
    volume_bytes
        Largest decoded volume or time series, bytes; the declared size is checked before
        anything is allocated.
    headroom_bytes
        Address space that a parsing process may take beyond what it starts with and beyond
        the decoded volume, bytes.
    header_bytes
        Largest header (everything before the pixels) of one file, also after inflating, bytes.
    cpu_s, wall_s
        Processor and wall time for one scan or one load, seconds.
    depth
        Deepest nesting of sequences.
    elements
        Most data elements in the header of one file.
    files
        Most files looked at in one folder or archive.
    archive_bytes, archive_ratio
        Most bytes unpacked from one archive, and most bytes unpacked for each byte packed.
    threads
        Decoding threads; 0 means one for each processor that this process may use.
    """

    volume_bytes: int = 16 * GIB
    headroom_bytes: int = 2 * GIB
    header_bytes: int = 256 * MIB
    cpu_s: int = 1800
    wall_s: float = 900.0
    depth: int = 16
    elements: int = 1_000_000
    files: int = 200_000
    archive_bytes: int = 32 * GIB
    archive_ratio: int = 200
    threads: int = 0
