"""The exponential moving average of the weights, which is what is validated and shipped."""

from __future__ import annotations

import torch
from torch import nn


def average_into(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """One step of the average, in place; in the first steps it follows faster.

    The decay of step n is at most (n + 1) / (n + 10), so that the random start is soon forgotten.
    Buffers (running statistics) are copied. Decay 0 copies the weights.
    """
    now = min(decay, (step + 1) / (step + 10))
    with torch.no_grad():
        _follow(average, network, now)


def _follow(average: nn.Module, network: nn.Module, now: float) -> None:
    for kept, new in zip(average.parameters(), network.parameters(), strict=True):
        kept.lerp_(new, 1 - now)
    for kept, new in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(new)
