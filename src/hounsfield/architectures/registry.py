"""Names of the closed list and the one door that builds a network from data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from hounsfield.architectures.plain_unet import plain_unet
from hounsfield.errors import PackageInvalid

_BUILDERS: dict[str, Callable[..., nn.Module]] = {"plain-unet": plain_unet}


def names() -> tuple[str, ...]:
    """The architectures that a manifest may name."""
    return tuple(sorted(_BUILDERS))


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
    name = arguments.pop("name", None)
    builder = _BUILDERS.get(str(name))
    if builder is None:
        raise PackageInvalid(
            fact=f"the architecture {name!r} is not one that hounsfield knows",
            remedy=f"use one of: {', '.join(names())}",
        )
    try:
        return builder(**arguments)
    except TypeError as error:
        raise PackageInvalid(
            fact=f"the arguments of architecture {name!r} do not fit it: {error}",
            remedy="correct the [architecture] table of the manifest",
        ) from error
