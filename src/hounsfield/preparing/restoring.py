"""From the network's grid back to the scan's own: scores class by class, labels by the nearest.

Scores (logits or probabilities) are interpolated linearly, each class for itself, and only
then decided: a border keeps its sub-voxel place, which resampled labels would lose. Where the
grids differ only by axis order and flips nothing is interpolated and every voxel is kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.preparing.interpolation import resample_axis
from hounsfield.preparing.prepared import Prepared
from hounsfield.volume import LabelMap


def source_view(array: NDArray[Any], prepared: Prepared) -> NDArray[Any]:
    """A view of an array on the scan's grid, indexed by the network's axes (a writable window).

    Where the package crops, it is the part inside the crop.

    Parameters
    ----------
    array
        (slices, rows, columns) on ``prepared.source``.
    """
    turned = prepared.orient.apply(array, prepared.source)
    if prepared.crop is None:
        return turned
    box = zip(prepared.crop.start, prepared.crop.shape, strict=True)
    return turned[tuple(slice(first, first + size) for first, size in box)]


def restore_labels(labels: NDArray[Any], prepared: Prepared) -> LabelMap:
    """Labels of the network's grid on the scan's own grid, each voxel from its nearest.

    Parameters
    ----------
    labels
        (k, j, i) unsigned integers on ``prepared.geometry``.

    Returns
    -------
    Labels of the same dtype on ``prepared.source``, in C order.
    """
    if prepared.resample is not None:
        labels = prepared.resample.invert(labels, prepared.oriented)
    restored = _uncropped(labels, prepared)
    return LabelMap(np.ascontiguousarray(restored), prepared.source)


def restore_scores(scores: NDArray[np.float32], prepared: Prepared) -> NDArray[np.float32]:
    """Scores of the network's grid on the scan's own grid, linear class by class.

    Parameters
    ----------
    scores
        (classes, k, j, i) float32 on ``prepared.geometry``; logits or probabilities.

    Returns
    -------
    (classes, slices, rows, columns) float32 on ``prepared.source``.
    """
    out = np.empty((len(scores), *prepared.source.shape), np.float32)
    matrices = [
        None if taps is None else taps.matrix(have)
        for taps, have in zip(prepared.taps_back(), prepared.shape, strict=True)
    ]
    for number, one in enumerate(scores):
        moved = one
        for axis, matrix in enumerate(matrices):
            if matrix is not None:
                moved = resample_axis(moved, axis, matrix)
        out[number] = _uncropped(moved, prepared)
    return out


def _uncropped(array: NDArray[Any], prepared: Prepared) -> NDArray[Any]:
    """An array on ``prepared.oriented`` on the scan's own grid; 0 outside the crop."""
    turned = prepared.orient.geometry(prepared.source)
    whole = array if prepared.crop is None else prepared.crop.invert(array, turned)
    return prepared.orient.invert(whole, prepared.source)
