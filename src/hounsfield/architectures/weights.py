"""Weights of a network as plain named tensors: each once, none missing, none left over."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hounsfield.errors import PackageInvalid


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers by name; a tensor that the network holds twice is named once."""
    named = dict(network.named_parameters(remove_duplicate=True)) | dict(network.named_buffers(remove_duplicate=True))
    return {name: tensor.detach().contiguous() for name, tensor in named.items()}


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy ``tensors`` into the network, in place.

    Raises
    ------
    PackageInvalid
        If a name is missing, unknown, or a shape differs; all mismatches are listed.
    """
    own = dict(network.named_parameters(remove_duplicate=True)) | dict(network.named_buffers(remove_duplicate=True))
    faults = [f"missing {name}" for name in own.keys() - tensors.keys()]
    faults += [f"unknown {name}" for name in tensors.keys() - own.keys()]
    faults += [
        f"{name} has shape {tuple(tensors[name].shape)}, not {tuple(own[name].shape)}"
        for name in own.keys() & tensors.keys()
        if own[name].shape != tensors[name].shape
    ]
    if faults:
        raise PackageInvalid(
            fact="the weights do not fit the architecture: " + "; ".join(sorted(faults)),
            remedy="check the [architecture] table against the weights",
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
