"""Peaks of a detector's centre heat-maps: plain array code, without the network or an engine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LOG_SIZE_LIMIT = 8.0


@dataclass(frozen=True)
class Peak:
    """A found lesion: class number from 0, score in (0, 1), centre and size (k, j, i) in voxels."""

    kind: int
    score: float
    centre: tuple[float, float, float]
    size: tuple[float, float, float]


def find_peaks(output: NDArray[np.float32], classes: int, stride: int, threshold: float = 0.1) -> tuple[Peak, ...]:
    """Local maxima of the heat-maps, best first.

    Parameters
    ----------
    output
        (classes + 6, k, j, i) float32, one element of the network's answer.
    classes, stride
        As the network was built.
    threshold
        Least score.

    Returns
    -------
    Peaks whose cell is the largest of its 3x3x3 neighbourhood; centres are voxel indices of the
    network's input.
    """
    from scipy.ndimage import maximum_filter

    found: list[Peak] = []
    for kind in range(classes):
        score = 1.0 / (1.0 + np.exp(-output[kind].astype(np.float64)))
        peaks = (score >= threshold) & (score == maximum_filter(score, size=3, mode="constant"))
        for cell in np.argwhere(peaks):
            at = (int(cell[0]), int(cell[1]), int(cell[2]))
            numbers = output[classes : classes + 6, at[0], at[1], at[2]].astype(np.float64)
            size = np.exp2(np.clip(numbers[:3], -_LOG_SIZE_LIMIT, _LOG_SIZE_LIMIT))
            centre = (cell + np.clip(numbers[3:], 0, 1)) * stride - 0.5
            k, j, i = centre.tolist()
            dk, dj, di = size.tolist()
            found.append(Peak(kind, float(score[at]), (k, j, i), (dk, dj, di)))
    return tuple(sorted(found, key=lambda peak: -peak.score))
