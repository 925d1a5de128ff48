"""Normalisation over many voxels is as exact as its arithmetic allows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.inference.test_openvino_rewrites import exported

from hounsfield.inference import LoadSettings, OnnxGraph, engine
from hounsfield.inference.engines.openvino_norms import sum_in_blocks

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's exporter warns of its own tracing


def norm_after_a_convolution(channels: int, dimensions: int = 3) -> torch.nn.Module:
    torch.manual_seed(0)
    kinds = {2: (torch.nn.Conv2d, torch.nn.InstanceNorm2d), 3: (torch.nn.Conv3d, torch.nn.InstanceNorm3d)}
    convolution, norm = kinds[dimensions]
    return torch.nn.Sequential(convolution(1, channels, 3, padding=1), norm(channels), torch.nn.LeakyReLU(0.01))


def answer(path: Path, x: np.ndarray) -> np.ndarray:
    import openvino as ov

    core = ov.Core()
    model = core.read_model(path)
    assert sum_in_blocks(model) == 1
    return np.asarray(core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)[0])


@pytest.mark.parametrize(
    ("channels", "shape"),
    [(16, (96, 96, 96)), (3, (97, 61, 40)), (5, (512, 384))],
    ids=["large", "prime-lengths", "plane"],
)
def test_fp32_is_within_rounding_of_double_precision(channels: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    module = norm_after_a_convolution(channels, len(shape))
    path = exported(tmp_path / "net.onnx", module, (1, 1, *shape))
    x = np.random.default_rng(0).normal(3, 2, size=(1, 1, *shape)).astype(np.float32)
    got = answer(path, x)
    with torch.inference_mode():
        wanted = module.double()(torch.from_numpy(x).double()).numpy()
    assert np.sqrt(np.mean((got - wanted) ** 2)) < 2e-6


def test_a_session_of_fp32_is_as_exact(tmp_path: Path) -> None:
    module, window = norm_after_a_convolution(16), (64, 64, 64)
    path = exported(tmp_path / "net.onnx", module, (1, 1, *window))
    x = np.random.default_rng(0).normal(3, 2, size=(1, 1, *window)).astype(np.float32)
    session = engine("openvino").load(OnnxGraph(path), LoadSettings("fp32", window))
    got = session.infer(x)
    assert session.precision == "fp32"
    session.close()
    with torch.inference_mode():
        wanted = module.double()(torch.from_numpy(x).double()).numpy()
    assert np.sqrt(np.mean((got - wanted) ** 2)) < 2e-6


def test_a_constant_image_becomes_zeros(tmp_path: Path) -> None:
    path = exported(tmp_path / "net.onnx", torch.nn.InstanceNorm3d(2), (1, 2, 24, 24, 24))
    np.testing.assert_allclose(answer(path, np.full((1, 2, 24, 24, 24), 1000, np.float32)), 0, atol=1e-3)


def test_small_ones_stay(tmp_path: Path) -> None:
    import openvino as ov

    model = ov.Core().read_model(exported(tmp_path / "net.onnx", norm_after_a_convolution(4), (1, 1, 8, 8, 8)))
    assert sum_in_blocks(model) == 0
