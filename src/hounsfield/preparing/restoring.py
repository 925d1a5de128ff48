"""From the network's grid back to the scan's own: scores class by class, labels by the nearest.

Scores (logits or probabilities) are interpolated linearly, each class for itself, and only
then decided: a border keeps its sub-voxel place, which resampled labels would lose. Where the
grids differ only by axis order and flips nothing is interpolated and every voxel is kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.preparing.interpolation import resample_axis, weights
from hounsfield.preparing.prepared import Prepared
from hounsfield.volume import LabelMap


def source_view(array: NDArray[Any], prepared: Prepared) -> NDArray[Any]:
    """A view of an array on the scan's grid, indexed by the network's axes (a writable window).

    Parameters
    ----------
    array
        (slices, rows, columns) on ``prepared.source``.
    """
    return prepared.orient.apply(array, prepared.source)


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
    restored = prepared.orient.invert(labels, prepared.source)
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
    target = prepared.oriented.shape
    for number, one in enumerate(scores):
        moved = one
        for axis, (have, want) in enumerate(zip(one.shape, target, strict=True)):
            if have != want:
                moved = resample_axis(moved, axis, weights(have, want, "linear"))
        out[number] = prepared.orient.invert(moved, prepared.source)
    return out
