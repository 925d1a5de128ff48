"""Mirroring at test time: a network's logits, averaged over flips of what it is given.

The mean of logits over flips, window by window, equals the flips of the whole scan averaged after
blending, as blending is linear (nnU-Net does the latter; Isensee 2021).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor


def checked_axes(mirror: Sequence[int] | None) -> list[int]:
    """The axes of an architecture's table; none for ``None``.

    Raises
    ------
    TypeError
        If they are not some of 0, 1, 2, each once.
    """
    axes = list(mirror or [])
    if len(set(axes)) != len(axes) or not set(axes) <= {0, 1, 2}:
        raise TypeError("mirror names axes of 0, 1, 2, each once")
    return axes


def flips(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """Every choice of ``axes`` (of 0, 1, 2 for k, j, i) as dimensions of (batch, channels, k, j, i), none first."""
    dimensions = [axis + 2 for axis in axes]
    return [flip for size in range(len(axes) + 1) for flip in itertools.combinations(dimensions, size)]


def flipped(network: Callable[[Tensor], Tensor], image: Tensor, flip: tuple[int, ...]) -> Tensor:
    """The answer for the flipped image, turned back."""
    answer: Tensor = torch.flip(network(torch.flip(image, flip)), flip) if flip else network(image)
    return answer


def mean(answers: Iterator[Tensor], count: int) -> Tensor:
    """The mean of ``count`` answers, of which one at a time is kept."""
    total = next(answers)
    for answer in answers:
        total = total + answer
    return total if count == 1 else total / count
