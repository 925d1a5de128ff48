"""Distances between the surfaces of two masks, in millimetres.

The surface of a mask is the set of its voxels with a face neighbour outside the mask; what
lies beyond the array counts as outside. Distances go between voxel centres and respect
anisotropic spacing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.evaluation.overlap import Mask

_VOXELS_PER_POINT: Final = 10


def surface_distances_mm(
    found: Mask, reference: Mask, spacing_mm: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance of each surface voxel of one mask to the nearest of the other, both ways.

    Parameters
    ----------
    found, reference
        (slices, rows, columns) bool, neither empty.
    spacing_mm
        Voxel spacing (k, j, i).
    """
    box = _joint_box(found, reference)
    surfaces = [_surface(mask[box]) for mask in (found, reference)]
    points = [np.argwhere(surface) for surface in surfaces]
    if _VOXELS_PER_POINT * (len(points[0]) + len(points[1])) < surfaces[0].size:
        return _by_tree(points[0], points[1], spacing_mm), _by_tree(points[1], points[0], spacing_mm)
    from scipy import ndimage

    to_reference = ndimage.distance_transform_edt(~surfaces[1], sampling=spacing_mm)[surfaces[0]]
    to_found = ndimage.distance_transform_edt(~surfaces[0], sampling=spacing_mm)[surfaces[1]]
    return to_reference, to_found


def surface_scores(
    found: Mask, reference: Mask, spacing_mm: Sequence[float], tolerance_mm: float
) -> tuple[float, float]:
    """HD95 in mm and surface Dice, as the two functions below give them, from one search."""
    if not found.any() or not reference.any():
        return (0.0, 1.0) if found.any() == reference.any() else (math.inf, 0.0)
    one, other = surface_distances_mm(found, reference, spacing_mm)
    return _hd95(one, other), _near(one, other, tolerance_mm)


def hausdorff95_mm(found: Mask, reference: Mask, spacing_mm: Sequence[float]) -> float:
    """Larger of the two directed 95th percentiles of surface distance, mm.

    0 when both masks are empty, infinite when only one is.
    """
    return surface_scores(found, reference, spacing_mm, 0.0)[0]


def surface_dice(found: Mask, reference: Mask, spacing_mm: Sequence[float], tolerance_mm: float) -> float:
    """Share of surface voxels of both masks within ``tolerance_mm`` of the other surface.

    Normalised surface Dice after Nikolov 2018, counted per surface voxel. 1 when both masks
    are empty, 0 when only one is.
    """
    return surface_scores(found, reference, spacing_mm, tolerance_mm)[1]


def _hd95(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(max(np.percentile(one, 95), np.percentile(other, 95)))


def _near(one: NDArray[np.float64], other: NDArray[np.float64], tolerance_mm: float) -> float:
    """Share within the tolerance; what is above it by rounding alone counts as within."""
    limit = tolerance_mm * (1 + 1e-9)
    return (int((one <= limit).sum()) + int((other <= limit).sum())) / (one.size + other.size)


def _surface(mask: Mask) -> Mask:
    """Voxels of the mask with a face neighbour outside it."""
    padded = np.pad(mask, 1)
    inner = padded[2:, 1:-1, 1:-1] & padded[:-2, 1:-1, 1:-1]
    for axis in (1, 2):
        low, high = [slice(1, -1)] * 3, [slice(1, -1)] * 3
        low[axis], high[axis] = slice(None, -2), slice(2, None)
        inner &= padded[tuple(low)] & padded[tuple(high)]
    edge: Mask = mask & ~inner
    return edge


def _by_tree(points: NDArray[np.intp], targets: NDArray[np.intp], spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """Distance of each point to its nearest target, from whole-voxel steps and so without rounding of places."""
    from scipy.spatial import cKDTree

    spacing = np.asarray(spacing_mm, dtype=np.float64)
    _, nearest = cKDTree(targets * spacing).query(points * spacing)
    distance: NDArray[np.float64] = np.sqrt((((points - targets[nearest]) * spacing) ** 2).sum(axis=1))
    return distance


def _joint_box(found: Mask, reference: Mask) -> tuple[slice, ...]:
    either = found | reference
    box = []
    for axis in range(3):
        used = np.flatnonzero(either.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(box)
