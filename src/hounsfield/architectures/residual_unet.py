"""U-Nets of residual units: with attention gates on the skips, or with a deep residual encoder.

Residual units: He 2016 (post-activation form, instance norm instead of batch norm as in
nnU-Net). Attention gates: Oktay 2018, additive, driven by the decoder's own resolution.
Residual encoder: Isensee 2024 (nnU-Net ResEnc): several units per level going down, one plain
convolution block per level going up.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_UPWARD = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_SLOPE = 0.01


class ConvolutionBlock(nn.Module):
    """Convolution 3, instance norm, leaky ReLU: (batch, channels_in, ...) to (batch, channels_out, ...)."""

    def __init__(self, dims: int, channels_in: int, channels_out: int, stride: int = 1, normed: bool = True) -> None:
        super().__init__()
        self.convolution = _CONVOLUTION[dims](channels_in, channels_out, 3, stride, 1, bias=not normed)
        self.norm = _NORM[dims](channels_out, affine=True) if normed else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """The block's features."""
        return F.leaky_relu(self.norm(self.convolution(image)), _SLOPE)


class ResidualUnit(nn.Module):
    """Two convolutions beside a shortcut; the shortcut is projected where the shape changes.

    Without ``normed`` the convolutions have biases instead of norms, and the size of the signal is kept.
    """

    def __init__(self, dims: int, channels_in: int, channels_out: int, stride: int = 1, normed: bool = True) -> None:
        super().__init__()
        self.first = ConvolutionBlock(dims, channels_in, channels_out, stride, normed)
        self.second = _CONVOLUTION[dims](channels_out, channels_out, 3, 1, 1, bias=not normed)
        self.norm = _NORM[dims](channels_out, affine=True) if normed else nn.Identity()
        same = stride == 1 and channels_in == channels_out
        self.shortcut = (
            nn.Identity() if same else _CONVOLUTION[dims](channels_in, channels_out, 1, stride, 0, bias=False)
        )

    def forward(self, image: Tensor) -> Tensor:
        """The unit's features."""
        return F.leaky_relu(self.norm(self.second(self.first(image))) + self.shortcut(image), _SLOPE)


class AttentionGate(nn.Module):
    """Weigh the skip's voxels by what the decoder looks for (Oktay 2018, equation 1)."""

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        middle = max(1, channels // 2)
        self.of_skip = _CONVOLUTION[dims](channels, middle, 1, bias=False)
        self.of_decoder = _CONVOLUTION[dims](channels, middle, 1)
        self.weight = _CONVOLUTION[dims](middle, 1, 1)

    def forward(self, skip: Tensor, decoder: Tensor) -> Tensor:
        """The skip times its attention, a number in (0, 1) per voxel."""
        seen = F.relu(self.of_skip(skip) + self.of_decoder(decoder))
        return skip * torch.sigmoid(self.weight(seen))


class UpLevel(nn.Module):
    """Double the resolution, join the (gated) skip, and one unit or block."""

    def __init__(self, dims: int, channels_in: int, channels_out: int, gate: bool) -> None:
        super().__init__()
        self.up = _UPWARD[dims](channels_in, channels_out, 2, 2)
        self.gate = AttentionGate(dims, channels_out) if gate else None
        joined = ResidualUnit if gate else ConvolutionBlock
        self.join = joined(dims, 2 * channels_out, channels_out)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Features at the skip's resolution."""
        decoder = self.up(below)
        kept = skip if self.gate is None else self.gate(skip, decoder)
        return self.join(torch.cat((kept, decoder), 1))


class ResidualUNet(nn.Module):
    """(batch, channels, [k,] j, i) to logits (batch, classes, [k,] j, i).

    In training mode with deep supervision the logits of further levels, brought to full size,
    are stacked on axis 1: (batch, heads, classes, ...). Sizes must divide by
    ``2 ** (levels - 1)``.
    """

    def __init__(
        self,
        dims: int,
        channels_in: int,
        channels_out: int,
        filters: Sequence[int],
        units: Sequence[int],
        gates: bool,
        deep_supervision: int,
    ) -> None:
        super().__init__()
        if len(filters) < 2 or len(units) != len(filters) or min(units) < 1:
            raise TypeError("filters and units need one entry per level, at least two levels")
        if not 0 <= deep_supervision <= len(filters) - 2:
            raise TypeError(f"deep_supervision is from 0 to {len(filters) - 2} for {len(filters)} levels")
        before = [channels_in, *filters[:-1]]
        self.down = nn.ModuleList(
            nn.Sequential(
                ResidualUnit(dims, before[n], filters[n], 1 if n == 0 else 2),
                *[ResidualUnit(dims, filters[n], filters[n]) for _ in range(units[n] - 1)],
            )
            for n in range(len(filters))
        )
        self.up = nn.ModuleList(
            UpLevel(dims, filters[n + 1], filters[n], gates) for n in reversed(range(len(filters) - 1))
        )
        self.head = _CONVOLUTION[dims](filters[0], channels_out, 1)
        self.further_heads = nn.ModuleList(
            _CONVOLUTION[dims](filters[n + 1], channels_out, 1) for n in range(deep_supervision)
        )
        self._smooth = "bilinear" if dims == 2 else "trilinear"

    def forward(self, image: Tensor) -> Tensor:
        """Logits; stacked over heads in training mode with deep supervision."""
        skips: list[Tensor] = []
        features = image
        for level in self.down:
            features = level(features)
            skips.append(features)
        levels: list[Tensor] = []
        for up, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            features = up(features, skip)
            levels.insert(0, features)
        logits: Tensor = self.head(levels[0])
        if not self.training or len(self.further_heads) == 0:
            return logits
        further = [
            F.interpolate(head(level), size=logits.shape[2:], mode=self._smooth, align_corners=False)
            for head, level in zip(self.further_heads, levels[1:], strict=False)
        ]
        return torch.stack([logits, *further], 1)


def attention_unet(
    channels_in: int,
    channels_out: int,
    filters: list[int],
    deep_supervision: int = 0,
    spatial_dims: int = 3,
) -> nn.Module:
    """U-Net with residual units and attention gates; ``filters`` are the channels per level."""
    return ResidualUNet(spatial_dims, channels_in, channels_out, filters, [1] * len(filters), True, deep_supervision)


def residual_encoder_unet(
    channels_in: int,
    channels_out: int,
    filters: list[int],
    units: list[int] | None = None,
    deep_supervision: int = 0,
    spatial_dims: int = 3,
) -> nn.Module:
    """nnU-Net's residual-encoder form; ``units`` per level, by default 1, 3, 4, 6, 6, 6 ... of ResEnc M."""
    chosen = [1, 3, 4, *[6] * len(filters)][: len(filters)] if units is None else units
    return ResidualUNet(spatial_dims, channels_in, channels_out, filters, chosen, False, deep_supervision)
