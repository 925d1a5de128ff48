"""Whether numbers are finite, in bounded memory, for formats with and without a NumPy dtype."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

_BLOCK_BYTES = 8 * 1024**2
#: dtype name -> (unsigned view, mask of the exponent bits, mask of the mantissa bits)
_LAYOUT = {
    "f8": ("<u8", 0x7FF0000000000000, 0x000FFFFFFFFFFFFF),
    "f4": ("<u4", 0x7F800000, 0x007FFFFF),
    "f2": ("<u2", 0x7C00, 0x03FF),
    "bf2": ("<u2", 0x7F80, 0x007F),
}


def all_finite(path: Path, kind: str, offset: int, length: int, *, infinity: bool) -> bool:
    """Whether ``length`` bytes of ``path`` from ``offset`` hold no NaN (and no infinity).

    Parameters
    ----------
    kind
        ``f8``, ``f4``, ``f2`` or ``bf2`` (little endian, IEEE 754 or bfloat16).
    infinity
        Whether infinity is allowed.
    """
    with path.open("rb") as file:
        file.seek(offset)
        while length > 0:
            block = file.read(min(_BLOCK_BYTES, length))
            if not block or not finite_bytes(block, kind, infinity=infinity):
                return False
            length -= len(block)
    return True


def finite_bytes(data: bytes, kind: str, *, infinity: bool) -> bool:
    """The same for bytes in memory (a whole number of items)."""
    view, exponent, mantissa = _LAYOUT[kind]
    bits: npt.NDArray[np.unsignedinteger] = np.frombuffer(data, view)
    special = (bits & bits.dtype.type(exponent)) == bits.dtype.type(exponent)
    if not special.any():
        return True
    return infinity and not bool((bits[special] & bits.dtype.type(mantissa)).any())
