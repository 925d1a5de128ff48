"""Mirroring at test time, against flips done one by one."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from hounsfield.architectures import build
from hounsfield.architectures.export import example_inputs, export_onnx, parity
from hounsfield.errors import PackageInvalid

pytestmark = pytest.mark.torch
PLAIN = {"name": "plain-unet", "channels_in": 1, "channels_out": 2, "filters": [4, 8, 8], "deep_supervision": 1}


def test_answers_are_the_mean_over_all_flips_with_the_same_weights() -> None:
    torch.manual_seed(1)
    plain, mirrored = build(PLAIN).eval(), build({**PLAIN, "mirror": [0, 2]}).eval()
    assert list(mirrored.state_dict()) == list(plain.state_dict())
    mirrored.load_state_dict(plain.state_dict())
    image = torch.randn(2, 1, 8, 12, 8)
    sets = [(), (2,), (4,), (2, 4)]
    with torch.inference_mode():
        wanted = sum(plain(image.flip(axes)).flip(axes) for axes in sets) / 4
        torch.testing.assert_close(mirrored(image), wanted)
        for axes in itertools.chain.from_iterable(itertools.combinations((2, 4), n) for n in (1, 2)):
            torch.testing.assert_close(mirrored(image.flip(axes)).flip(axes), wanted, atol=1e-5, rtol=1e-5)
        assert (mirrored(image.flip(3)).flip(3) - wanted).abs().max() > 1e-3


def test_training_does_not_mirror() -> None:
    torch.manual_seed(1)
    plain, mirrored = build(PLAIN).train(), build({**PLAIN, "mirror": [0, 1, 2]}).train()
    mirrored.load_state_dict(plain.state_dict())
    image = torch.randn(1, 1, 8, 8, 8)
    torch.testing.assert_close(mirrored(image), plain(image))


@pytest.mark.filterwarnings("ignore")  # torch's exporter warns of its own tracing
def test_both_engines_mirror_as_torch_does(tmp_path: Path) -> None:
    torch.manual_seed(1)
    description = {**PLAIN, "mirror": [0, 1, 2]}
    network = build(description).eval()
    graph = export_onnx(network, description, (8, 12, 16), tmp_path / "graph.onnx", 1)
    assert max(parity(graph.path, network, example_inputs(description, (8, 12, 16), 1, 1)).values()) < 1e-4


@pytest.mark.parametrize("axes", [[3], [0, 0], [-1]])
def test_other_axes_are_refused(axes: list[int]) -> None:
    with pytest.raises(PackageInvalid, match="mirror names axes"):
        build({**PLAIN, "mirror": axes})
