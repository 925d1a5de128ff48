"""Names of the closed list and the one door that builds a network from data."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import nn

from hounsfield.architectures.cnn_lstm import cnn_lstm
from hounsfield.architectures.densenet import densenet121
from hounsfield.architectures.fusion import fusion
from hounsfield.architectures.hippodeep import hippodeep
from hounsfield.architectures.meshnet import meshnet
from hounsfield.architectures.monai_networks import monai_unet, segresnet
from hounsfield.architectures.nnunet import nnunet
from hounsfield.architectures.nodule_detector import nodule_detector
from hounsfield.architectures.outline_classifier import outline_classifier
from hounsfield.architectures.plain_unet import plain_unet
from hounsfield.architectures.residual_unet import attention_unet, residual_encoder_unet
from hounsfield.architectures.transformers import swin_unetr, unetr, vit_classifier
from hounsfield.architectures.wnet import wnet
from hounsfield.errors import PackageInvalid

Answer = Literal["voxels", "classes", "peaks"]


@dataclass(frozen=True)
class Architecture:
    """One entry of the closed list.

    Parameters
    ----------
    builder
        Makes the network from the manifest's arguments.
    answer
        Logits per voxel, logits per image, or centre heat-maps.
    fixed_window
        Whether the spatial size is part of the network.
    inputs
        Names of the graph's inputs, in order; the first is the image.
    blocks
        Class names of the modules whose activations may be computed twice instead of kept.
    looked_at
        Dotted name of the module with the last feature maps in space, for explanations.
    head
        Dotted name of the convolution whose outputs are the logits, where thresholds may be built into its bias.
    """

    builder: Callable[..., nn.Module]
    answer: Answer
    fixed_window: bool = False
    inputs: tuple[str, ...] = ("image",)
    blocks: tuple[str, ...] = ()
    looked_at: str | None = None
    head: str | None = None


_OWN = ("ResidualUnit", "ConvolutionBlock", "UpLevel")
_NNUNET = ("Block", "Unit")
_DYNAMIC_UNET = ("UnetBasicBlock", "UnetResBlock", "UnetUpBlock")
_UNETR = ("TransformerBlock", "UnetrBasicBlock", "UnetrPrUpBlock", "UnetrUpBlock")
_SWIN = ("SwinTransformerBlock", "UnetrBasicBlock", "UnetrUpBlock")

_LIST: dict[str, Architecture] = {
    "attention-unet": Architecture(attention_unet, "voxels", blocks=_OWN, head="head"),
    "cnn-lstm": Architecture(cnn_lstm, "classes", blocks=_OWN),
    "densenet121": Architecture(densenet121, "classes", blocks=("_DenseLayer",), looked_at="class_layers.relu"),
    "fusion": Architecture(fusion, "classes", inputs=("image", "record"), blocks=_OWN),
    "hippodeep": Architecture(hippodeep, "voxels", fixed_window=True),
    "meshnet": Architecture(meshnet, "voxels"),
    "monai-unet": Architecture(monai_unet, "voxels"),
    "nnunet-plain": Architecture(partial(nnunet, False), "voxels", blocks=_NNUNET, head="members.0.head"),
    "nnunet-residual": Architecture(partial(nnunet, True), "voxels", blocks=_NNUNET, head="members.0.head"),
    "nodule-detector": Architecture(nodule_detector, "peaks", blocks=_OWN),
    "outline-classifier": Architecture(
        outline_classifier, "classes", blocks=_DYNAMIC_UNET, looked_at="outline.skip_layers"
    ),
    "plain-unet": Architecture(plain_unet, "voxels", blocks=_DYNAMIC_UNET, head="output_block.conv.conv"),
    "residual-encoder-unet": Architecture(residual_encoder_unet, "voxels", blocks=_OWN, head="head"),
    "segresnet": Architecture(segresnet, "voxels", blocks=("ResBlock",)),
    "swin-unetr": Architecture(swin_unetr, "voxels", fixed_window=True, blocks=_SWIN),
    "unetr": Architecture(unetr, "voxels", fixed_window=True, blocks=_UNETR),
    "vit-classifier": Architecture(vit_classifier, "classes", fixed_window=True, blocks=("TransformerBlock",)),
    "wnet": Architecture(wnet, "voxels", fixed_window=True),
}


def names() -> tuple[str, ...]:
    """The architectures that a manifest may name."""
    return tuple(sorted(_LIST))


def architecture(name: str) -> Architecture:
    """The entry of the closed list.

    Raises
    ------
    PackageInvalid
        If the name is not of the list; the nearest one is proposed.
    """
    found = _LIST.get(name)
    if found is None:
        close = difflib.get_close_matches(name, names(), n=1)
        raise PackageInvalid(
            fact=f"the architecture {name!r} is not one that hounsfield knows",
            remedy=(f"did you mean {close[0]!r}? " if close else "") + f"use one of: {', '.join(names())}",
        )
    return found


def build(architecture: Mapping[str, Any]) -> nn.Module:
    """Build the named network with its arguments, weights random.

    Parameters
    ----------
    architecture
        ``{"name": ..., argument: value, ...}`` as in a manifest's ``[architecture]``.

    Raises
    ------
    PackageInvalid
        If the name is not of the closed list, or an argument does not fit it.
    """
    arguments = dict(architecture)
    name = str(arguments.pop("name", None))
    builder = _entry(name).builder
    try:
        return builder(**arguments)
    except (TypeError, ValueError, AssertionError) as error:
        raise PackageInvalid(
            fact=f"the arguments of architecture {name!r} do not fit it: {error}",
            remedy=_proposal(builder, arguments),
        ) from error


def _entry(name: str) -> Architecture:
    return architecture(name)


def _proposal(builder: Callable[..., nn.Module], arguments: Mapping[str, Any]) -> str:
    """The nearest argument for a misspelt one, or the list of all."""
    known = list(inspect.signature(builder).parameters)
    for unknown in arguments.keys() - set(known):
        close = difflib.get_close_matches(unknown, known, n=1)
        if close:
            return f"did you mean {close[0]!r} instead of {unknown!r}?"
    return f"correct the [architecture] table; its arguments are {', '.join(known)}"
