"""Little W-Net (Galdran 2022): two small 2-D U-Nets, the second sees the first one's answer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SLOPE = 0.01


class _Block(nn.Module):
    """Two convolutions (leaky ReLU, then batch norm) beside a projected shortcut."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.first_norm = nn.BatchNorm2d(channels_out)
        self.second = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.second_norm = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.shortcut_norm = nn.BatchNorm2d(channels_out)

    def forward(self, image: Tensor) -> Tensor:
        inner = self.first_norm(F.leaky_relu(self.first(image), _SLOPE))
        inner = self.second_norm(F.leaky_relu(self.second(inner), _SLOPE))
        return inner + self.shortcut_norm(self.shortcut(image))


class _Up(nn.Module):
    """Doubled resolution, joined with the skip behind a convolution of its own."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.upward = nn.ConvTranspose2d(channels_in, channels_out, 2, 2)
        self.bridge = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.bridge_norm = nn.BatchNorm2d(channels_out)
        self.block = _Block(2 * channels_out, channels_out)

    def forward(self, image: Tensor, skip: Tensor) -> Tensor:
        bridged = self.bridge_norm(F.leaky_relu(self.bridge(skip), _SLOPE))
        joined: Tensor = self.block(torch.cat((self.upward(image), bridged), 1))
        return joined


class _Unet(nn.Module):
    """(batch, channels_in, rows, columns) to one logit map."""

    def __init__(self, channels_in: int, channels_out: int, filters: Sequence[int]) -> None:
        super().__init__()
        before = [channels_in, *filters[:-1]]
        self.down = nn.ModuleList(_Block(a, b) for a, b in zip(before, filters, strict=True))
        turned = list(reversed(filters))
        self.up = nn.ModuleList(_Up(a, b) for a, b in itertools.pairwise(turned))
        self.head = nn.Conv2d(filters[0], channels_out, 1)

    def forward(self, image: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            image = block(image if level == 0 else F.max_pool2d(image, 2))
            skips.append(image)
        for up, skip in zip(self.up, skips[-2::-1], strict=True):
            image = up(image, skip)
        logits: Tensor = self.head(image)
        return logits


class WNet(nn.Module):
    """(batch, channels_in, 1, j, i) to logits (batch, channels_out, 1, j, i)."""

    def __init__(self, channels_in: int, channels_out: int, filters: Sequence[int]) -> None:
        super().__init__()
        self.first = _Unet(channels_in, channels_out, filters)
        self.second = _Unet(channels_in + channels_out, channels_out, filters)

    def forward(self, image: Tensor) -> Tensor:
        """The second network's logits."""
        flat = image[:, :, 0]
        logits: Tensor = self.second(torch.cat((flat, self.first(flat)), 1))
        return logits[:, :, None]


def wnet(channels_in: int, channels_out: int, filters: list[int]) -> nn.Module:
    """The network; ``filters`` are the channels per resolution of both halves."""
    if len(filters) < 2:
        raise ValueError("filters has at least two levels")
    return WNet(channels_in, channels_out, filters)
