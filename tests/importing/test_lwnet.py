"""Little W-Net: every weight finds its place; what colour cannot do yet is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from answering import answers, do_import, onnx_answer
from torch import Tensor
from torch.nn import functional

from hounsfield.usecases.job import Choices
from hounsfield.usecases.run import RunRequest, run_model

pytestmark = [pytest.mark.torch, pytest.mark.shared_data]
CHANNELS = [{"name": colour, "modality": "OP", "quantity": "arbitrary"} for colour in ("red", "green", "blue")]


def block(state: dict[str, Tensor], name: str, image: Tensor) -> Tensor:
    """Two convolutions beside a shortcut, straight from the checkpoint's own names."""

    def norm(key: str, values: Tensor) -> Tensor:
        stats = (state[f"{key}.running_mean"], state[f"{key}.running_var"])
        return functional.batch_norm(values, *stats, state[f"{key}.weight"], state[f"{key}.bias"])

    def convolve(key: str, values: Tensor) -> Tensor:
        return functional.conv2d(values, state[f"{key}.weight"], state[f"{key}.bias"], padding=1)

    inner = norm(f"{name}.block.2", functional.leaky_relu(convolve(f"{name}.block.0", image)))
    if f"{name}.block.3.weight" not in state:
        return inner
    inner = norm(f"{name}.block.5", functional.leaky_relu(convolve(f"{name}.block.3", inner)))
    return inner + norm(f"{name}.shortcut.1", functional.conv2d(image, state[f"{name}.shortcut.0.weight"]))


def unet(state: dict[str, Tensor], name: str, image: Tensor) -> Tensor:
    skips = [block(state, f"{name}.first", image)]
    for level in range(2):
        skips.append(block(state, f"{name}.down_path.{level}", functional.max_pool2d(skips[-1], 2)))
    features = skips.pop()
    for level in range(2):
        up = f"{name}.up_path.{level}"
        key = f"{up}.up_layer.block.0"
        doubled = functional.conv_transpose2d(features, state[f"{key}.weight"], state[f"{key}.bias"], stride=2)
        bridged = block(state, f"{up}.conv_bridge_layer", skips.pop())
        features = block(state, f"{up}.conv_layer", torch.cat((doubled, bridged), 1))
    return functional.conv2d(features, state[f"{name}.final.weight"], state[f"{name}.final.bias"])


def test_the_graph_answers_as_the_checkpoint_written_out(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "weights-lwnet-retina/wnet_drive"
    result = do_import(source, tmp_path, answers(["Retinal vessel"], channels=CHANNELS, modality="OP"))
    assert result.package is not None
    assert result.package.manifest.output.threshold == 0.4196
    state = torch.load(source / "model_checkpoint.pth", map_location="cpu", weights_only=True)["model_state_dict"]
    image = torch.rand((1, 3, 512, 512), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = unet(state, "unet2", torch.cat((image, unet(state, "unet1", image)), 1)).numpy()
    found = onnx_answer(result.package.graph_path("fp32"), image.numpy()[:, :, None])[:, :, 0]
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    assert "Colour images are not read" in result.package.card()
    scan = shared_data / "mr-hippocampus-msd/images/hippocampus_001.nii.gz"
    choices = Choices(allow_unproven=True)
    (series,) = run_model(RunRequest(result.package.root, scan, tmp_path / "out", choices=choices)).series
    assert series.status == "refused"
    assert series.error is not None
    assert "for 3 channels" in series.error["fact"]
