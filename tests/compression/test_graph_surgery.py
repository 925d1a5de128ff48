"""Giving layers their floats back, rounding weights to 16 bits, and whole pipelines: numbers against NumPy."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hounsfield.compression.layers import (
    copies_by_layer,
    heavy_layers,
    named,
    quantised_layers,
    with_exact_answer,
    with_float,
)
from hounsfield.compression.pipeline_graph import pipeline_graph, why_no_pipeline
from hounsfield.compression.quantising import demand_int8_machine, demand_quantiser, quantise
from hounsfield.compression.sensitivity import difference, layer_sensitivities
from hounsfield.compression.weights16 import with_16bit_weights
from hounsfield.errors import EngineUnavailable, PackageInvalid, PluginError
from hounsfield.planning.machine import Machine
from hounsfield.testing.packages import TinyModel, tiny_graph, tiny_manifest

WINDOW = (1, 1, 6, 8, 10)


def two_layers(other: float = 1.0) -> onnx.ModelProto:
    """x -> (x, other x) -> their first, twice; node names are left empty."""
    first = np.array([1.0, other], np.float32).reshape(2, 1, 1, 1, 1)
    second = np.array([[1.0, 0.0], [2.0, 0.0]], np.float32).reshape(2, 2, 1, 1, 1)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "first"], ["a"], kernel_shape=[1, 1, 1]),
            helper.make_node("Conv", ["a", "second"], ["y"], kernel_shape=[1, 1, 1]),
        ],
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, "k", "j", "i"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, "k", "j", "i"])],
        [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def answer(model: onnx.ModelProto, window: np.ndarray) -> np.ndarray:
    """By ONNX's own reference implementation."""
    from onnx.reference import ReferenceEvaluator

    (found,) = ReferenceEvaluator(model).run(None, {model.graph.input[0].name: window})
    return np.asarray(found)


@pytest.fixture(scope="module")
def windows() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.uniform(0, 10, WINDOW).astype(np.float32) for _ in range(3)]


def test_a_layer_in_float_is_exact_again_and_the_others_stay_rounded(windows: list[np.ndarray]) -> None:
    model = named(two_layers(other=1000.0))
    assert [(one.name, one.weights) for one in heavy_layers(model)] == [("Conv_0", 2), ("Conv_1", 4)]
    made = quantise(model, windows, "onnxruntime")
    assert (made.layers, made.excluded) == (("Conv_0", "Conv_1"), ())
    exact, rounded = answer(model, windows[0]), answer(made.model, windows[0])
    assert np.abs(rounded - exact).max() > 5
    mended = with_float(made.model, model, {"Conv_1"})
    assert quantised_layers(mended) == ("Conv_0",)
    assert np.abs(answer(mended, windows[0]) - exact).max() < 0.1
    whole = with_float(made.model, model, {"Conv_0", "Conv_1"})
    assert not quantised_layers(whole)
    np.testing.assert_allclose(answer(whole, windows[0]), exact, rtol=1e-6)
    assert not [node for node in whole.graph.node if "Linear" in node.op_type]
    left = quantise(model, windows, "onnxruntime", excluded=("Conv_1",))
    assert (left.layers, left.excluded) == (("Conv_0",), ("Conv_1",))


def test_the_answer_itself_is_not_rounded(windows: list[np.ndarray]) -> None:
    model = named(two_layers())
    made = quantise(model, windows, "onnxruntime")
    assert len(np.unique(answer(made.model, windows[0])[:, 0])) > 200
    assert with_exact_answer(model).graph.node == model.graph.node


def over_flips() -> onnx.ModelProto:
    """The mean of two layers' answers to x and to x turned round, which read the same weights."""
    model = two_layers()
    del model.graph.node[:]
    for tail, given in (("", "x"), ("_flipped", "turned")):
        model.graph.node.append(helper.make_node("Conv", [given, "first"], [f"a{tail}"], kernel_shape=[1, 1, 1]))
        model.graph.node.append(helper.make_node("Conv", [f"a{tail}", "second"], [f"b{tail}"], kernel_shape=[1, 1, 1]))
    ends = {"starts": [-1], "ends": [-1000], "axes": [4], "steps": [-1]}
    turn = [helper.make_node("Constant", [], [name], value_ints=values) for name, values in ends.items()]
    turn.append(helper.make_node("Slice", ["x", *ends], ["turned"]))
    back = [
        helper.make_node("Slice", ["b_flipped", *ends], ["back"]),
        helper.make_node("Add", ["b", "back"], ["sum"]),
        helper.make_node("Mul", ["sum", "half"], ["y"]),
    ]
    nodes = [*turn, *model.graph.node, *back]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "half"))
    onnx.checker.check_model(model)
    return model


def rounding(model: onnx.ModelProto, *names: str) -> onnx.ModelProto:
    """The model with these values rounded to 8 bits wherever they are read."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    made.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "step"))
    made.graph.initializer.append(numpy_helper.from_array(np.array(0, np.uint8), "zero"))
    nodes = []
    for node in made.graph.node:
        node.input[:] = [f"{name}_dq" if name in names else name for name in node.input]
        nodes.append(node)
        for name in set(node.output) & set(names):
            nodes.append(helper.make_node("QuantizeLinear", [name, "step", "zero"], [f"{name}_q"]))
            nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", "step", "zero"], [f"{name}_dq"]))
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    onnx.checker.check_model(made)
    return made


def test_nothing_is_rounded_between_the_last_layers_and_a_mean_over_flips(windows: list[np.ndarray]) -> None:
    model = named(over_flips())
    spoilt = rounding(model, "b", "b_flipped", "sum")
    exact = answer(model, windows[0])
    assert np.abs(answer(spoilt, windows[0]) - exact).max() > 0.1
    mended = with_exact_answer(spoilt)
    np.testing.assert_allclose(answer(mended, windows[0]), exact, rtol=1e-6)
    assert not [node for node in mended.graph.node if "Linear" in node.op_type]
    inside = with_exact_answer(rounding(model, "a", "a_flipped", "b", "sum"))
    assert sum(node.op_type == "QuantizeLinear" for node in inside.graph.node) == 2  # before the last layers it stays


def test_layers_that_share_a_weight_are_one(windows: list[np.ndarray]) -> None:
    model = named(over_flips())
    assert set(map(frozenset, copies_by_layer(model).values())) == {
        frozenset({"Conv_5", "Conv_7"}), frozenset({"Conv_6", "Conv_8"}),
    }  # fmt: skip
    made = quantise(model, windows, "onnxruntime")
    assert set(made.layers) == {"Conv_5", "Conv_6", "Conv_7", "Conv_8"}
    left = quantise(model, windows, "onnxruntime", excluded=("Conv_5",))
    assert (set(left.layers), set(left.excluded)) == ({"Conv_6", "Conv_8"}, {"Conv_5", "Conv_7"})
    output = tiny_manifest(TinyModel(levels=(0.0, 5.0), output={"activation": "softmax"})).output
    found = layer_sensitivities(
        made.model,
        model,
        made.layers,
        windows,
        lambda given, inputs: (answer(given, one) for one in inputs),
        output,
        lambda done, total: None,
    )
    assert sorted((one.layer, one.copies) for one in found) == [("Conv_5", 2), ("Conv_6", 2)]


def test_the_sensitive_layer_is_named_first(windows: list[np.ndarray]) -> None:
    model = named(two_layers(other=1000.0))
    made = quantise(model, windows, "onnxruntime")
    output = tiny_manifest(TinyModel(levels=(0.0, 5.0), output={"activation": "softmax"})).output
    seen: list[tuple[int, int]] = []
    found = layer_sensitivities(
        made.model,
        model,
        made.layers,
        windows,
        lambda given, inputs: (answer(given, one) for one in inputs),
        output,
        lambda done, total: seen.append((done, total)),
    )
    assert [one.layer for one in found] == ["Conv_1", "Conv_0"]
    assert found[0].difference > 10 * found[1].difference
    assert seen == [(1, 2), (2, 2)]
    alike = np.zeros((1, 2, 4, 4, 4), np.float32)
    assert difference(alike, alike, output) == 0.0
    alike[:, 0] = 50
    assert np.isnan(difference(alike, alike, output))


def test_what_cannot_be_quantised_is_refused(windows: list[np.ndarray]) -> None:
    model = named(two_layers())
    with pytest.raises(PackageInvalid, match="quantised already"):
        quantise(quantise(model, windows, "onnxruntime").model, windows, "onnxruntime")
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.node[:]
    with pytest.raises(PackageInvalid, match="no layer to quantise"):
        quantise(bare, windows, "onnxruntime")
    with pytest.raises(PluginError, match="no quantiser 'nncff'"):
        demand_quantiser("nncff")
    plain = Machine("old", 1, 2**30, 2**30, frozenset({"avx2", "fma"}))
    with pytest.raises(EngineUnavailable, match="no int8 instructions"):
        demand_int8_machine(plain)
    with pytest.raises(PackageInvalid, match="left every layer in fp32"):
        quantise(model, windows, "onnxruntime", excluded=("Conv_0", "Conv_1"))


def test_bf16_weights_are_rounded_to_nearest_even() -> None:
    import ml_dtypes

    random = np.random.default_rng(1)
    values = random.normal(size=(16, 16, 3, 3, 3)).astype(np.float32)
    values.reshape(-1)[:4] = [1.00390625, 1.01171875, -0.0, 3e38]
    model = two_layers()
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(values, "second"))
    made = with_16bit_weights(model, "bf16")
    stored = next(tensor for tensor in made.graph.initializer if tensor.name == "second_bf16")
    bits = np.frombuffer(stored.raw_data, "<u2").reshape(values.shape)
    np.testing.assert_array_equal(bits, values.astype(ml_dtypes.bfloat16).view(np.uint16))
    with pytest.raises(PackageInvalid, match="beyond the range of fp16"):
        with_16bit_weights(model, "fp16")
    with pytest.raises(PackageInvalid, match="no large fp32 weight"):
        with_16bit_weights(two_layers(), "fp16")


def test_a_whole_pipeline_takes_values_of_the_scan_and_answers_probabilities() -> None:
    steps = (
        {"step": "clip", "low": -100.0, "high": 150.0},
        {"step": "scale", "low": -100.0, "high": 150.0, "to_low": -1.0, "to_high": 1.0},
        {"step": "standardise", "mean": 0.1, "std": 0.5},
    )
    tiny = TinyModel(levels=(-1.0, 1.0), intensity=steps)
    manifest = tiny_manifest(tiny)
    made = pipeline_graph(onnx.load_from_string(tiny_graph(tiny)), manifest.input, manifest.output)
    onnx.checker.check_model(made)
    raw = np.random.default_rng(0).uniform(-400, 400, WINDOW).astype(np.float32)
    prepared = ((np.clip(raw.astype(np.float64), -100, 150) + 100) / 250 * 2 - 1 - 0.1) / 0.5
    logits = np.concatenate([-2 * prepared - 1, 2 * prepared - 1], axis=1)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(answer(made, raw), expected, atol=1e-5)
    whole = tiny_manifest(TinyModel(intensity=({"step": "z-score"},)))
    assert why_no_pipeline(whole.input) == "z-score looks at the whole scan"
