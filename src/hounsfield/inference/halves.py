"""float16 and back, vectorised: NumPy converts one value at a time, many times slower.

A float32 times 2**-112 has the exponent of the float16 of the same value, subnormals included, so
that its bits need only be rounded and shifted (F. Giesen, "float->half variants", 2012).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHRINK = np.float32(2.0**-112)
GROW = np.float32(2.0**112)

_HALF_UNIT = np.uint32(0x1000)
_SHIFT = np.uint32(13)
_SIGN_SHIFT = np.uint32(16)
_MAGNITUDE = np.uint32(0x7FFF)
_SIGN = np.uint32(0x8000)
_INFINITE = 0x7C00


def to_half(shrunk: NDArray[np.float32], out: NDArray[np.float16]) -> bool:
    """Write the float16 of values that were multiplied by ``SHRINK``, rounded to nearest.

    Parameters
    ----------
    shrunk
        Contiguous float32; it is used up.
    out
        float16 of the same shape, any layout.

    Returns
    -------
    Whether all values are finite and fit.
    """
    bits = shrunk.view(np.uint32)
    sign = bits >> _SIGN_SHIFT
    sign &= _SIGN
    bits &= np.uint32(0x7FFFFFFF)
    bits += _HALF_UNIT
    bits >>= _SHIFT
    fits = int(bits.max(initial=0)) < _INFINITE
    bits |= sign
    out.view(np.uint16)[...] = bits
    return fits


def from_half(half: NDArray[np.float16]) -> NDArray[np.float32]:
    """Contiguous float32 of float16 values, divided by ``GROW``: multiply by it to have them."""
    bits = half.view(np.uint16).astype(np.uint32, order="C")
    sign = bits & _SIGN
    sign <<= _SIGN_SHIFT
    bits &= _MAGNITUDE
    bits <<= _SHIFT
    bits |= sign
    return bits.view(np.float32)
