"""DenseNet-121 (Huang 2017), in the form of CheXNet (Rajpurkar 2017): one logit per finding."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def densenet121(
    channels_in: int,
    channels_out: int,
    spatial_dims: int = 2,
    init_features: int = 64,
    growth_rate: int = 32,
    blocks: list[int] | None = None,
    dropout: float = 0.0,
    shades: list[list[float]] | None = None,
) -> nn.Module:
    """MONAI's DenseNet; (batch, channels, k, j, i) to logits (batch, classes).

    With ``spatial_dims = 2`` the slices are taken as channels, so a projection has k = 1.

    ``shades`` is for networks that began as networks for colour pictures: the one grey channel is
    repeated, once for each [mean, standard deviation], and each copy is standardised with its own.
    """
    from monai.networks.nets import DenseNet

    if shades is not None and (channels_in != 1 or spatial_dims != 2 or any(len(pair) != 2 for pair in shades)):
        raise TypeError("shades are pairs [mean, std] for the one channel of a 2-D image")

    class FlatDenseNet(DenseNet):
        """DenseNet that takes a volume of one slice as an image."""

        def forward(self, image: Tensor) -> Tensor:
            """Logits (batch, classes)."""
            flat = image.flatten(1, 2) if spatial_dims == 2 else image
            if shades is not None:
                flat = torch.cat([(flat - mean) / std for mean, std in shades], 1)
            logits: Tensor = super().forward(flat)
            return logits

    return FlatDenseNet(
        spatial_dims=spatial_dims,
        in_channels=channels_in if shades is None else len(shades),
        out_channels=channels_out,
        init_features=init_features,
        growth_rate=growth_rate,
        block_config=tuple(blocks or (6, 12, 24, 16)),
        dropout_prob=dropout,
    )
