"""The torch engine: the same promises, and blending where the answers lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from hounsfield.errors import EngineError, EngineUnavailable
from hounsfield.inference import (
    Decision,
    LoadSettings,
    OnnxGraph,
    RunSettings,
    TorchNetwork,
    engine,
    load_network,
    segment,
)
from hounsfield.inference.engines.torch import TorchArrays, split_torch_head
from hounsfield.packages.manifest import InputSpec, WindowSpec
from hounsfield.preparing import Prepared, prepare
from hounsfield.volume import Geometry, Volume

from .graphs import nearest_level

pytestmark = pytest.mark.torch
WINDOW = (12, 10, 14)


def network(classes: int = 7) -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Conv3d(1, 6, 3, padding=1),
        torch.nn.InstanceNorm3d(6),
        torch.nn.LeakyReLU(),
        torch.nn.Conv3d(6, classes, 1),
    )


def prepared(**more: object) -> Prepared:
    array = np.random.default_rng(0).normal(0, 1, (25, 27, 31)).astype(np.float32)
    table = {"channels": [{"name": "mr", "modality": "MR"}], "window": {"shape": WINDOW, "overlap": 0.4}, **more}
    return prepare(Volume(array, Geometry.from_parts(array.shape)), InputSpec.model_validate(table))


WINDOWS = WindowSpec(shape=WINDOW, overlap=0.4)


def test_fp32_means_fp32_and_bf16_is_read_back() -> None:
    weight = np.random.default_rng(1).normal(0, 0.1, (4, 32, 3, 3, 3)).astype(np.float32)
    layer = torch.nn.Conv3d(32, 4, 3, padding=1, bias=False)
    layer.weight.data = torch.from_numpy(weight)
    x = np.random.default_rng(2).normal(0, 1, (1, 32, *WINDOW)).astype(np.float32)
    exact = np.stack(
        [
            sum(ndimage.correlate(x[0, c].astype(float), k[c], mode="constant") for c in range(32))
            for k in weight.astype(float)
        ]
    )
    for precision, low, high in (("fp32", 0, 2e-5), ("bf16", 1e-3, 0.2)):
        session = engine("torch").load(TorchNetwork(lambda: layer), LoadSettings(precision, WINDOW, 32))
        assert session.precision == precision
        assert low <= np.abs(session.infer(x)[0] - exact).max() < high
        assert session.facts()["engine"] == "torch"
        session.close()


def test_what_it_cannot_do_is_said() -> None:
    made = engine("torch")
    for given, settings in (
        (OnnxGraph(nearest_level(2)), LoadSettings("fp32", WINDOW)),
        (TorchNetwork(network), LoadSettings("int8", WINDOW)),
        (TorchNetwork(network), LoadSettings("fp16", WINDOW)),
    ):
        with pytest.raises(EngineUnavailable):
            made.load(given, settings)
    if not torch.cuda.is_available():
        with pytest.raises(EngineUnavailable, match="no device cuda"):
            made.load(TorchNetwork(network), LoadSettings("fp32", WINDOW, device="cuda"))
    with pytest.raises(EngineError, match="PyTorch failed"):
        made.load(TorchNetwork(network), LoadSettings("fp32", WINDOW, channels=2))


def test_the_head_is_cut_only_where_it_is_the_last_thing() -> None:
    found = split_torch_head(TorchNetwork(network), 1, WINDOW)
    assert found is not None
    trunk, head = found
    x = torch.randn(1, 1, *WINDOW)
    with torch.inference_mode():
        again = torch.einsum("cf,nfkji->nckji", torch.from_numpy(head.weight), trunk.build()(x))
        again += torch.from_numpy(head.bias)[:, None, None, None]
        torch.testing.assert_close(again, network().eval()(x))
    for last in (torch.nn.ReLU(inplace=True), torch.nn.Softmax(1), torch.nn.Conv3d(7, 3, 3, padding=1)):
        ended = torch.nn.Sequential(network(), last)
        assert split_torch_head(TorchNetwork(lambda ended=ended: ended), 1, WINDOW) is None


@pytest.mark.parametrize("more", [{}, {"spacing_mm": (0.8, 1.3, 1.0)}])
@pytest.mark.parametrize("accumulate", ["logits", "features"])
@pytest.mark.parametrize("accumulator", ["float32", "float16"])
def test_blending_with_tensors_equals_blending_on_the_host(more: dict, accumulate: str, accumulator: str) -> None:
    scan, settings = prepared(**more), LoadSettings("fp32", WINDOW)
    loaded = load_network(engine("torch"), TorchNetwork(network), settings, accumulate)
    on_host = segment(scan, loaded.session, WINDOWS, Decision("highest"), head=loaded.head).labels.array
    stream = loaded.session.stream
    loaded.session.arrays = TorchArrays(torch, torch.device("cpu"))
    loaded.session.stream = lambda batches: map(torch.from_numpy, stream(batches))
    run = RunSettings(accumulator=accumulator)
    as_tensors = segment(
        scan, loaded.session, WINDOWS, Decision("highest"), head=loaded.head, settings=run
    ).labels.array
    assert np.mean(on_host != as_tensors) < (1e-4 if accumulator == "float32" else 2e-3)
    assert len(np.unique(on_host)) > 2
    above = [segment(scan, loaded.session, WINDOWS, Decision("above", 0.3), head=loaded.head).labels.array]
    loaded.session.arrays, loaded.session.stream = None, stream
    above.append(segment(scan, loaded.session, WINDOWS, Decision("above", 0.3), head=loaded.head).labels.array)
    assert np.mean(above[0] != above[1]) < 1e-4


@pytest.mark.parametrize("where", ["network", "blending", "copy"])
def test_a_device_that_vanishes_in_the_middle_is_said(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch raises RuntimeErrors of any later call when a GPU is lost."""
    loaded, calls = load_network(engine("torch"), TorchNetwork(network), LoadSettings("fp32", WINDOW)), []

    def lost(*args: object, **more: object) -> None:
        calls.append(1)
        if len(calls) > 3:
            raise RuntimeError("CUDA error: unspecified launch failure\nmore lines")

    if where == "network":
        loaded.session._module.register_forward_pre_hook(lost)
    elif where == "blending":
        stream = loaded.session.stream
        loaded.session.arrays = TorchArrays(torch, torch.device("cpu"))
        loaded.session.stream = lambda batches: map(torch.from_numpy, stream(batches))
        monkeypatch.setattr(torch, "mul", lambda *args, out, **more: (lost(), out)[1])
    else:
        monkeypatch.setattr(torch.Tensor, "cpu", lambda self: (lost(), self)[1])
    with pytest.raises(EngineError, match=r"PyTorch failed: CUDA error: unspecified launch failure; .*device cpu"):
        segment(prepared(), loaded.session, WINDOWS, Decision("highest"))
    assert len(calls) == 4
