"""Engines: the precision that was asked for, or a refusal; answers equal float64 arithmetic."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy import ndimage

from hounsfield.errors import EngineError, EngineUnavailable, PackageInvalid, PluginError
from hounsfield.inference import Engine, LoadSettings, OnnxGraph, Session, TorchNetwork, engine, split_head
from hounsfield.inference.engines.onnxruntime import OnnxRuntimeEngine
from hounsfield.inference.engines.openvino import OpenVinoEngine

from .graphs import graph, nearest_level, small_unet_like

WINDOW = (16, 16, 16)
CHANNELS = 32
ENGINES = ["openvino", "onnxruntime"]


def convolution(seed: int = 0) -> tuple[bytes, np.ndarray]:
    """A 3x3x3 convolution of 32 channels with weights that bf16 cannot hold."""
    from onnx import helper

    weight = np.random.default_rng(seed).normal(0, 0.1, (8, CHANNELS, 3, 3, 3)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 6)]
    return graph(nodes, {"w": weight}, CHANNELS, 8), weight


def in_float64(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The convolution (cross-correlation, zero padding) in float64."""
    x, weight = x.astype(np.float64), weight.astype(np.float64)
    return np.stack(
        [sum(ndimage.correlate(x[c], kernel[c], mode="constant") for c in range(len(x))) for kernel in weight]
    )


def values(n: int = 1, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (n, CHANNELS, *WINDOW)).astype(np.float32)


@pytest.mark.parametrize("name", ENGINES)
def test_fp32_means_fp32(name: str) -> None:
    """On a CPU with AMX an engine left alone computes in bf16: an error of about 1e-2 here."""
    model, weight = convolution()
    session = engine(name).load(OnnxGraph(model), LoadSettings("fp32", WINDOW, CHANNELS, threads=1))
    x = values()
    exact = in_float64(x[0], weight)
    assert session.precision == "fp32"
    assert session.facts()["precision"] == "fp32"
    assert np.abs(session.infer(x)[0] - exact).max() < 2e-5
    rounded = (weight.view(np.uint32) & 0xFFFF0000).view(np.float32)
    assert np.abs(in_float64(x[0], rounded) - exact).max() > 1e-3  # the comparison would see bf16
    session.close()


def test_bf16_is_named_when_it_runs() -> None:
    """Where the CPU has bf16 the session says so and its answers show it; elsewhere it says fp32."""
    model, weight = convolution()
    session = engine("openvino").load(OnnxGraph(model), LoadSettings("bf16", WINDOW, CHANNELS, threads=1))
    x = values()
    error = np.abs(session.infer(x)[0] - in_float64(x[0], weight)).max()
    assert session.precision in ("bf16", "fp32")
    assert (error > 1e-3) == (session.precision == "bf16")
    assert error < 0.2


def test_less_exact_than_asked_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """If OpenVINO ignored the hint, no session would be handed out."""
    from hounsfield.inference.engines import openvino as module

    monkeypatch.setattr(module, "_really_runs", lambda compiled: "bf16")
    with pytest.raises(EngineError, match="fp32 was asked for"):
        OpenVinoEngine().load(OnnxGraph(convolution()[0]), LoadSettings("fp32", WINDOW, CHANNELS, threads=1))


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("requests", [1, 2, 3])
def test_stream_answers_in_order_and_batches_may_be_short(name: str, requests: int) -> None:
    settings = LoadSettings("fp32", (8, 8, 8), 1, batch=2, threads=1, requests=requests)
    session = engine(name).load(OnnxGraph(nearest_level(4)), settings)
    assert isinstance(session, Session)
    batches = [np.full((1 + n % 2, 1, 8, 8, 8), n % 4, np.float32) for n in range(9)]
    got = [(answer.shape[0], int(answer[0, :, 3, 3, 3].argmax())) for answer in session.stream(batches)]
    assert got == [(1 + n % 2, n % 4) for n in range(9)]
    assert session.infer(batches[3]).argmax(1).tolist() == np.full((2, 8, 8, 8), 3).tolist()
    session.close()


@pytest.mark.parametrize("name", ENGINES)
def test_threads_are_what_was_asked_for(name: str) -> None:
    session = engine(name).load(OnnxGraph(nearest_level(2)), LoadSettings("fp32", (8, 8, 8), threads=1))
    assert session.facts()["threads"] == 1
    assert session.facts()["engine"] == name


@pytest.mark.parametrize("name", ENGINES)
def test_wrong_input_is_an_error(name: str) -> None:
    session = engine(name).load(OnnxGraph(nearest_level(2)), LoadSettings("fp32", (8, 8, 8), threads=1))
    for bad in (
        np.zeros((1, 1, 8, 8, 9), np.float32),
        np.zeros((2, 1, 8, 8, 8), np.float32),
        np.zeros((1, 1, 8, 8, 8)),
    ):
        with pytest.raises(EngineError, match="was given"):
            session.infer(bad)


@pytest.mark.parametrize("name", ENGINES)
def test_a_damaged_graph_is_an_error(name: str) -> None:
    with pytest.raises(EngineError):
        engine(name).load(OnnxGraph(b"not a graph"), LoadSettings("fp32", (8, 8, 8)))
    with pytest.raises(PackageInvalid):
        split_head(OnnxGraph(b"\xff\xfe not a graph"))


def test_what_an_engine_cannot_do_is_said_before_it_runs() -> None:
    model = OnnxGraph(nearest_level(2))
    for name, network, settings in (
        ("openvino", TorchNetwork(lambda: None), LoadSettings("fp32", WINDOW)),
        ("openvino", model, LoadSettings("fp32", WINDOW, device="cuda")),
        ("onnxruntime", TorchNetwork(lambda: None), LoadSettings("fp32", WINDOW)),
        ("onnxruntime", model, LoadSettings("bf16", WINDOW)),
        ("onnxruntime", model, LoadSettings("int8", WINDOW)),
        ("onnxruntime", model, LoadSettings("fp16", WINDOW, device="cuda:1")),
    ):
        with pytest.raises(EngineUnavailable):
            engine(name).load(network, settings)
    with pytest.raises(PluginError, match="openvino"):
        engine("openvnio")


@pytest.mark.parametrize(
    ("made", "module", "line"),
    [(OpenVinoEngine, "openvino", "pip install openvino"), (OnnxRuntimeEngine, "onnxruntime", "hounsfield[ort]")],
)
def test_an_absent_runtime_names_its_install_line(
    monkeypatch: pytest.MonkeyPatch, made: type, module: str, line: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    answer = made().availability()
    assert not answer
    assert line in answer.install
    with pytest.raises(EngineUnavailable, match="install"):
        made().load(OnnxGraph(nearest_level(2)), LoadSettings("fp32", WINDOW))
    with pytest.raises(EngineUnavailable, match="install"):
        engine(made.name)


def test_engines_keep_the_contract() -> None:
    for name in ENGINES:
        assert isinstance(engine(name), Engine)
        assert engine(name).name == name


def test_the_head_is_found_only_where_cutting_is_exact() -> None:
    from onnx import helper

    cut, head = split_head(OnnxGraph(small_unet_like(1, 8, 23))) or (None, None)
    assert head is not None
    assert cut is not None
    assert (head.classes, head.features) == (23, 8)
    x = np.random.default_rng(0).normal(size=(1, 1, 8, 8, 8)).astype(np.float32)
    settings = LoadSettings("fp32", (8, 8, 8), threads=1)
    for name in ENGINES:
        whole = engine(name).load(OnnxGraph(small_unet_like(1, 8, 23)), settings).infer(x)
        features = engine(name).load(cut, settings).infer(x)
        assert features.shape == (1, 8, 8, 8, 8)
        again = np.einsum("cf,nfkji->nckji", head.weight, features) + head.bias[:, None, None, None]
        np.testing.assert_allclose(again, whole, atol=1e-5)
    ones = {"w": np.ones((3, 4, 1, 1, 1), np.float32), "r": np.ones((4, 1, 1, 1, 1), np.float32)}
    widen = helper.make_node("Conv", ["x", "r"], ["a"])
    for last, extra in (
        ([helper.make_node("Conv", ["a", "w"], ["b"]), helper.make_node("Softmax", ["b"], ["y"], axis=1)], {}),
        ([helper.make_node("Conv", ["a", "w"], ["y"], strides=[2, 2, 2])], {}),
        ([helper.make_node("Conv", ["a", "w"], ["y"], pads=[1] * 6)], {}),
        ([helper.make_node("Conv", ["a", "w3"], ["y"], pads=[1] * 6)], {"w3": np.ones((3, 4, 3, 3, 3), np.float32)}),
        ([helper.make_node("Relu", ["a"], ["y"])], {}),
    ):
        used = {name for node in last for name in node.input}
        weights = {name: value for name, value in {**ones, **extra}.items() if name in used | {"r"}}
        assert split_head(OnnxGraph(graph([widen, *last], weights, 1, 3))) is None
