"""A classifier that looks where a segmentation network outlines: the score of what a point or a crop shows.

The outline is soft and is never given out. What is scored is the mean of the network's last features
under it, the logarithm of its volume, and the mean and spread of the image under it: a classifier of
few weights that starts from a trained outline, for data sets too small to learn where to look.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from hounsfield.architectures.plain_unet import plain_unet

_EMPTY = 1.0  # voxels, so that a scan with nothing outlined has a finite mean and logarithm


class OutlineClassifier(nn.Module):
    """See :func:`outline_classifier`."""

    def __init__(self, channels_in: int, channels_out: int, filters: list[int], dropout: float) -> None:
        super().__init__()
        self.outline = plain_unet(channels_in, 2, filters)
        seen = 1 + 2 * channels_in + filters[0]
        self.scale = nn.BatchNorm1d(seen)
        self.dropout = nn.Dropout(dropout)
        self.classes = nn.Linear(seen, channels_out)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        features = cast(Tensor, self.outline.skip_layers(image))
        scores = cast(Tensor, self.outline.output_block(features)).float()
        inside = scores.softmax(1)[:, 1:]
        voxels = inside.sum((2, 3, 4))
        mean = _under(image.float(), inside, voxels)
        spread = _under((image.float() - mean[..., None, None, None]) ** 2, inside, voxels)
        seen = torch.cat([(voxels + _EMPTY).log(), mean, spread, _under(features.float(), inside, voxels)], 1)
        logits: Tensor = self.classes(self.dropout(self.scale(seen)))
        return logits


def _under(values: Tensor, inside: Tensor, voxels: Tensor) -> Tensor:
    """The mean (batch, channels) of what lies under the outline."""
    return (values * inside).sum((2, 3, 4)) / (voxels + _EMPTY)


def outline_classifier(channels_in: int, channels_out: int, filters: list[int], dropout: float = 0.0) -> nn.Module:
    """Build the network: (batch, channels, k, j, i) to logits (batch, classes).

    Parameters
    ----------
    channels_in, channels_out
        Image channels and classes.
    filters
        Those of the ``plain-unet`` that outlines; its weights are under ``outline`` and may be those of a
        package that segments one thing (``[transfer] into = "outline"``). The spacing must be fixed, or the
        count of voxels is no volume.
    dropout
        Share of what is seen that is left out in training.
    """
    return OutlineClassifier(channels_in, channels_out, filters, dropout)
