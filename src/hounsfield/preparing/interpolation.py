"""Resampling along one axis as a small matrix: linear, cubic B-spline, and nearest.

Voxel ``o`` of the new axis lies at ``(o + 0.5) * old / new - 0.5`` on the old one, so that the
outer faces of both grids coincide (the convention of :meth:`Geometry.resampled`, of ITK's
half-voxel buffer, and of SciPy's ``grid_mode=True``). Beyond the first and last voxel centre
linear interpolation holds the edge value and cubic mirrors, both as SimpleITK does. ``cubic-edge`` holds
the edge value too, and ``nearest-up`` is the nearest voxel with ties to the upper one, both as SciPy's
``zoom`` and ``map_coordinates`` with ``mode="nearest"`` do.

A grid is resampled axis by axis: interpolation by a tensor product is separable, so three
products with these matrices equal the 3-D formula (Unser, IEEE Signal Process. Mag. 16, 1999).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Interpolation = Literal["linear", "cubic", "cubic-edge", "area", "nearest", "nearest-up"]

#: Voxels by which SciPy extends an axis before it fits a spline (``_prepad_for_spline_filter``).
_EDGE = 12
# The inverse of the cubic B-spline filter decays by 2 - sqrt(3) a voxel; 1e-9 is far below float32.
_NEGLIGIBLE = 1e-9
_ROWS_PER_BLOCK = 64


def positions(old: int, new: int) -> NDArray[np.float64]:
    """Where the ``new`` voxel centres lie on an axis of ``old`` voxels, (new,) float64."""
    return (np.arange(new, dtype=np.float64) + 0.5) * (old / new) - 0.5


@lru_cache(maxsize=32)
def weights(old: int, new: int, kind: Interpolation) -> NDArray[np.float64]:
    """The (new, old) float64 matrix that resamples an axis; read-only. Rows sum to 1."""
    if old == new:
        matrix = np.eye(old)
    elif kind == "cubic" and old > 1:
        matrix = _cubic(old, new)
    elif kind == "cubic-edge":
        matrix = _cubic_edge(old, new)
    elif kind == "area" and new < old:
        matrix = _area(old, new)
    elif kind in ("nearest", "nearest-up"):
        matrix = np.zeros((new, old))
        matrix[np.arange(new), nearest(old, new, up=kind == "nearest-up")] = 1
    else:
        matrix = linear_taps(old, new).matrix(old)
    matrix.setflags(write=False)
    return matrix


def _area(old: int, new: int) -> NDArray[np.float64]:
    """The mean over the part of the old axis that each new voxel covers (shrinking without aliasing)."""
    edges = np.arange(new + 1) * (old / new)
    low, high = edges[:-1, None], edges[1:, None]
    cells = np.arange(old)
    covered = np.clip(np.minimum(high, cells + 1) - np.maximum(low, cells), 0, None)
    matrix: NDArray[np.float64] = covered / covered.sum(axis=1, keepdims=True)
    return matrix


def nearest(old: int, new: int, up: bool = False) -> NDArray[np.intp]:
    """For each new voxel the nearest old one; a tie goes to the lower index, or with ``up`` to the upper."""
    if up:
        return np.clip(np.floor(positions(old, new) + 0.5), 0, old - 1).astype(np.intp)
    return np.clip(np.ceil(positions(old, new) - 0.5), 0, old - 1).astype(np.intp)


@dataclass(frozen=True, eq=False)
class Taps:
    """Linear interpolation of an axis: ``(1 - fraction) * x[low] + fraction * x[high]``.

    ``low`` and ``high`` are (new,) indices that never decrease; ``fraction`` is float64.
    """

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    fraction: NDArray[np.float64]

    def ready(self, known: int) -> int:
        """How many new voxels need only the first ``known`` old ones."""
        return int(np.searchsorted(self.high, known, side="left"))

    def matrix(self, old: int) -> NDArray[np.float64]:
        """The (new, old) matrix of these neighbours."""
        matrix, lines = np.zeros((len(self.low), old)), np.arange(len(self.low))
        np.add.at(matrix, (lines, self.low), 1 - self.fraction)
        np.add.at(matrix, (lines, self.high), self.fraction)
        return matrix


def linear_taps(old: int, new: int) -> Taps:
    """The two neighbours of each new voxel and the weight of the upper one."""
    at = np.clip(positions(old, new), 0, old - 1)
    low = np.minimum(np.floor(at).astype(np.intp), old - 1)
    fraction = at - low
    high = np.where(fraction > 0, np.minimum(low + 1, old - 1), low)
    return Taps(low, high, fraction)


def nearest_taps(old: int, new: int) -> Taps:
    """The nearest voxel of each new one, ties to the upper one, as taps."""
    at = nearest(old, new, up=True)
    return Taps(at, at, np.zeros(new))


def _cubic(old: int, new: int) -> NDArray[np.float64]:
    """Interpolating cubic B-spline with whole-sample mirroring at both ends."""
    return _spline(old, positions(old, new))


def _cubic_edge(old: int, new: int) -> NDArray[np.float64]:
    """Interpolating cubic B-spline of the axis with its edge values repeated beyond both ends."""
    wide = old + 2 * _EDGE
    at = np.clip(positions(old, new), -_EDGE + 1, old + _EDGE - 2)
    spread = _spline(wide, at + _EDGE)
    matrix = spread[:, _EDGE : _EDGE + old].copy()
    matrix[:, 0] += spread[:, :_EDGE].sum(axis=1)
    matrix[:, -1] += spread[:, _EDGE + old :].sum(axis=1)
    return matrix


def _spline(old: int, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """The (len(at), old) matrix of the interpolating spline at positions ``at``, mirrored at both ends."""
    fit = np.zeros((old, old))
    rows = np.arange(old)
    for offset, weight in ((-1, 1 / 6), (0, 4 / 6), (1, 1 / 6)):
        np.add.at(fit, (rows, _mirror(rows + offset, old)), weight)
    base = np.floor(at).astype(np.intp)
    t = at - base
    values = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    new = np.arange(len(at))
    spread = np.zeros((len(at), old))
    for offset, value in zip((-1, 0, 1, 2), values, strict=True):
        np.add.at(spread, (new, _mirror(base + offset, old)), value / 6)
    matrix = np.asarray(np.linalg.solve(fit.T, spread.T).T, dtype=np.float64)
    matrix[np.abs(matrix) < _NEGLIGIBLE] = 0
    return matrix


def _mirror(index: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    period = 2 * (n - 1)
    folded = np.mod(index, period)
    return np.where(folded < n, folded, period - folded)


def reach(old: int, new: int, kind: Interpolation, start: int, stop: int) -> tuple[int, int]:
    """The range of old voxels that the new voxels [start, stop) depend on."""
    if old == new:
        return start, stop
    used = np.flatnonzero(weights(old, new, kind)[start:stop].any(axis=0))
    return int(used[0]), int(used[-1]) + 1


def resample_axis(
    array: NDArray[Any], axis: int, matrix: NDArray[np.float64], out_dtype: type[np.floating[Any]] = np.float32
) -> NDArray[Any]:
    """Multiply one axis of an array by a banded matrix, in float32 (or ``out_dtype``).

    Parameters
    ----------
    array
        Any shape; ``array.shape[axis]`` equals ``matrix.shape[1]``.
    matrix
        (new, old); zeros far from the diagonal are skipped block by block.

    Returns
    -------
    The array with ``new`` voxels along ``axis``, in C order.
    """
    moved = array.reshape(
        int(np.prod(array.shape[:axis], dtype=int)), array.shape[axis], int(np.prod(array.shape[axis + 1 :], dtype=int))
    ).astype(out_dtype, copy=False)
    out = np.empty((moved.shape[0], matrix.shape[0], moved.shape[2]), out_dtype)
    for start in range(0, matrix.shape[0], _ROWS_PER_BLOCK):
        rows = matrix[start : start + _ROWS_PER_BLOCK]
        used = np.flatnonzero(rows.any(axis=0))
        low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        block = rows[:, low:high].astype(out_dtype)
        if moved.shape[2] == 1:
            out[:, start : start + len(rows), 0] = moved[:, low:high, 0] @ block.T
        else:
            np.matmul(block, moved[:, low:high], out=out[:, start : start + len(rows)])
    return out.reshape(*array.shape[:axis], matrix.shape[0], *array.shape[axis + 1 :])
