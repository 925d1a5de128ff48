"""What the network should have answered, in the form that its loss compares."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_SPREAD = 6.0


def heat_maps(label: NDArray[np.int64], classes: int, stride: int) -> Tensor:
    """Centre heat-maps of the lesions in a label patch.

    Each connected component of a label value is a lesion of the class ``value - 1``. Around its
    centre stands a Gaussian whose deviation is a sixth of the lesion's size per axis, at
    least half a cell (Zhou 2019); where two overlap the larger value counts.

    Parameters
    ----------
    label
        (k, j, i) integers.
    stride
        Voxels per cell; every size divides by it.

    Returns
    -------
    (classes + 7, k/stride, j/stride, i/stride) float32: heat-maps, log2 sizes in voxels, offsets
    within the cell, and 1 where a centre lies.
    """
    from scipy.ndimage import find_objects
    from scipy.ndimage import label as components

    shape = tuple(n // stride for n in label.shape)
    out = np.zeros((classes + 7, *shape), np.float32)
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    for value in range(1, classes + 1):
        numbered, _ = components(label == value, np.ones((3, 3, 3)))
        for box in find_objects(numbered):
            middle = [(part.start + part.stop - 1) / 2 for part in box]
            size = [part.stop - part.start for part in box]
            place = [(m + 0.5) / stride for m in middle]
            cell = tuple(min(int(p), n - 1) for p, n in zip(place, shape, strict=True))
            spread = [max(0.5, s / stride / _SPREAD) for s in size]
            distance = sum(((a - c) / s) ** 2 for a, c, s in zip(axes, cell, spread, strict=True))
            out[value - 1] = np.maximum(out[value - 1], np.exp(-0.5 * distance))
            here = (slice(classes, None), *cell)
            out[here] = [*(math.log2(s) for s in size), *(p - c for p, c in zip(place, cell, strict=True)), 1.0]
    return torch.from_numpy(out)
