"""Two networks of MONAI under their own arguments, for models that were trained with MONAI."""

from __future__ import annotations

from typing import Any

from torch import nn

_ACTS = ("prelu", "relu", "leakyrelu", "elu", "gelu", "mish", "swish")
_NORMS = ("batch", "instance")
_UPSAMPLE = ("nontrainable", "deconv", "pixelshuffle")


def segresnet(
    channels_in: int,
    channels_out: int,
    filters: int = 8,
    blocks_down: list[int] | None = None,
    blocks_up: list[int] | None = None,
    groups: int = 8,
    final_convolution: bool = True,
    upsample: str = "nontrainable",
) -> nn.Module:
    """SegResNet (Myronenko 2018, without the variational branch): MONAI's, group norm, three dimensions."""
    from monai.networks.nets import SegResNet

    if upsample not in _UPSAMPLE or filters < 1 or filters % groups:
        raise ValueError(f"upsample is one of {', '.join(_UPSAMPLE)}, and filters divides by groups")
    network: nn.Module = SegResNet(
        spatial_dims=3,
        init_filters=filters,
        in_channels=channels_in,
        out_channels=channels_out,
        norm=("GROUP", {"num_groups": groups}),
        use_conv_final=final_convolution,
        blocks_down=tuple(blocks_down or (1, 2, 2, 4)),
        blocks_up=tuple(blocks_up or (1, 1, 1)),
        upsample_mode=upsample,
    )
    return network


def monai_unet(
    channels_in: int,
    channels_out: int,
    filters: list[int],
    strides: list[int],
    units: int = 0,
    act: str = "prelu",
    norm: str = "instance",
    kernel: int = 3,
    up_kernel: int = 3,
    bias: bool = True,
) -> nn.Module:
    """MONAI's UNet (Kerfoot 2018) in three dimensions; ``units`` residual units per level."""
    from monai.networks.nets import UNet

    if act not in _ACTS or norm not in _NORMS:
        raise ValueError(f"act is one of {', '.join(_ACTS)}, norm one of {', '.join(_NORMS)}")
    arguments: dict[str, Any] = {
        "spatial_dims": 3,
        "in_channels": channels_in,
        "out_channels": channels_out,
        "channels": tuple(filters),
        "strides": tuple(strides),
        "num_res_units": units,
        "act": act,
        "norm": norm,
        "kernel_size": kernel,
        "up_kernel_size": up_kernel,
        "bias": bias,
    }
    network: nn.Module = UNet(**arguments)
    return network
