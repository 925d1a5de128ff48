"""The three networks of hippodeep (Thyreau 2018): the head, where the atlas lies, the hippocampus.

Written from the published weights' names and shapes and the paper (doi 10.1016/j.media.2017.11.004).
Each looks at a fixed grid; between them lies geometry, which is no part of a network here (see the
steps of a package, docs/reference/model-package.md). Axes are (Left, Anterior, Superior).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _convolution(
    channels_in: int, channels_out: int, size: int | tuple[int, int, int] = 3, padding: int = 1
) -> nn.Conv3d:
    return nn.Conv3d(channels_in, channels_out, size, padding=padding)


def _doubled(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2, mode="nearest")


class _Pair(nn.Module):
    """Two convolutions with ELU; batch norm before the second ELU."""

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        self.first = _convolution(channels[0], channels[1])
        self.second = _convolution(channels[1], channels[2])
        self.norm = nn.BatchNorm3d(channels[2])

    def forward(self, features: Tensor) -> Tensor:
        return F.elu(self.norm(self.second(F.elu(self.first(features)))))


class _Up(nn.Module):
    """Doubled resolution, a convolution, the skip beside it, a convolution with batch norm."""

    def __init__(self, channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        below, middle, skip, out = channels
        self.first = _convolution(below, middle)
        self.second = _convolution(middle + skip, out)
        self.norm = nn.BatchNorm3d(out)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        narrow = F.elu(self.first(_doubled(features)))
        return F.elu(self.norm(self.second(torch.cat((narrow, skip), 1))))


class HeadNet(nn.Module):
    """Whole head (batch, 1, 64, 64, 64) to four maps in [0, 1]: brain, cortex, cerebrum, and one more."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(_Pair(one) for one in ((1, 8, 8), (8, 16, 24), (24, 24, 32), (32, 48, 48)))
        self.up = nn.ModuleList(_Up(one) for one in ((48, 24, 32, 24), (24, 24, 24, 24), (24, 16, 8, 8)))
        self.maps = _convolution(8, 4, 1, 0)

    def forward(self, image: Tensor) -> Tensor:
        """The maps."""
        skips: list[Tensor] = []
        for level, pair in enumerate(self.down):
            image = pair(image if level == 0 else F.max_pool3d(image, 2))
            skips.append(image)
        for up, skip in zip(self.up, skips[-2::-1], strict=True):
            image = up(image, skip)
        return torch.sigmoid(self.maps(image))


class AlignNet(nn.Module):
    """Two maps (batch, 2, 64, 64, 64) to twelve numbers (batch, 12, 1, 1, 1).

    They are what an affine adds to the identity, row by row: from the atlas to the scan, both in
    units where the outer voxel centres of a grid are -1 and 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(_convolution(*pair) for pair in ((2, 16), (16, 16), (16, 32), (32, 64)))
        self.norms = nn.ModuleList(nn.LayerNorm([size] * 3) for size in (32, 16, 8))
        self.wide = _convolution(64, 128, 1, 0)
        self.numbers = _convolution(128, 12, 4, 0)

    def forward(self, image: Tensor) -> Tensor:
        """The numbers."""
        image = F.max_pool3d(F.relu(self.convolutions[0](image)), 2)
        for convolution, norm in zip(self.convolutions[1:], self.norms, strict=True):
            image = F.max_pool3d(F.relu(norm(convolution(image))), 2)
        numbers: Tensor = self.numbers(F.relu(self.wide(image)))
        return numbers


class _Residue(nn.Module):
    """Batch norm and two convolutions beside the unchanged features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(channels)
        self.first = _convolution(channels, channels)
        self.second = _convolution(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(self.norm(features)))) + features)


class HippocampusNet(nn.Module):
    """One side's box (batch, 1, k, j, i) to the probability of hippocampus, 2 voxels smaller on each side."""

    def __init__(self) -> None:
        super().__init__()
        sizes = ((1, 1, 3), (1, 3, 1), (3, 1, 1))
        self.lines = nn.ModuleList(_convolution(16 if n else 1, 16, size, 0) for n, size in enumerate(sizes))
        self.wide = _convolution(16, 48, 3, 0)
        self.residues = nn.ModuleList((_Residue(48), _Residue(48)))
        self.coarse = nn.ModuleList(_convolution(48, out) for out in (48, 48, 16))
        self.first_answer = _convolution(16, 1, 1, 0)
        self.blur = _convolution(1, 1, 7, 3)
        self.extract = _convolution(48, 47)
        self.mix = _convolution(48, 16)
        self.answer = _convolution(16, 1, 1, 0)

    def forward(self, image: Tensor) -> Tensor:
        """The probability."""
        for line in self.lines:
            image = F.relu(line(image))
        fine = F.relu(self.wide(image))
        image = self.residues[1](F.max_pool3d(self.residues[0](F.max_pool3d(fine, 2)), 2))
        for level, convolution in enumerate(self.coarse):
            image = F.relu(convolution(image if level == 0 else _doubled(image)))
        first = torch.sigmoid(self.first_answer(image))
        seen = torch.sigmoid(self.blur(first)) * fine
        extracted = F.leaky_relu(self.extract(seen))
        mixed = F.relu(self.mix(torch.cat((first, extracted), 1)))
        return torch.sigmoid(self.answer(mixed))


def hippodeep(part: str, channels_in: int, channels_out: int) -> nn.Module:
    """One of the three: ``part`` is ``head``, ``align`` or ``hippocampus``."""
    parts: dict[str, tuple[type[nn.Module], int, int]] = {
        "head": (HeadNet, 1, 4),
        "align": (AlignNet, 2, 12),
        "hippocampus": (HippocampusNet, 1, 1),
    }
    if part not in parts or parts[part][1:] != (channels_in, channels_out):
        raise ValueError(f"part is one of {', '.join(parts)}, with {parts.get(part, ('', '?', '?'))[1:]} channels")
    return parts[part][0]()
