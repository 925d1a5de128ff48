"""A narrower copy of a network: the same architecture with fewer channels, the strongest ones kept.

How strong a channel is follows from the weights alone: how large a signal it carries (the norm's weight where
there is one, else the norm of the kernel that makes it) times how much of it is read (the norm of the kernels that
read it). Whole channels go, everywhere at once (structured pruning by magnitude; Li 2017, Liu 2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from hounsfield.architectures.channels import ChannelMap, ChannelUse, follow_channels
from hounsfield.errors import PackageInvalid, SettingsError

Window = tuple[int, int, int]
_LEAST: Final = 4
_STEPS: Final = 16


def channel_strengths(channels: ChannelMap, tensors: Mapping[str, Tensor]) -> dict[int, Tensor]:
    """The strength of every channel of every group, as shares of the group's sum; float64.

    Parameters
    ----------
    channels
        Of the network.
    tensors
        Its weights, by name.
    """
    made = {group: torch.zeros(size, dtype=torch.float64) for group, size in channels.sizes.items()}
    scaled, read = ({group: torch.zeros_like(value) for group, value in made.items()} for _ in range(2))
    into = {"makes": made, "scales": scaled, "reads": read}
    for use in (use for use in channels.uses if use.role in into):
        norms = _norms(tensors[use.tensor], use.axis)
        start = 0
        for group in use.groups:
            size = channels.sizes[group]
            into[use.role][group] += norms[start : start + size]
            start += size
    found = {}
    for group in channels.sizes:
        signal = scaled[group] if bool(scaled[group].any()) else made[group]
        strength = (_or_one(signal) * _or_one(read[group])).sqrt()
        found[group] = strength / strength.sum()
    return found


def _or_one(values: Tensor) -> Tensor:
    """Ones where nothing is known: the image has no kernel before it, the logits none after."""
    return values if bool(values.any()) else torch.ones_like(values)


def _norms(tensor: Tensor, axis: int) -> Tensor:
    """The squared norm of each slice along an axis."""
    slices = tensor.detach().double().movedim(axis, 0)
    return slices.reshape(len(slices), -1).square().sum(1)


def narrowed(
    wide: Mapping[str, Any], tensors: Mapping[str, Tensor], narrow: Mapping[str, Any], window: Window
) -> dict[str, Tensor]:
    """The weights of the narrower network: those of the wide one's strongest channels, in their order.

    Parameters
    ----------
    wide, narrow
        Two tables ``[architecture]`` of one network; ``narrow`` has as many channels or fewer in every group.
    tensors
        The weights of ``wide``.
    window
        Spatial shape (k, j, i) that both take.

    Raises
    ------
    PackageInvalid
        If ``narrow`` is no narrower copy of ``wide``, or its channels cannot be followed.
    """
    before, after = follow_channels(wide, window), follow_channels(narrow, window)
    _demand_copy(wide, narrow, before, after)
    strengths = channel_strengths(before, tensors)
    kept = {
        group: torch.sort(torch.argsort(strengths[group], descending=True, stable=True)[:size]).values
        for group, size in after.sizes.items()
    }
    found = {name: tensor.detach() for name, tensor in tensors.items()}
    for use in before.uses:
        found[use.tensor] = found[use.tensor].index_select(use.axis, _chosen(use, before, kept))
    return {name: tensor.contiguous().clone() for name, tensor in found.items()}


def _chosen(use: ChannelUse, channels: ChannelMap, kept: Mapping[int, Tensor]) -> Tensor:
    """Places along the axis that stay."""
    parts, start = [], 0
    for group in use.groups:
        parts.append(kept[group] + start)
        start += channels.sizes[group]
    return torch.cat(parts)


def _demand_copy(wide: Mapping[str, Any], narrow: Mapping[str, Any], before: ChannelMap, after: ChannelMap) -> None:
    same = wide["name"] == narrow["name"] and before.uses == after.uses and before.sizes.keys() == after.sizes.keys()
    if not same:
        raise PackageInvalid(
            fact=f"{narrow['name']!r} as described is not a copy of the wider {wide['name']!r}: its layers differ",
            remedy="change only the channels, or start otherwise with teacher.start = 'recipe'",
        )
    wider = [size for group, size in after.sizes.items() if size > before.sizes[group]]
    if wider:
        raise PackageInvalid(
            fact=f"the network is wider than the one it should start from (a layer of {max(wider)} channels)",
            remedy="give fewer channels, or start otherwise with teacher.start = 'recipe'",
        )


def fewer_filters(
    wide: Mapping[str, Any], tensors: Mapping[str, Tensor], removed: float, window: Window
) -> dict[str, Any]:
    """The table of a narrower copy with so many parameters fewer; which level loses most is found by its weights.

    Step by step the level goes down whose weakest channels lose the least strength per parameter that they save.

    Parameters
    ----------
    wide, tensors
        The network's table, with ``filters`` per level, and its weights.
    removed
        Share of the parameters that go, in (0, 1).
    window
        Spatial shape (k, j, i) that it takes.

    Raises
    ------
    SettingsError
        If so many cannot go, or the architecture has no list ``filters``.
    PackageInvalid
        If its channels cannot be followed.
    """
    filters = wide.get("filters")
    if not isinstance(filters, list):
        raise SettingsError(
            fact=f"the network {wide['name']!r} has no list of filters per level, so there is nothing to choose from",
            remedy="describe the smaller network in the recipe, without --prune",
        )
    whole = follow_channels(wide, window)
    strengths = {group: torch.sort(value).values for group, value in channel_strengths(whole, tensors).items()}
    steps = [max(2, width // _STEPS) for width in filters]
    now, channels = list(filters), whole
    while channels.parameters > (1 - removed) * whole.parameters:
        best: tuple[float, list[int], ChannelMap] | None = None
        for level, step in enumerate(steps):
            if now[level] - step < _LEAST:
                continue
            tried = [*now[:level], now[level] - step, *now[level + 1 :]]
            after = follow_channels({**wide, "filters": tried}, window)
            cost = _strength_lost(strengths, channels, after) / max(1, channels.parameters - after.parameters)
            if best is None or cost < best[0]:
                best = (cost, tried, after)
        if best is None:
            raise SettingsError(
                fact=f"{removed:.0%} of the parameters cannot go: {_LEAST} channels per level are the least",
                remedy="remove fewer",
            )
        _, now, channels = best
    return {**wide, "filters": now}


def _strength_lost(strengths: Mapping[int, Tensor], before: ChannelMap, after: ChannelMap) -> float:
    """Sum over groups of the share of strength that goes with the weakest channels that are still there."""
    lost = 0.0
    for group, size in after.sizes.items():
        gone = len(strengths[group]) - before.sizes[group]
        lost += float(strengths[group][gone : gone + before.sizes[group] - size].sum())
    return lost
