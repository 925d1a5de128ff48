"""One window of a prepared scan: its middle, or the surroundings of a point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hounsfield.preparing.prepared import Prepared
from hounsfield.volume import Shape


def window_at(
    prepared: Prepared, window: Shape, point_mm: tuple[float, float, float] | None, pad_value: float
) -> NDArray[np.float32]:
    """(channels, k, j, i) float32 of exactly the window's shape; ``pad_value`` where it leaves the scan.

    Parameters
    ----------
    point_mm
        LPS point that the window is centred on, to the nearest voxel; ``None`` for the middle of the
        scan, rounded as training rounds it.
    """
    shape = np.asarray(prepared.shape)
    centre = (shape - 1) / 2 if point_mm is None else prepared.geometry.mm_to_index(point_mm)
    start = [round(float(c) - (n - 1) / 2) for c, n in zip(centre, window, strict=True)]
    inner, outer = [], []
    for first, size, whole in zip(start, window, prepared.shape, strict=True):
        low, high = max(0, first), max(0, min(whole, first + size))
        inner.append(slice(low, max(low, high)))
        outer.append(slice(low - first, low - first + max(0, high - low)))
    out = np.full((len(prepared.channels), *window), pad_value, np.float32)
    out[(slice(None), outer[0], outer[1], outer[2])] = prepared.read((inner[0], inner[1], inner[2]))
    return out
