"""Each network of the closed list trains a step, exports, and answers the same in both engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F

from hounsfield.architectures import architecture, build, load_weights, names, weights_of
from hounsfield.architectures.export import OPSET, example_inputs, export_onnx, parity
from hounsfield.errors import PackageInvalid
from hounsfield.findings.peaks import find_peaks

pytestmark = pytest.mark.torch

TINY: dict[str, tuple[dict[str, Any], tuple[int, int, int], tuple[int, int, int]]] = {
    "attention-unet": ({"channels_in": 1, "channels_out": 3, "filters": [4, 8, 8]}, (16, 16, 16), (8, 24, 16)),
    "cnn-lstm": ({"channels_in": 1, "channels_out": 2, "filters": [4, 8], "hidden_size": 8}, (1, 16, 16), (1, 24, 20)),
    "densenet121": (
        {"channels_in": 1, "channels_out": 2, "init_features": 8, "growth_rate": 4, "blocks": [2, 2, 2, 2]},
        (1, 64, 64),
        (1, 96, 64),
    ),
    "fusion": (
        {"channels_in": 2, "channels_out": 2, "columns": 4, "filters": [4, 8], "dropout": 0.0},
        (8, 16, 16),
        (12, 16, 20),
    ),
    "hippodeep": ({"part": "head", "channels_in": 1, "channels_out": 4}, (16, 16, 16), (16, 16, 16)),
    "meshnet": (
        {
            "channels_in": 1,
            "channels_out": 3,
            "filters": 5,
            "dilations": [1, 2, 1],
            "activation": "gelu",
            "norm": "instance",
        },
        (16, 16, 16),
        (8, 24, 16),
    ),
    "monai-unet": (
        {"channels_in": 1, "channels_out": 3, "filters": [4, 8], "strides": [2], "units": 1},
        (16, 16, 16),
        (8, 24, 16),
    ),
    "nnunet-plain": (
        {
            "channels_in": 1,
            "channels_out": 3,
            "filters": [4, 8, 8],
            "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
            "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
            "convolutions": [2, 2, 1],
            "decoder_convolutions": [1, 2],
            "members": 2,
            "mirror": [2],
        },
        (16, 16, 16),
        (8, 24, 16),
    ),
    "nnunet-residual": (
        {
            "channels_in": 2,
            "channels_out": 3,
            "filters": [4, 8, 8],
            "kernels": [[3, 3, 3], [3, 3, 3], [3, 3, 3]],
            "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
            "units": [1, 2, 2],
            "decoder_convolutions": [1, 1],
        },
        (16, 16, 16),
        (8, 24, 16),
    ),
    "nodule-detector": ({"channels_in": 1, "channels_out": 1, "filters": [4, 8, 8, 8]}, (16, 16, 16), (24, 16, 32)),
    "outline-classifier": ({"channels_in": 1, "channels_out": 2, "filters": [4, 8, 8]}, (8, 16, 16), (16, 24, 16)),
    "plain-unet": ({"channels_in": 1, "channels_out": 3, "filters": [4, 8, 8]}, (16, 16, 16), (8, 24, 16)),
    "residual-encoder-unet": (
        {"channels_in": 2, "channels_out": 3, "filters": [4, 8, 8], "units": [1, 2, 2]},
        (16, 16, 16),
        (8, 24, 16),
    ),
    "segresnet": (
        {"channels_in": 1, "channels_out": 3, "filters": 8, "blocks_down": [1, 1], "blocks_up": [1]},
        (16, 16, 16),
        (8, 24, 16),
    ),
    "swin-unetr": (
        {"channels_in": 1, "channels_out": 2, "window": [64, 32, 32], "feature_size": 12, "depths": [1, 1, 1, 1]},
        (64, 32, 32),
        (64, 32, 32),
    ),
    "unetr": (
        {
            "channels_in": 1,
            "channels_out": 2,
            "window": [16, 16, 16],
            "feature_size": 4,
            "hidden_size": 24,
            "mlp_size": 32,
            "heads": 2,
        },
        (16, 16, 16),
        (16, 16, 16),
    ),
    "vit-classifier": (
        {
            "channels_in": 1,
            "channels_out": 2,
            "window": [1, 32, 32],
            "patch": 8,
            "hidden_size": 24,
            "mlp_size": 32,
            "layers": 2,
            "heads": 2,
        },
        (1, 32, 32),
        (1, 32, 32),
    ),
    "wnet": ({"channels_in": 3, "channels_out": 1, "filters": [4, 8, 8]}, (1, 16, 32), (1, 16, 32)),
}


def description(name: str) -> dict[str, Any]:
    return {"name": name, **TINY[name][0]}


def test_every_architecture_is_tested() -> None:
    assert set(TINY) == set(names())


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_step_changes_every_weight_and_lowers_the_loss(name: str) -> None:
    torch.manual_seed(0)
    network = build(description(name)).train()
    inputs = example_inputs(description(name), TINY[name][1], batch=2)
    answer = network(*inputs.values())
    target = torch.randn(answer.shape, generator=torch.Generator().manual_seed(1))
    before = {key: value.detach().clone() for key, value in network.named_parameters()}
    optimiser = torch.optim.SGD(network.parameters(), 1e-3)
    first = F.mse_loss(answer, target)
    first.backward()
    unmoved = [key for key, value in network.named_parameters() if value.grad is None]
    optimiser.step()
    assert unmoved == []
    assert F.mse_loss(network(*inputs.values()), target).item() < first.item()
    assert sum(not torch.equal(before[key], value) for key, value in network.named_parameters()) > len(before) // 2


@pytest.mark.parametrize("name", sorted(TINY))
def test_the_graph_answers_as_the_network_does_in_both_engines(name: str, tmp_path: Path) -> None:
    torch.manual_seed(2)
    _, window, other = TINY[name]
    network = build(description(name))
    with torch.no_grad():
        for buffer_name, buffer in network.named_buffers():
            if buffer_name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
    exported = export_onnx(network, description(name), window, tmp_path / "net.onnx")
    model = onnx.load(str(exported.path))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert [entry.name for entry in model.graph.output] == ["logits"]
    assert model.graph.input[0].name == "image"
    assert architecture(name).inputs == exported.inputs
    for batch, size, phases in ((1, window, 2), (3, other, 5)):
        inputs = example_inputs(description(name), size, batch, phases, seed=batch)
        differences = parity(exported.path, network, inputs)
        assert set(differences) == {"onnxruntime", "openvino"}
        assert max(differences.values()) < 2e-5, differences
    assert list(tmp_path.iterdir()) == [exported.path]


def test_deep_supervision_stacks_heads_only_in_training() -> None:
    network = build({**description("attention-unet"), "deep_supervision": 1})
    image = torch.zeros(1, 1, 16, 16, 16)
    assert network.train()(image).shape == (1, 2, 3, 16, 16, 16)
    assert network.eval()(image).shape == (1, 3, 16, 16, 16)


def test_a_missing_value_of_the_record_counts_as_the_mean() -> None:
    network = build(description("fusion")).eval()
    network.record_mean.fill_(5.0)
    image = torch.zeros(1, 2, 8, 16, 16)
    record = torch.full((1, 4), 5.0)
    missing = record.clone()
    missing[0, 1] = float("nan")
    answers = [network(image, each) for each in (record, missing)]
    assert torch.isfinite(answers[1]).all()
    assert not torch.equal(answers[0], answers[1])  # the indicator is seen


def test_a_peak_is_found_where_it_was_put() -> None:
    output = np.full((7, 6, 6, 6), 0.0, np.float32)
    output[0] = -9
    output[0, 2, 3, 4] = 3.0
    output[0, 2, 3, 5] = 2.0  # a neighbour, not a peak of its own
    output[1:4, 2, 3, 4] = (3.0, 4.0, 2.0)
    output[4:7, 2, 3, 4] = (0.5, 0.25, 0.0)
    (peak,) = find_peaks(output, classes=1, stride=4)
    assert peak.centre == (9.5, 12.5, 15.5)
    assert peak.size == (8.0, 16.0, 4.0)
    assert peak.score == pytest.approx(1 / (1 + np.exp(-3.0)))


def test_weights_go_out_and_back() -> None:
    for name in sorted(TINY):
        one, other = build(description(name)), build(description(name))
        load_weights(other, weights_of(one))
        assert all(torch.equal(a, b) for a, b in zip(weights_of(one).values(), weights_of(other).values(), strict=True))


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"name": "plain-unett", "channels_in": 1}, "did you mean 'plain-unet'"),
        ({"name": "plain-unet", "channels_in": 1, "channels_out": 2, "filter": [4, 8]}, "did you mean 'filters'"),
        ({"name": "unetr", "channels_in": 1, "channels_out": 2, "window": [20, 16, 16]}, "multiples of 16"),
        ({"name": "attention-unet", "channels_in": 1, "channels_out": 2, "filters": [4]}, "at least two levels"),
    ],
)
def test_a_wrong_table_is_refused_with_a_proposal(table: dict[str, Any], told: str) -> None:
    with pytest.raises(PackageInvalid, match=told):
        build(table)


def test_further_heads_of_an_nnunet_answer_in_training_only_and_flips_are_left_out_there() -> None:
    table = {
        "name": "nnunet-plain",
        "channels_in": 1,
        "channels_out": 2,
        "filters": [4, 6, 8, 8],
        "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2]],
        "convolutions": [2, 2, 2, 2],
        "decoder_convolutions": [1, 1, 1],
        "mirror": [2],
    }
    supervised, plain = build({**table, "deep_supervision": 2}), build(table)
    image = torch.randn(1, 1, 4, 16, 16)
    assert supervised.train()(image).shape == (1, 3, 2, 4, 16, 16)
    assert plain.train()(image).shape == (1, 2, 4, 16, 16)
    plain.load_state_dict({k: v for k, v in supervised.state_dict().items() if "further_heads" not in k})
    torch.testing.assert_close(supervised(image)[:, 0], plain(image))
    once = plain(image)
    assert torch.equal(supervised.eval()(image), plain.eval()(image))
    torch.testing.assert_close(plain(image), (once + plain.train()(image.flip(4)).flip(4)) / 2)
    with pytest.raises(PackageInvalid, match="deep_supervision"):
        build({**table, "deep_supervision": 3})
