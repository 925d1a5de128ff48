"""Anchor-free 3-D detector: centre heat-maps, sizes and offsets (CenterNet, Zhou 2019, in 3-D).

Only convolutions and norms, so that the graph exports cleanly; peaks are found afterwards, in
:mod:`hounsfield.findings.peaks`, plain array code that needs neither the network nor an engine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hounsfield.architectures.residual_unet import ConvolutionBlock, ResidualUnit, UpLevel

_PRIOR = 0.01


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
