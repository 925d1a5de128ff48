"""One window of a prepared scan: its middle, or the surroundings of a point."""

from __future__ import annotations

from collections.abc import Sequence

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
    inner, outer = _overlap(start, window, prepared.shape)
    out = np.full((len(prepared.channels), *window), pad_value, np.float32)
    out[(slice(None), *outer)] = prepared.read((inner[0], inner[1], inner[2]))
    return out


def cut(values: NDArray[np.float32], start: Sequence[int], window: Shape, pad_value: float) -> NDArray[np.float32]:
    """(n, k, j, i) of the window's shape from an array (n, ...) in memory; ``pad_value`` where it leaves it."""
    inner, outer = _overlap(start, window, values.shape[1:])
    out = np.full((len(values), *window), pad_value, np.float32)
    out[(slice(None), *outer)] = values[(slice(None), *inner)]
    return out


def put_back(found: NDArray[np.float32], shape: Shape) -> NDArray[np.float32]:
    """(k, j, i) of ``shape`` with a window's values in its middle, where :func:`window_at` took it; 0 elsewhere."""
    start = [round((have - 1) / 2 - (size - 1) / 2) for have, size in zip(shape, found.shape, strict=True)]
    k, j, i = found.shape
    inner, outer = _overlap(start, (k, j, i), shape)
    out = np.zeros(shape, np.float32)
    out[tuple(inner)] = found[tuple(outer)]
    return out


def _overlap(start: Sequence[int], window: Shape, shape: Sequence[int]) -> tuple[list[slice], list[slice]]:
    """Where a window meets an array: slices of the array, and of the window."""
    inner, outer = [], []
    for first, size, whole in zip(start, window, shape, strict=True):
        low, high = max(0, first), max(0, min(whole, first + size))
        inner.append(slice(low, max(low, high)))
        outer.append(slice(low - first, low - first + max(0, high - low)))
    return inner, outer
