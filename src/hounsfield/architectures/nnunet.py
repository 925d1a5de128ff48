"""nnU-Net v2's two networks, as its plans describe them: per level its own kernel and stride.

Plain (Isensee 2021): stacked convolutions per level. Residual encoder (Isensee 2024): ResNet-D
units going down (the shortcut is an average pooling and a 1x1x1 convolution; He 2019), stacked
convolutions going up. A 2-D network is one whose kernels and strides have 1 along k.

Several trained copies (folds) and test-time mirroring are part of the network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hounsfield.architectures.mirroring import checked_axes, flipped, flips, mean

Triples = Sequence[Sequence[int]]


class Block(nn.Module):
    """Convolution, instance norm, and (unless ``active`` is false) the activation."""

    def __init__(
        self, given: int, filters: int, kernel: Sequence[int], stride: Sequence[int], how: How, active: bool = True
    ) -> None:
        super().__init__()
        padding = [(size - 1) // 2 for size in kernel]
        self.conv = nn.Conv3d(given, filters, tuple(kernel), tuple(stride), padding, bias=how.bias)
        self.norm = nn.InstanceNorm3d(filters, eps=how.epsilon, affine=True)
        self._slope = how.slope if active else 1.0

    def forward(self, image: Tensor) -> Tensor:
        """The block's features."""
        features: Tensor = self.norm(self.conv(image))
        return features if self._slope == 1.0 else F.leaky_relu(features, self._slope)


class How:
    """What all blocks of a network share: bias, epsilon of the norms, slope of the leaky ReLU."""

    def __init__(self, bias: bool, epsilon: float, slope: float) -> None:
        self.bias, self.epsilon, self.slope = bias, epsilon, slope


class Unit(nn.Module):
    """Two blocks beside a shortcut that is pooled and projected where the shape changes."""

    def __init__(self, given: int, filters: int, kernel: Sequence[int], stride: Sequence[int], how: How) -> None:
        super().__init__()
        self.conv1 = Block(given, filters, kernel, stride, how)
        self.conv2 = Block(filters, filters, kernel, (1, 1, 1), how, active=False)
        self.pool = nn.AvgPool3d(tuple(stride), tuple(stride)) if max(stride) > 1 else nn.Identity()
        plain = How(False, how.epsilon, how.slope)
        self.skip = (
            Block(given, filters, (1, 1, 1), (1, 1, 1), plain, active=False) if given != filters else nn.Identity()
        )
        self._slope = how.slope

    def forward(self, image: Tensor) -> Tensor:
        """The unit's features."""
        return F.leaky_relu(self.conv2(self.conv1(image)) + self.skip(self.pool(image)), self._slope)


class Member(nn.Module):
    """One trained copy: (batch, channels, k, j, i) to logits (batch, classes, k, j, i)."""

    def __init__(
        self,
        channels: tuple[int, int],
        filters: Sequence[int],
        kernels: Triples,
        strides: Triples,
        units: Sequence[int],
        joins: Sequence[int],
        residual: bool,
        supervised: int,
        how: How,
    ) -> None:
        super().__init__()
        given = filters[0] if residual else channels[0]
        self.stem = Block(channels[0], filters[0], kernels[0], (1, 1, 1), how) if residual else nn.Identity()
        down, kind = [], Unit if residual else Block
        for level, count in enumerate(units):
            line = [kind(given, filters[level], kernels[level], strides[level], how)]
            line += [kind(filters[level], filters[level], kernels[level], (1, 1, 1), how) for _ in range(count - 1)]
            down.append(nn.Sequential(*line))
            given = filters[level]
        self.down = nn.ModuleList(down)
        up, join = [], []
        for level, count in zip(reversed(range(len(filters) - 1)), joins, strict=True):
            stride, here = tuple(strides[level + 1]), filters[level]
            up.append(nn.ConvTranspose3d(filters[level + 1], here, stride, stride, bias=how.bias))
            line = [Block(2 * here, here, kernels[level], (1, 1, 1), how)]
            line += [Block(here, here, kernels[level], (1, 1, 1), how) for _ in range(count - 1)]
            join.append(nn.Sequential(*line))
        self.up, self.join = nn.ModuleList(up), nn.ModuleList(join)
        self.head = nn.Conv3d(filters[0], channels[1], 1)
        self.further_heads = nn.ModuleList(nn.Conv3d(filters[1 + n], channels[1], 1) for n in range(supervised))

    def forward(self, image: Tensor) -> Tensor:
        """Logits; with those of the lower heads, enlarged and stacked on axis 1, in training."""
        features, skips, ways_up = self.stem(image), [], []
        for level in self.down:
            features = level(features)
            skips.append(features)
        for up, join, skip in zip(self.up, self.join, reversed(skips[:-1]), strict=True):
            features = join(torch.cat((up(features), skip), 1))
            ways_up.append(features)
        logits: Tensor = self.head(features)
        if not (self.training and len(self.further_heads)):
            return logits
        below = zip(self.further_heads, reversed(ways_up[:-1]), strict=False)
        lower = [F.interpolate(head(coarse), size=logits.shape[2:]) for head, coarse in below]
        return torch.stack([logits, *lower], 1)


class NnUNet(nn.Module):
    """The mean of the members' logits, each the mean over all flips of the ``mirror`` axes (none in training)."""

    def __init__(self, members: Sequence[Member], mirror: Sequence[int]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self._flips = flips(mirror)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, classes, k, j, i)."""
        ways = flips(()) if self.training else self._flips
        answers = (flipped(member, image, flip) for member in self.members for flip in ways)
        return mean(answers, len(self.members) * len(ways))


def nnunet(
    residual: bool,
    channels_in: int,
    channels_out: int,
    filters: list[int],
    kernels: list[list[int]],
    strides: list[list[int]],
    decoder_convolutions: list[int],
    convolutions: list[int] | None = None,
    units: list[int] | None = None,
    members: int = 1,
    mirror: list[int] | None = None,
    bias: bool = True,
    epsilon: float = 1e-5,
    slope: float = 0.01,
    deep_supervision: int = 0,
) -> nn.Module:
    """nnU-Net's PlainConvUNet, or its ResidualEncoderUNet; lists hold one entry per level, triples are (k, j, i).

    ``convolutions`` per level belong to the plain one, residual ``units`` per level to the other.
    ``deep_supervision`` is the number of extra heads that a training learns from, 0 for none.
    """
    given, wanted, other = (units, "units", convolutions) if residual else (convolutions, "convolutions", units)
    if given is None or other is not None:
        raise TypeError(f"this network is described by {wanted}")
    shape = (filters, kernels, strides, given, decoder_convolutions)
    if not 0 <= deep_supervision <= len(filters) - 2:
        raise TypeError("deep_supervision is from 0 to two less than there are levels")
    how = How(bias, epsilon, slope)
    return _network((channels_in, channels_out), *shape, residual, members, mirror, deep_supervision, how)


def _network(
    channels: tuple[int, int],
    filters: list[int],
    kernels: list[list[int]],
    strides: list[list[int]],
    units: list[int],
    joins: list[int],
    residual: bool,
    members: int,
    mirror: list[int] | None,
    supervised: int,
    how: How,
) -> nn.Module:
    levels, axes = len(filters), checked_axes(mirror)
    if levels < 2 or not len(kernels) == len(strides) == len(units) == levels or len(joins) != levels - 1:
        raise TypeError(
            "filters, kernels, strides and units need one entry per level, joins one less, two levels or more"
        )
    if any(len(triple) != 3 or min(triple) < 1 for triple in (*kernels, *strides)) or min((*units, *joins)) < 1:
        raise TypeError("kernels and strides are triples (k, j, i) of at least 1, units and convolutions at least 1")
    if any(size % 2 == 0 for kernel in kernels for size in kernel) or list(strides[0]) != [1, 1, 1]:
        raise TypeError("kernel sizes are odd, and the first level has stride 1")
    if not 1 <= members <= 20:
        raise TypeError("members are from 1 to 20")
    copies = [
        Member(channels, filters, kernels, strides, units, joins, residual, supervised, how) for _ in range(members)
    ]
    return NnUNet(copies, axes)
