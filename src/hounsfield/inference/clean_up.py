"""The manifest's ``[[output.clean_up]]`` steps, on labels of the scan's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.packages.manifest import CleanUp, KeepLargest, RemoveSmall
from hounsfield.volume import LabelMap


def clean_up(labels: LabelMap, steps: Sequence[CleanUp]) -> LabelMap:
    """Apply the steps in order; 26-connectivity; ties in size keep the component met first."""
    if not steps:
        return labels
    array = np.array(labels.array)
    for step in steps:
        if isinstance(step, KeepLargest):
            groups = [step.segments] if step.joined else [(number,) for number in step.segments]
            for group in groups:
                _drop(array, group, keep_largest=True, least_voxels=0.0)
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
