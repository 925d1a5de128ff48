"""The whole-volume mode equals one plain pass: ONNX Runtime's, torch's, at any slab depth."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import NodeProto, helper

from hounsfield.architectures import build
from hounsfield.architectures.export import export_onnx
from hounsfield.errors import EngineError, EngineUnavailable, PackageInvalid, SettingsError
from hounsfield.inference.deciding import Decision
from hounsfield.inference.engine import OnnxGraph
from hounsfield.inference.head import split_head
from hounsfield.inference.whole import WholeRun, WholeSettings, read_network, segment_whole
from hounsfield.packages.manifest import InputSpec
from hounsfield.preparing import Prepared, prepare, restore_scores
from hounsfield.volume import Geometry, Quantity, Volume

from .graphs import graph, small_unet_like

Shape = tuple[int, int, int]


def volume(shape: Shape, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Smooth structures of several sizes on a mean that is far from zero in half of the slices."""
    rng = np.random.default_rng(seed)
    out = rng.normal(size=(channels, *shape)).astype(np.float32)
    for axis in (1, 2, 3):
        out = (out + np.roll(out, 1, axis) + np.roll(out, -1, axis)) / np.sqrt(3)
    out[:, : shape[0] // 2] += 2
    return out.astype(np.float32)


def plain_pass(model: bytes, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x[None]})[0][0]


def in_slabs(model: bytes, x: np.ndarray, depth: int | None = None, **changes: object) -> np.ndarray:
    run = WholeRun(read_network(model), x.shape[1:], WholeSettings(**{"engine": "onnxruntime", **changes}))  # type: ignore[arg-type]
    if depth is not None:
        run.depths = [min(depth, run.shapes[stage.target][1]) for stage in run.stages]
    out = np.full((run.classes, *run.shapes[run.network.output][1:]), np.nan, np.float32)
    for start, stop, slab in run.run(lambda start, stop: x[:, start:stop]):
        out[:, start:stop] = slab
    return out


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    return float((one.argmax(0) == other.argmax(0)).mean())


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    fan = math.prod(shape[1:]) or 1
    return (np.random.default_rng(seed).normal(size=shape) / math.sqrt(fan)).astype(np.float32)


def unet(pre_norm: bool = False) -> bytes:
    """Two levels with a skip, a residual sum, PReLU, a transposed convolution with output padding."""
    w: dict[str, np.ndarray] = {}
    nodes: list[NodeProto] = []

    def conv(source: str, target: str, cin: int, cout: int, k: int = 3, s: int = 1) -> None:
        w[f"w{target}"] = draw(cout, cin, k, k, k, seed=len(w))
        w[f"b{target}"] = draw(cout, 1, seed=len(w))[:, 0]
        pads = [(k - 1) // 2] * 6
        nodes.append(
            helper.make_node("Conv", [source, f"w{target}", f"b{target}"], [target], pads=pads, strides=[s] * 3)
        )

    def norm(source: str, target: str, channels: int) -> None:
        w[f"g{target}"] = 1 + draw(channels, 4, seed=len(w))[:, 0]
        w[f"o{target}"] = draw(channels, 4, seed=len(w))[:, 0]
        w[f"a{target}"] = np.abs(draw(channels, 1, 1, 1, seed=len(w)))
        inputs = [source, f"g{target}", f"o{target}"]
        nodes.append(helper.make_node("InstanceNormalization", inputs, [f"{target}n"], epsilon=1e-4))
        nodes.append(helper.make_node("PRelu", [f"{target}n", f"a{target}"], [target]))

    first = "x"
    if pre_norm:
        norm("x", "x0", 1)
        first = "x0"
    conv(first, "c1", 1, 8)
    norm("c1", "e1", 8)
    conv("e1", "c2", 8, 8)
    norm("c2", "e2", 8)
    nodes.append(helper.make_node("Add", ["e2", "e1"], ["skip"]))
    conv("skip", "c3", 8, 16, s=2)
    norm("c3", "e3", 16)
    conv("e3", "c4", 16, 16)
    nodes.append(helper.make_node("Add", ["c4", "e3"], ["low"]))
    if pre_norm:
        norm("low", "low2", 16)
    w["wu"] = draw(16, 8, 3, 3, 3, seed=90)
    up = {"strides": [2] * 3, "pads": [1] * 6, "output_padding": [1] * 3}
    nodes.append(helper.make_node("ConvTranspose", ["low2" if pre_norm else "low", "wu"], ["u"], **up))
    nodes.append(helper.make_node("Concat", ["skip", "u"], ["cat"], axis=1))
    conv("cat", "c5", 16, 8)
    norm("c5", "e5", 8)
    conv("e5", "y", 8, 3, k=1)
    return graph(nodes, w, 1, 3)


@pytest.mark.parametrize("depth", [1, 2, 5, 64])
@pytest.mark.parametrize("pre_norm", [False, True])
def test_a_small_unet_equals_one_plain_pass_at_any_slab_depth(depth: int, pre_norm: bool) -> None:
    x = volume((24, 20, 28))
    model = unet(pre_norm)
    plain = plain_pass(model, x)
    ours = in_slabs(model, x, depth)
    np.testing.assert_allclose(ours, plain, atol=2e-4)
    assert agreement(ours, plain) >= 0.9999


def test_openvino_computes_the_same_in_fp32() -> None:
    x = volume((16, 20, 12))
    plain = plain_pass(unet(), x)
    ours = in_slabs(unet(), x, 7, engine="openvino")
    np.testing.assert_allclose(ours, plain, atol=3e-4)
    assert agreement(ours, plain) >= 0.9999


@pytest.mark.parametrize(("storage", "least"), [("fp16", 0.998), ("bf16", 0.98)])
def test_short_storage_comes_close(storage: str, least: float) -> None:
    x = volume((16, 20, 12))
    plain = plain_pass(unet(), x)
    ours = in_slabs(unet(), x, 8, engine="openvino", storage=storage)
    assert least <= agreement(ours, plain)
    assert not np.array_equal(ours, plain)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(["Conv", "ConvTranspose", "MaxPool", "AveragePool"]),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    low=st.integers(0, 2),
    high=st.integers(0, 2),
    dilation=st.integers(1, 2),
    grow=st.integers(0, 1),
    length=st.integers(4, 13),
    depth=st.integers(1, 6),
)
def test_any_stencil_in_slabs_equals_the_whole(
    kind: str, kernel: int, stride: int, low: int, high: int, dilation: int, grow: int, length: int, depth: int
) -> None:
    values: dict[str, object] = {"pads": [low, 0, 0, high, 0, 0], "strides": [stride, 1, 1]}
    weights: dict[str, np.ndarray] = {}
    inputs = ["x"]
    if kind.startswith("Conv"):
        weights["w"] = draw(2, 2, kernel, 1, 1)
        inputs.append("w")
        values["dilations"] = [dilation, 1, 1]
    else:
        dilation = 1
        values["kernel_shape"] = [kernel, 1, 1]
        assume(max(low, high) < kernel)
    if kind == "ConvTranspose":
        assume(grow < stride)
        values["output_padding"] = [grow, 0, 0]
        assume((length - 1) * stride - low - high + dilation * (kernel - 1) + 1 + grow > 0)
    else:
        assume(length + low + high >= dilation * (kernel - 1) + 1)
        assume(max(low, high) <= dilation * (kernel - 1))
    model = graph([helper.make_node(kind, inputs, ["y"], **values)], weights, 2, 2)
    x = volume((length, 2, 3), 2)
    np.testing.assert_allclose(in_slabs(model, x, depth), plain_pass(model, x), atol=1e-5)


DESCRIPTIONS = [
    {"name": "plain-unet", "channels_in": 1, "channels_out": 3, "filters": [4, 8, 16]},
    {"name": "plain-unet", "channels_in": 1, "channels_out": 3, "filters": [4, 8, 8], "residual": True},
    {"name": "attention-unet", "channels_in": 1, "channels_out": 3, "filters": [4, 8, 8]},
    {"name": "residual-encoder-unet", "channels_in": 1, "channels_out": 3, "filters": [4, 8, 8]},
]


@pytest.mark.torch
@pytest.mark.parametrize("description", DESCRIPTIONS, ids=["plain", "residual", "attention", "residual-encoder"])
def test_the_houses_networks_equal_torchs_whole_pass(description: dict[str, object], tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = build(description).eval()
    path = tmp_path / "g.onnx"
    export_onnx(network, description, (16, 16, 16), path)
    x = volume((24, 16, 32))
    with torch.inference_mode():
        plain = network(torch.from_numpy(x[None]))[0].numpy()
    ours = in_slabs(path.read_bytes(), x, 5)
    np.testing.assert_allclose(ours, plain, atol=3e-4)
    assert agreement(ours, plain) >= 0.9999


@pytest.mark.torch
def test_monais_residual_unet_equals_torchs_whole_pass(tmp_path: Path) -> None:
    from monai.networks.nets import UNet

    torch.manual_seed(5)
    network = UNet(3, 1, 3, (4, 8, 16), (2, 2), num_res_units=2).eval()
    path = tmp_path / "g.onnx"
    export_onnx(network, {"name": "plain-unet", "channels_in": 1}, (16, 16, 16), path)
    x = volume((20, 16, 24))
    with torch.inference_mode():
        plain = network(torch.from_numpy(x[None]))[0].numpy()
    ours = in_slabs(path.read_bytes(), x, 3)
    np.testing.assert_allclose(ours, plain, atol=3e-4)
    assert agreement(ours, plain) >= 0.9999


def prepared(shape: Shape, **spec: object) -> Prepared:
    scan = Volume(volume(shape)[0], Geometry.from_parts(shape, (1.0, 1.0, 1.0)), Quantity.ARBITRARY)
    table = {"channels": [{"name": "mr", "modality": "MR"}], "window": {"shape": (8, 8, 8)}, **spec}
    return prepare(scan, InputSpec.model_validate(table))


@pytest.mark.parametrize("spec", [{}, {"orientation": "RAS"}, {"spacing_mm": (0.8, 1.3, 1.1)}], ids=str)
@pytest.mark.parametrize("cut_head", [False, True])
def test_labels_come_back_on_the_scans_own_grid(spec: dict[str, object], cut_head: bool) -> None:
    scan = prepared((13, 18, 11), **spec)
    model, head = unet(), None
    if cut_head:
        split = split_head(OnnxGraph(model))
        assert split is not None
        model, head = split[0].model, split[1]
        assert isinstance(model, bytes)
    limits = WholeSettings("onnxruntime", slab_bytes=1 << 16)
    answer = segment_whole(scan, read_network(model), Decision("highest"), limits, head=head, pad_value=0.5)
    pads = [(-(-n // 2) * 2 - n) for n in scan.shape]
    around = [(0, 0), *((pad // 2, pad - pad // 2) for pad in pads)]
    plain = plain_pass(unet(), np.pad(scan.array, around, constant_values=0.5))
    inner = tuple(slice(pad // 2, pad // 2 + n) for pad, n in zip(pads, scan.shape, strict=True))
    expected = restore_scores(np.ascontiguousarray(plain[(slice(None), *inner)]), scan).argmax(0)
    assert answer.labels.geometry == scan.source
    assert (answer.labels.array == expected).mean() >= 0.999
    assert len(np.unique(expected)) == 3
    assert answer.figures.slabs > answer.figures.stages


def test_progress_ends_at_the_total_and_labels_may_go_into_the_callers_array(tmp_path: Path) -> None:
    scan = prepared((12, 8, 8))
    out = np.lib.format.open_memmap(tmp_path / "labels.npy", "w+", np.uint8, scan.source.shape)
    seen: list[tuple[int, int]] = []
    network = read_network(unet())
    answer = segment_whole(
        scan,
        network,
        Decision("highest"),
        WholeSettings("onnxruntime"),
        out=out,
        on_progress=lambda *a: seen.append(a),
    )
    assert answer.labels.array is out
    assert seen[-1][0] == seen[-1][1] == len(seen)
    with pytest.raises(SettingsError):
        segment_whole(scan, network, Decision("highest"), WholeSettings(), out=np.zeros((3, 3, 3), np.uint8))


@pytest.mark.parametrize(
    ("node", "name"),
    [
        (helper.make_node("GlobalAveragePool", ["x"], ["y"]), "GlobalAveragePool"),
        (helper.make_node("Softmax", ["x"], ["y"], axis=2), "Softmax"),
        (helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2] * 3, ceil_mode=1), "MaxPool"),
        (helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[1] * 3, pads=[1] * 6), "MaxPool"),
        (helper.make_node("Transpose", ["x"], ["y"], perm=[0, 1, 3, 2, 4]), "Transpose"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_run_in_slabs_is_refused_by_name(node: NodeProto, name: str) -> None:
    with pytest.raises(EngineUnavailable, match=f"operator {name} .*use the window mode"):
        read_network(graph([node], {}, 1, 1))


def test_what_is_no_graph_is_refused() -> None:
    with pytest.raises(PackageInvalid):
        read_network(b"\x00\xffnothing")


def test_a_size_that_does_not_fit_the_levels_says_so() -> None:
    with pytest.raises(EngineUnavailable, match="multiple"):
        WholeRun(read_network(unet()), (15, 16, 16), WholeSettings())
    assert read_network(unet()).multiple() == (2, 2, 2)


def test_not_a_number_in_the_scan_is_an_error_not_a_label() -> None:
    x = volume((12, 8, 8))
    x[0, 5, 3, 3] = np.nan
    with pytest.raises(EngineError, match="not a finite number"), np.errstate(invalid="ignore"):
        in_slabs(unet(), x, 4)


def test_what_fp16_cannot_hold_is_an_error_not_infinity() -> None:
    x = volume((12, 8, 8)) * 1e6
    with pytest.raises(EngineError, match="fp16"):
        in_slabs(unet(), x.astype(np.float32), 4, engine="openvino", storage="fp16")


@pytest.mark.parametrize(
    "wrong",
    [{"engine": "abacus"}, {"precision": "int8"}, {"storage": "fp8"}, {"threads": 0}, {"slab_bytes": 0}],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        WholeSettings(**wrong)  # type: ignore[arg-type]


def test_slabs_are_as_deep_as_the_limit_allows() -> None:
    network = read_network(small_unet_like(1, 8, 3))
    small, large = (WholeRun(network, (64, 32, 32), WholeSettings(slab_bytes=n)) for n in (9 << 20, 30 << 20))
    assert all(a <= b for a, b in zip(small.depths, large.depths, strict=True))
    assert min(small.depths) < min(large.depths)
