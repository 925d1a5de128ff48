"""Rewritten layers answer what the originals do, and run in the arithmetic that was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hounsfield.inference import LoadSettings, OnnxGraph, engine
from hounsfield.inference.engines.openvino_rewrites import rewrite

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's exporter warns of its own tracing


def exported(path: Path, module: torch.nn.Module, shape: tuple[int, ...]) -> Path:
    torch.onnx.export(module.eval(), (torch.zeros(shape),), str(path), dynamo=False, opset_version=17)
    return path


def answers(path: Path, x: np.ndarray, change: bool) -> tuple[np.ndarray, int]:
    import openvino as ov

    core = ov.Core()
    model = core.read_model(path)
    model.reshape({model.inputs[0]: list(x.shape)})
    done = rewrite(model) if change else 0
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.asarray(compiled(x)[0]), done


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("stride", "kernel", "pad", "extra"),
    [(2, 3, 1, 1), (2, (3, 3, 2), (1, 1, 0), (1, 1, 0)), (3, 4, 1, 1), (2, 5, 2, 1), (4, 3, 0, 1)],
    ids=str,
)
def test_a_transposed_convolution_with_output_padding_is_a_convolution(
    stride: int, kernel: object, pad: object, extra: object, bias: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    module = torch.nn.ConvTranspose3d(5, 3, kernel, stride, pad, extra, bias=bias)  # type: ignore[arg-type]
    path = exported(tmp_path / "net.onnx", torch.nn.Sequential(module, torch.nn.ReLU()), (1, 5, 4, 5, 6))
    x = np.random.default_rng(0).normal(size=(1, 5, 4, 5, 6)).astype(np.float32)
    changed, done = answers(path, x, True)
    assert done == 1
    with torch.inference_mode():
        wanted = torch.relu(module(torch.from_numpy(x))).numpy()
    np.testing.assert_allclose(changed, wanted, atol=1e-5)


@pytest.mark.parametrize(
    "module",
    [
        torch.nn.ConvTranspose3d(4, 4, 2, 2),  # has a fast kernel of its own
        torch.nn.ConvTranspose3d(4, 4, 3, (1, 2, 2), 1, (0, 1, 1)),  # blocks that are no cubes
        torch.nn.ConvTranspose3d(4, 4, 3, 2, 0, 1),  # more voxels than blocks
        torch.nn.ConvTranspose3d(4, 4, 3, 2, 1, 1, groups=2),
        torch.nn.InstanceNorm3d(4 * 4),
    ],
    ids=["kernel-2", "anisotropic", "overhanging", "grouped", "many-channels"],
)
def test_other_layers_stay(module: torch.nn.Module, tmp_path: Path) -> None:
    channels = 16 if isinstance(module, torch.nn.InstanceNorm3d) else 4
    path = exported(tmp_path / "net.onnx", module, (1, channels, 4, 4, 4))
    x = np.random.default_rng(0).normal(size=(1, channels, 4, 4, 4)).astype(np.float32)
    same, done = answers(path, x, True)
    assert done == 0
    np.testing.assert_array_equal(same, answers(path, x, False)[0])


def test_a_norm_of_few_channels_is_flattened(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv3d(1, 3, 3, padding=1), torch.nn.InstanceNorm3d(3, affine=True))
    path = exported(tmp_path / "net.onnx", module, (1, 1, 8, 9, 10))
    x = np.random.default_rng(0).normal(3, 2, size=(1, 1, 8, 9, 10)).astype(np.float32)
    changed, done = answers(path, x, True)
    assert done == 1
    with torch.inference_mode():
        np.testing.assert_allclose(changed, module(torch.from_numpy(x)).numpy(), atol=1e-4)


def test_a_session_of_less_than_fp32_uses_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv3d(1, 32, 3, 2, 1), torch.nn.ConvTranspose3d(32, 3, 3, 2, 1, 1), torch.nn.InstanceNorm3d(3)
    )
    path = exported(tmp_path / "net.onnx", module, (1, 1, 16, 16, 16))
    x = np.random.default_rng(0).normal(size=(1, 1, 16, 16, 16)).astype(np.float32)
    with torch.inference_mode():
        wanted = module(torch.from_numpy(x)).numpy()
    for precision, tolerance in (("fp32", 1e-4), ("bf16", 0.15)):
        session = engine("openvino").load(OnnxGraph(path), LoadSettings(precision, (16, 16, 16)))  # type: ignore[arg-type]
        assert session.precision == precision
        np.testing.assert_allclose(session.infer(x), wanted, atol=tolerance)
        kinds = {op.get_rt_info()["layerType"].astype(str) for op in session.compiled.get_runtime_model().get_ops()}
        assert ("DepthToSpace" in kinds) == (precision == "bf16")
        session.close()
