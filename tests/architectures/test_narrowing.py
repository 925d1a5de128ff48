"""Channels that belong together are found and go together; what stays computes what it did before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hounsfield.architectures import build, load_weights, weights_of
from hounsfield.architectures.channels import follow_channels
from hounsfield.architectures.narrowing import channel_strengths, fewer_filters, narrowed
from hounsfield.errors import PackageInvalid, SettingsError

WINDOW = (8, 16, 16)
PLAIN = {"name": "plain-unet", "channels_in": 1, "channels_out": 2, "filters": [6, 8, 12], "deep_supervision": 1}
WIDE: dict[str, dict[str, Any]] = {
    "plain-unet": PLAIN,
    "plain-unet residual": {**PLAIN, "residual": True},
    "attention-unet": {"name": "attention-unet", "channels_in": 1, "channels_out": 2, "filters": [6, 8, 12]},
    "residual-encoder-unet": {
        "name": "residual-encoder-unet", "channels_in": 1, "channels_out": 2, "filters": [6, 8, 12], "units": [1, 2, 2],
    },
    "monai-unet": {
        "name": "monai-unet", "channels_in": 1, "channels_out": 2, "filters": [6, 8, 12], "strides": [2, 2], "units": 2,
    },
}  # fmt: skip


def random_network(table: dict[str, Any], seed: int = 0) -> nn.Module:
    """With every weight different, so that norms scale and shift too."""
    torch.manual_seed(seed)
    network = build(table).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def silenced(network: nn.Module, table: dict[str, Any], narrow: dict[str, Any]) -> None:
    """Set to zero whatever reads a channel that ``narrow`` has no room for; then the rest must answer alone."""
    before, after = follow_channels(table, WINDOW), follow_channels(narrow, WINDOW)
    strengths = channel_strengths(before, weights_of(network))
    tensors = weights_of(network)
    for use in before.uses:
        if use.role != "reads":
            continue
        start = 0
        for group in use.groups:
            order = torch.argsort(strengths[group], descending=True, stable=True)
            gone = order[after.sizes[group] :] + start
            tensors[use.tensor].index_fill_(use.axis, gone, 0.0)
            start += before.sizes[group]


@pytest.mark.parametrize("name", sorted(WIDE))
def test_a_narrower_copy_answers_as_the_wide_one_without_the_channels_that_went(name: str) -> None:
    table = WIDE[name]
    narrow = {**table, "filters": [4, 6, 8]}
    network = random_network(table)
    copy = build(narrow).eval()
    load_weights(copy, narrowed(table, weights_of(network), narrow, WINDOW))
    image = torch.randn(1, 1, *WINDOW, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = network(image)
        silenced(network, table, narrow)
        expected, found = network(image), copy(image)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(expected, whole, atol=1e-2)


def test_the_strongest_channels_stay_and_a_copy_of_the_same_width_is_the_same() -> None:
    network = random_network(PLAIN)
    tensors = weights_of(network)
    same = narrowed(PLAIN, tensors, PLAIN, WINDOW)
    assert all(torch.equal(same[name], tensor) for name, tensor in tensors.items())
    loud = tensors["input_block.norm1.weight"]
    loud.fill_(1.0)
    loud[[1, 4]] = 50.0
    tensors["input_block.norm1.bias"].zero_()
    kept = narrowed(PLAIN, tensors, {**PLAIN, "filters": [4, 8, 12]}, WINDOW)["input_block.norm1.weight"]
    assert (kept == 50.0).sum() == 2


def test_the_level_that_is_read_least_goes_first() -> None:
    network = random_network({**PLAIN, "filters": [16, 16, 32]})
    table = {**PLAIN, "filters": [16, 16, 32]}
    found = fewer_filters(table, weights_of(network), 0.5, WINDOW)
    before, after = (sum(p.numel() for p in build(one).parameters()) for one in (table, found))
    assert after <= 0.5 * before
    assert after == follow_channels(found, WINDOW).parameters
    assert found["filters"][2] < 32
    with pytest.raises(SettingsError, match="cannot go"):
        fewer_filters(table, weights_of(network), 0.999, WINDOW)


def test_what_is_no_narrower_copy_is_refused() -> None:
    tensors = weights_of(random_network(PLAIN))
    with pytest.raises(PackageInvalid, match="is wider than the one"):
        narrowed(PLAIN, tensors, {**PLAIN, "filters": [6, 8, 16]}, WINDOW)
    with pytest.raises(PackageInvalid, match="not a copy of the wider"):
        narrowed(PLAIN, tensors, {**PLAIN, "filters": [4, 4, 6, 8]}, WINDOW)
    with pytest.raises(PackageInvalid, match="not a copy of the wider"):
        narrowed(PLAIN, tensors, WIDE["attention-unet"], WINDOW)
    vision = {"name": "unetr", "channels_in": 1, "channels_out": 2, "window": [32, 32, 32]}
    with pytest.raises((PackageInvalid, SettingsError)):
        fewer_filters(vision, {}, 0.5, (32, 32, 32))
    with pytest.raises(SettingsError, match="no list of filters"):
        fewer_filters({"name": "meshnet", "filters": 5}, {}, 0.5, WINDOW)
