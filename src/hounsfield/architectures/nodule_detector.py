"""Anchor-free 3-D detector: centre heat-maps, sizes and offsets (CenterNet, Zhou 2019, in 3-D).

Only convolutions and norms, so that the graph exports cleanly; peaks are found afterwards, in
plain array code that needs neither the network nor an engine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hounsfield.architectures.residual_unet import ConvolutionBlock, ResidualUnit, UpLevel

_PRIOR = 0.01
_LOG_SIZE_LIMIT = 8.0


class NoduleDetector(nn.Module):
    """(batch, channels, k, j, i) to (batch, classes + 6, k/stride, j/stride, i/stride).

    The first ``classes`` channels are logits of the centre heat-map; then log2 of the size
    (k, j, i) in voxels of the input, then the offset (k, j, i) of the centre from the cell's
    corner, in cells. ``stride`` is 2 or 4; input sizes divide by ``2 ** (levels - 1)``.
    """

    def __init__(self, channels_in: int, channels_out: int, filters: Sequence[int], stride: int) -> None:
        super().__init__()
        first = {2: 1, 4: 2}.get(stride)
        if first is None or len(filters) < first + 2:
            raise TypeError("stride is 2 or 4, and filters has at least two levels below it")
        before = [channels_in, *filters[:-1]]
        self.down = nn.ModuleList(
            ResidualUnit(3, before[n], filters[n], 1 if n == 0 else 2) for n in range(len(filters))
        )
        self.up = nn.ModuleList(
            UpLevel(3, filters[n + 1], filters[n], False) for n in reversed(range(first, len(filters) - 1))
        )
        self.neck = ConvolutionBlock(3, filters[first], filters[first])
        self.centre = nn.Conv3d(filters[first], channels_out, 1)
        self.extent = nn.Conv3d(filters[first], 6, 1)
        nn.init.constant_(self.centre.bias, -math.log((1 - _PRIOR) / _PRIOR))

    def forward(self, image: Tensor) -> Tensor:
        """Heat-map logits, log2 sizes and offsets on the coarse grid."""
        skips: list[Tensor] = []
        features = image
        for level in self.down:
            features = level(features)
            skips.append(features)
        for n, up in enumerate(self.up):
            features = up(features, skips[-2 - n])
        features = self.neck(features)
        return torch.cat((self.centre(features), self.extent(features)), 1)


def nodule_detector(
    channels_in: int,
    channels_out: int,
    filters: list[int],
    stride: int = 4,
) -> nn.Module:
    """The detector; ``channels_out`` is the number of lesion classes, ``filters`` the channels per level."""
    return NoduleDetector(channels_in, channels_out, filters, stride)


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
