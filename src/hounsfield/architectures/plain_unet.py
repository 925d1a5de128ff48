"""nnU-Net-style plain 3-D U-Net: MONAI's DynUNet with a 1x1x1 head (Isensee 2021)."""

from __future__ import annotations

from typing import Any

from torch import nn


def plain_unet(
    channels_in: int,
    channels_out: int,
    filters: list[int],
    deep_supervision: int = 0,
    residual: bool = False,
) -> nn.Module:
    """Build the network.

    Parameters
    ----------
    channels_in, channels_out
        Image channels and classes, background included.
    filters
        Feature channels per resolution; each further resolution halves the three axes.
    deep_supervision
        Number of extra heads in training mode, whose outputs are stacked on axis 1;
        0 for none. In evaluation mode the output is always (batch, classes, k, j, i).
    residual
        Residual blocks instead of plain ones.
    """
    from monai.networks.nets import DynUNet

    levels = len(filters)
    strides = [1] + [2] * (levels - 1)
    arguments: dict[str, Any] = {
        "spatial_dims": 3,
        "in_channels": channels_in,
        "out_channels": channels_out,
        "kernel_size": [3] * levels,
        "strides": strides,
        "upsample_kernel_size": strides[1:],
        "filters": filters,
        "res_block": residual,
        "deep_supervision": deep_supervision > 0,
        "deep_supr_num": max(1, deep_supervision),
    }
    return DynUNet(**arguments)
