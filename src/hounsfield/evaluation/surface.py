"""Distances between the surfaces of two masks, in millimetres.

The surface of a mask is the set of its voxels with a face neighbour outside the mask; what
lies beyond the array counts as outside. Distances go between voxel centres and respect
anisotropic spacing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hounsfield.evaluation.overlap import Mask


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
    from scipy import ndimage

    box = _joint_box(found, reference)
    surfaces = []
    for mask in (found[box], reference[box]):
        padded = np.pad(mask, 1)
        inner = ndimage.binary_erosion(padded, ndimage.generate_binary_structure(3, 1))
        surfaces.append(padded & ~inner)
    to_reference = ndimage.distance_transform_edt(~surfaces[1], sampling=spacing_mm)[surfaces[0]]
    to_found = ndimage.distance_transform_edt(~surfaces[0], sampling=spacing_mm)[surfaces[1]]
    return to_reference, to_found


def hausdorff95_mm(found: Mask, reference: Mask, spacing_mm: Sequence[float]) -> float:
    """Larger of the two directed 95th percentiles of surface distance, mm.

    0 when both masks are empty, infinite when only one is.
    """
    if not found.any() or not reference.any():
        return 0.0 if found.any() == reference.any() else math.inf
    one, other = surface_distances_mm(found, reference, spacing_mm)
    return float(max(np.percentile(one, 95), np.percentile(other, 95)))


def surface_dice(found: Mask, reference: Mask, spacing_mm: Sequence[float], tolerance_mm: float) -> float:
    """Share of surface voxels of both masks within ``tolerance_mm`` of the other surface.

    Normalised surface Dice after Nikolov 2018, counted per surface voxel. 1 when both masks
    are empty, 0 when only one is.
    """
    if not found.any() or not reference.any():
        return 1.0 if found.any() == reference.any() else 0.0
    one, other = surface_distances_mm(found, reference, spacing_mm)
    near = int((one <= tolerance_mm).sum()) + int((other <= tolerance_mm).sum())
    return near / (one.size + other.size)


def _joint_box(found: Mask, reference: Mask) -> tuple[slice, ...]:
    either = found | reference
    box = []
    for axis in range(3):
        used = np.flatnonzero(either.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(box)
