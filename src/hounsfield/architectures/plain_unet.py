"""nnU-Net-style plain 3-D U-Net: MONAI's DynUNet with a 1x1x1 head (Isensee 2021)."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from hounsfield.architectures.mirroring import checked_axes, flipped, flips, mean


def plain_unet(
    channels_in: int,
    channels_out: int,
    filters: list[int],
    deep_supervision: int = 0,
    residual: bool = False,
    mirror: list[int] | None = None,
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
    mirror
        Axes (of 0, 1, 2 for k, j, i) over whose flips the logits are averaged in evaluation mode;
        only for anatomy that may be mirrored.
    """
    from monai.networks.nets import DynUNet

    axes = checked_axes(mirror)

    class Mirrored(DynUNet):
        """The same weights under the same names."""

        def forward(self, image: Tensor) -> Tensor:
            plain = super().forward
            if self.training:
                return cast(Tensor, plain(image))
            return mean((flipped(plain, image, flip) for flip in flips(axes)), 2 ** len(axes))

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
    return Mirrored(**arguments) if axes else DynUNet(**arguments)
