"""The network that a plan describes, as a name of the closed list and its arguments."""

from __future__ import annotations

from typing import Any

from hounsfield.importing.nnunet.documents import Document

_MOST_LEVELS = 12
_KINDS = {"PlainConvUNet": "nnunet-plain", "ResidualEncoderUNet": "nnunet-residual"}
_CONVOLUTIONS = ("Conv2d", "Conv3d")


def network_arguments(configuration: Document, channels_in: int, channels_out: int) -> dict[str, Any]:
    """The ``[architecture]`` table for one member without mirroring.

    Raises
    ------
    SourceRefused
        If the plan asks for another network, norm or activation than nnU-Net's own.
    """
    if "architecture" not in configuration:
        return _older(configuration, channels_in, channels_out)
    table = configuration.of("architecture")
    kind = _KINDS.get(table.text("network_class_name").rpartition(".")[2])
    if kind is None:
        raise table.refuse("network_class_name", "is none of " + ", ".join(_KINDS))
    given = table.of("arch_kwargs")
    _only_known(given)
    levels = given.wholes("features_per_stage", (), 1, 100_000)
    count = len(levels)
    if not 2 <= count <= _MOST_LEVELS or given.number("n_stages") != count:
        raise given.refuse("n_stages", "does not fit features_per_stage")
    units = "n_conv_per_stage" if kind == "nnunet-plain" else "n_blocks_per_stage"
    ours = "convolutions" if kind == "nnunet-plain" else "units"
    return {
        "name": kind,
        "channels_in": channels_in,
        "channels_out": channels_out,
        "filters": levels,
        "kernels": given.triples("kernel_sizes", count, 1, 15),
        "strides": given.triples("strides", count, 1, 8),
        ours: given.per_level(units, count, 1, 64),
        "decoder_convolutions": given.per_level("n_conv_per_stage_decoder", count - 1, 1, 64),
        "bias": bool(given.table.get("conv_bias", False)),
        "epsilon": _epsilon(given),
        "slope": _slope(given),
    }


def _only_known(given: Document) -> None:
    known = {
        *("n_stages", "features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage", "n_blocks_per_stage"),
        *("n_conv_per_stage_decoder", "conv_bias", "conv_op", "norm_op", "norm_op_kwargs", "nonlin", "nonlin_kwargs"),
        *("dropout_op", "dropout_op_kwargs", "deep_supervision", "nonlin_first"),
    }
    given.none_of(*(key for key in given.table if key not in known))
    if given.table.get("nonlin_first"):
        raise given.refuse("nonlin_first", "is true, which is not known here")
    if given.text("conv_op").rpartition(".")[2] not in _CONVOLUTIONS:
        raise given.refuse("conv_op", "is no plain convolution")
    if given.text("norm_op").rpartition(".")[2] not in ("InstanceNorm2d", "InstanceNorm3d"):
        raise given.refuse("norm_op", "is not instance normalisation")


def _epsilon(given: Document) -> float:
    norm = given.of("norm_op_kwargs")
    norm.none_of(*(key for key in norm.table if key not in ("eps", "affine")))
    if norm.table.get("affine") is not True:
        raise norm.refuse("affine", "is not true")
    return norm.number("eps", 1e-5)


def _slope(given: Document) -> float:
    name = given.text("nonlin").rpartition(".")[2]
    kwargs = given.of("nonlin_kwargs") if given.table.get("nonlin_kwargs") is not None else Document(given.path, {})
    kwargs.none_of(*(key for key in kwargs.table if key not in ("inplace", "negative_slope")))
    if name == "LeakyReLU":
        return kwargs.number("negative_slope", 0.01)
    if name == "ReLU":
        return 0.0
    raise given.refuse("nonlin", "is neither LeakyReLU nor ReLU")


def _older(configuration: Document, channels_in: int, channels_out: int) -> dict[str, Any]:
    """Plans of nnU-Net before 2.3, which name the network's parts one by one (TotalSegmentator 2's weights)."""
    kind = _KINDS.get(configuration.text("UNet_class_name"))
    if kind is None:
        raise configuration.refuse("UNet_class_name", "is none of " + ", ".join(_KINDS))
    strides = configuration.table.get("pool_op_kernel_sizes")
    count = len(strides) if isinstance(strides, list) else 0
    if not 2 <= count <= _MOST_LEVELS:
        raise configuration.refuse("pool_op_kernel_sizes", "does not have 2 to 12 levels")
    base = int(configuration.number("UNet_base_num_features"))
    most = int(configuration.number("unet_max_num_features"))
    if not 1 <= base <= most <= 100_000:
        raise configuration.refuse("unet_max_num_features", "is less than UNet_base_num_features, or too large")
    return {
        "name": kind,
        "channels_in": channels_in,
        "channels_out": channels_out,
        "filters": [min(base * 2**level, most) for level in range(count)],
        "kernels": configuration.triples("conv_kernel_sizes", count, 1, 15),
        "strides": configuration.triples("pool_op_kernel_sizes", count, 1, 8),
        ("convolutions" if kind == "nnunet-plain" else "units"): configuration.per_level(
            "n_conv_per_stage_encoder", count, 1, 64
        ),
        "decoder_convolutions": configuration.per_level("n_conv_per_stage_decoder", count - 1, 1, 64),
        "bias": True,
        "epsilon": 1e-5,
        "slope": 0.01,
    }
