"""Small ONNX graphs with known answers, and sessions made of plain functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def graph(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], channels: int, classes: int) -> bytes:
    """A model x (n, channels, k, j, i) -> y (n, classes, k, j, i) with free sizes."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", channels, "k", "j", "i"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", classes, "k", "j", "i"])
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], tensors), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.checker.check_model(model)
    return model.SerializeToString()


def nearest_level(levels: int) -> bytes:
    """An exact 'network': the score of class c is -(x - c)^2, up to a common term: 2 c x - c^2."""
    c = np.arange(levels, dtype=np.float32)
    weights = {"w": (2 * c).reshape(levels, 1, 1, 1, 1), "b": -(c**2)}
    return graph([helper.make_node("Conv", ["x", "w", "b"], ["y"])], weights, 1, levels)


def small_unet_like(channels: int, features: int, classes: int, seed: int = 0) -> bytes:
    """Convolution, instance norm, ReLU, convolution, tanh and a 1x1x1 head."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    weights = {
        "w1": draw(features, channels, 3, 3, 3),
        "s": np.ones(features, np.float32),
        "o": np.zeros(features, np.float32),
        "w2": draw(features, features, 3, 3, 3),
        "w3": draw(classes, features, 1, 1, 1),
        "b3": 0.1 * draw(classes),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1] * 6),
        helper.make_node("InstanceNormalization", ["a", "s", "o"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Conv", ["c", "w2"], ["d"], pads=[1] * 6),
        helper.make_node("Tanh", ["d"], ["e"]),
        helper.make_node("Conv", ["e", "w3", "b3"], ["y"], kernel_shape=[1, 1, 1]),
    ]
    return graph(nodes, weights, channels, classes)


class FunctionSession:
    """A session that answers with a function of the batch; its answers die with the next one."""

    precision = "fp32"

    def __init__(self, answer: Callable[[np.ndarray], np.ndarray]) -> None:
        self._answer = answer
        self.calls = 0

    def infer(self, batch: np.ndarray) -> np.ndarray:
        self.calls += len(batch)
        return self._answer(batch).astype(np.float32)

    def stream(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for batch in batches:
            answer = self.infer(batch).copy()
            yield answer
            answer[...] = np.nan

    def facts(self) -> dict[str, str | int]:
        return {"engine": "function"}

    def close(self) -> None:
        pass
