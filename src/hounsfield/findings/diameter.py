"""Diameters of voxel sets, exact, in millimetres.

Convention: a diameter is the largest distance between two voxel *centres* of the set (so it is
about one voxel smaller than the distance between the outer faces). The axial long axis is the
largest such distance within one slice across the index axis that is nearest to the patient's
head-foot axis; the short axis is the extent of that slice's voxel centres at right angles to
the long axis (as in RECIST 1.1, Eisenhauer et al. 2009, measured between centres). Where
several long axes are equally long, the one with the largest short axis counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.volume import Geometry

_HULL_FROM: Final = 512
_CHUNK: Final = 1024
_TIE_MM: Final = 1e-6

Points = NDArray[np.float64]


@dataclass(frozen=True)
class AxialDiameters:
    """Long axis and perpendicular short axis of one slice, mm; ``slice_index`` along the axis."""

    long_mm: float
    short_mm: float
    slice_index: int


def outer_voxels(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Indices (n, 3) of the voxels that end a row along every axis.

    The distance from any point is strictly convex along a row, so the two ends of every
    longest diameter, and every extreme in any direction, are among these voxels.
    """
    keep = mask.copy()
    for axis in range(mask.ndim):
        index = np.arange(mask.shape[axis]).reshape([-1 if a == axis else 1 for a in range(mask.ndim)])
        first = np.expand_dims(mask.argmax(axis), axis)
        last = mask.shape[axis] - 1 - np.expand_dims(np.flip(mask, axis).argmax(axis), axis)
        keep &= (index == first) | (index == last)
    return np.argwhere(keep)


def longest_diameter_mm(points_mm: Points) -> float:
    """The largest distance between any two of the points (n, 3) mm; 0 for a single one."""
    corners = _hull(points_mm)
    best = 0.0
    for start in range(0, len(corners), _CHUNK):
        best = max(best, float(_distances(corners[start : start + _CHUNK], corners).max()))
    return best


def axial_diameters(mask: NDArray[np.bool_], geometry: Geometry) -> AxialDiameters | None:
    """Long and short axis in the axial slice where the long axis is largest.

    Parameters
    ----------
    mask
        (slices, rows, columns).
    geometry
        Of ``mask``.

    Returns
    -------
    AxialDiameters or None
        ``None`` if no slice holds two voxels.
    """
    axis = int(np.abs(geometry.direction[2]).argmax())
    others = [n for n in range(3) if n != axis]
    plane = _plane_basis(geometry.affine[:3, others])
    slices = np.moveaxis(mask, axis, 0)
    bounds = [_diagonal_mm(one, plane) for one in slices]
    best: AxialDiameters | None = None
    for number in np.argsort(bounds)[::-1]:
        if bounds[number] == 0.0 or (best and bounds[number] < best.long_mm - _TIE_MM):
            break
        long, short = _long_and_short(outer_voxels(slices[number]) @ plane.T)
        gain = long - (best.long_mm if best else 0.0)
        if best is None or gain > _TIE_MM or (gain > -_TIE_MM and short > best.short_mm):
            best = AxialDiameters(long, short, int(number))
    return best


def _plane_basis(axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2, 2) map from the two index steps to mm in an orthonormal basis of their plane."""
    first = axes[:, 0] / np.linalg.norm(axes[:, 0])
    second = axes[:, 1] - first * (first @ axes[:, 1])
    second /= np.linalg.norm(second)
    return np.array([first @ axes, second @ axes])


def _diagonal_mm(one: NDArray[np.bool_], plane: NDArray[np.float64]) -> float:
    """An upper bound of the diameter of a (rows, columns) mask, mm."""
    rows, columns = np.flatnonzero(one.any(1)), np.flatnonzero(one.any(0))
    if rows.size == 0:
        return 0.0
    steps = np.array([np.ptp(rows), np.ptp(columns)], dtype=np.float64)
    return float(max(np.linalg.norm(plane @ steps), np.linalg.norm(plane @ (steps * (1, -1)))))


def _long_and_short(points: Points) -> tuple[float, float]:
    """Largest distance between points (n, 2), and the largest extent across such a pair."""
    corners = _hull(points)
    distance = _distances(corners, corners)
    longest = float(distance.max())
    if longest == 0.0:
        return 0.0, 0.0
    short = 0.0
    for a, b in np.argwhere(np.triu(distance) >= longest - _TIE_MM):
        x, y = (corners[b] - corners[a]) / longest
        across = corners @ np.array([-y, x])
        short = max(short, float(np.ptp(across)))
    return longest, short


def _distances(a: Points, b: Points) -> NDArray[np.float64]:
    squared = np.zeros((len(a), len(b)))
    for axis in range(a.shape[1]):
        squared += np.subtract.outer(a[:, axis], b[:, axis]) ** 2
    return np.sqrt(squared)


def _hull(points: Points) -> Points:
    """The corners of the convex hull, or all points where they are few or lie in a plane."""
    if len(points) <= _HULL_FROM:
        return points
    from scipy.spatial import ConvexHull, QhullError

    try:
        hull: Any = ConvexHull(points)
    except QhullError:
        return points
    corners: Points = points[hull.vertices]
    return corners
