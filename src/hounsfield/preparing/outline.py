"""Where a scan is not 0: the box around it, and its outline with holes filled (nnU-Net's cropping)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.preparing.steps import CropPad

Mask = NDArray[np.bool_]


def non_zero(arrays: Sequence[NDArray[Any]], paddings: Sequence[Mask | None]) -> Mask:
    """Voxels that are not 0, and measured, in any channel: (k, j, i) bool."""
    mask = np.zeros(arrays[0].shape, np.bool_)
    for array, padding in zip(arrays, paddings, strict=True):
        for k in range(len(mask)):
            here = array[k] != 0
            mask[k] |= here if padding is None else here & ~padding[k]
    return mask


def box_of(mask: Mask) -> CropPad | None:
    """The smallest box that holds all True voxels; ``None`` where that is everything or nothing."""
    lows, highs = [], []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        found = np.flatnonzero(mask.any(axis=others))
        if len(found) == 0:
            return None
        lows.append(int(found[0]))
        highs.append(int(found[-1]) + 1)
    k, j, i = (high - low for low, high in zip(lows, highs, strict=True))
    return None if (k, j, i) == mask.shape else CropPad((lows[0], lows[1], lows[2]), (k, j, i))


def filled(mask: Mask) -> Mask:
    """The mask with its holes filled: voxels that no path through faces joins to the border."""
    from scipy.ndimage import binary_fill_holes

    whole: Mask = binary_fill_holes(mask)
    return whole
