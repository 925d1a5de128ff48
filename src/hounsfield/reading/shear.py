"""A volume whose axes are not at right angles, resampled to one whose axes are; only on request."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import LimitExceeded
from hounsfield.reading.limits import Limits
from hounsfield.volume import Geometry, TimeSeries, Volume


def straightened(scan: Volume | TimeSeries, limits: Limits) -> Volume | TimeSeries:
    """Resample linearly to the nearest right-angled grid that covers the whole scan.

    Voxels that the scan does not cover get its smallest value and, in a `Volume`, are marked as
    padding. What was done is written into the provenance.

    Raises
    ------
    LimitExceeded
        If the grid would take more memory than allowed.
    """
    grid = right_angled(scan.geometry)
    volumes = 1 if isinstance(scan, Volume) else len(scan.times_s)
    size = math.prod(grid.shape) * volumes * scan.array.dtype.itemsize
    if size > limits.volume_bytes:
        fact = f"the repaired grid would take {size / 2**20:,.0f} MiB"
        raise LimitExceeded(fact, "raise the limit, or mend its affine")
    shape = " x ".join(str(n) for n in grid.shape)
    fact = f"its sheared axes were straightened by linear interpolation to {shape} voxels"
    if isinstance(scan, TimeSeries):
        array = np.stack([_resampled(part, scan.geometry, grid)[0] for part in scan.array])
        origins = tuple(origin.with_repair(fact) for origin in scan.provenance)
        return replace(scan, array=array, geometry=grid, provenance=origins)
    values, outside = _resampled(scan.array, scan.geometry, grid)
    return Volume(values, grid, scan.quantity, outside, scan.provenance.with_repair(fact))


def right_angled(geometry: Geometry) -> Geometry:
    """The grid of equal spacing with the nearest orthonormal axes that covers ``geometry``.

    The nearest orthonormal matrix to the unit axes is U V^T of their singular value
    decomposition (Schönemann, Psychometrika 31, 1966).
    """
    u, _, v = np.linalg.svd(geometry.direction)
    axes = (u @ v) * np.asarray(geometry.spacing_mm)
    corners = geometry.index_to_mm(list(itertools.product(*((0, n - 1) for n in geometry.shape))))
    along = np.linalg.solve(axes, corners.T)
    low = along.min(axis=1)
    k, j, i = (np.ceil(along.max(axis=1) - low - 1e-6).astype(int) + 1).tolist()
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = axes @ low
    return Geometry((k, j, i), affine, geometry.frame_of_reference_uid)


def _resampled(array: NDArray[Any], source: Geometry, grid: Geometry) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    from scipy import ndimage

    move = np.linalg.inv(source.affine) @ grid.affine
    corner = move[:3, 3]
    options = {"offset": corner, "output_shape": grid.shape, "order": 1, "mode": "nearest", "output": np.float64}
    values = ndimage.affine_transform(array.astype(np.float64), move[:3, :3], **options)
    places = [np.arange(n, dtype=np.float64) for n in grid.shape]
    outside = np.zeros(grid.shape, dtype=np.bool_)
    for axis, count in enumerate(source.shape):
        index = corner[axis] + sum(
            np.reshape(move[axis, n] * places[n], [-1 if m == n else 1 for m in range(3)]) for n in range(3)
        )
        outside |= (index < -1e-3) | (index > count - 1 + 1e-3)
    result = np.rint(values) if array.dtype.kind in "iu" else values
    result = np.where(outside, array.min(), result).astype(array.dtype)
    return result, outside if outside.any() else None
