"""The manifest's ``[[output.clean_up]]`` steps, on labels of the scan's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.packages.manifest import CleanUp, KeepLargest, KeepNearest, RemoveSmall
from hounsfield.volume import Geometry, LabelMap

Point = tuple[float, float, float]


def clean_up(labels: LabelMap, steps: Sequence[CleanUp], point_mm: Point | None = None) -> LabelMap:
    """Apply the steps in order; 26-connectivity; ties in size keep the component met first.

    Parameters
    ----------
    point_mm
        The LPS point whose surroundings were read; without one ``keep-nearest`` keeps everything.
    """
    if not steps:
        return labels
    array = np.array(labels.array)
    for step in steps:
        if isinstance(step, KeepLargest):
            groups = [step.segments] if step.joined else [(number,) for number in step.segments]
            for group in groups:
                _drop(array, group, keep_largest=True, least_voxels=0.0)
        elif isinstance(step, KeepNearest):
            for number in step.segments if point_mm is not None else ():
                _keep_nearest(array, number, labels.geometry, point_mm or (0.0, 0.0, 0.0), step.within_mm)
        elif isinstance(step, RemoveSmall):
            least = step.volume_mm3 / labels.geometry.voxel_volume_mm3
            for number in step.segments:
                _drop(array, (number,), keep_largest=False, least_voxels=least)
    return LabelMap(array, labels.geometry)


def _drop(array: NDArray[Any], numbers: Sequence[int], keep_largest: bool, least_voxels: float) -> None:
    """Set components of the union of ``numbers`` to background, in place, in their bounding box."""
    from scipy import ndimage

    box = _box(array, numbers)
    if box is None:
        return
    part = array[box]
    mask = np.isin(part, numbers)
    components, count = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    sizes[0] = 0
    keep = sizes >= least_voxels
    if keep_largest:
        keep[:] = False
        keep[int(sizes.argmax())] = True
    keep[0] = True
    part[~keep[components]] = 0


def _keep_nearest(array: NDArray[Any], number: int, geometry: Geometry, point_mm: Point, within_mm: float) -> None:
    """Keep the component of ``number`` whose nearest voxel centre is nearest to the point, in place."""
    from scipy import ndimage

    box = _box(array, (number,))
    if box is None:
        return
    part = array[box]
    components, _ = ndimage.label(part == number, np.ones((3, 3, 3)))
    voxels = np.argwhere(components > 0)
    start = [one.start for one in box]
    distances = np.linalg.norm(geometry.index_to_mm(voxels + start) - np.asarray(point_mm), axis=1)
    nearest = int(distances.argmin())
    kept = int(components[tuple(voxels[nearest])]) if distances[nearest] <= within_mm else -1
    part[(components > 0) & (components != kept)] = 0


def _box(array: NDArray[Any], numbers: Sequence[int]) -> tuple[slice, slice, slice] | None:
    """The bounding box of the numbered voxels, slice by slice so that no whole mask is held."""
    rows = np.zeros(array.shape[1], bool)
    columns = np.zeros(array.shape[2], bool)
    slices = np.zeros(array.shape[0], bool)
    for k in range(array.shape[0]):
        mask = np.isin(array[k], numbers)
        if mask.any():
            slices[k] = True
            rows |= mask.any(axis=1)
            columns |= mask.any(axis=0)
    if not slices.any():
        return None
    spans = [slice(int(used[0]), int(used[-1]) + 1) for used in map(np.flatnonzero, (slices, rows, columns))]
    return (spans[0], spans[1], spans[2])
