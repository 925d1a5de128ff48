"""Graphs whose weights take 16 bits: stored as float16 or bfloat16, cast where they are used.

The file halves and the answer is that of the rounded weights; the arithmetic is the engine's, which is
told the precision when it loads the graph. Biases, norms and small heads keep 32 bits: they weigh nothing.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal

import numpy as np

from hounsfield.errors import PackageInvalid

Half = Literal["fp16", "bf16"]

LEAST_ELEMENTS: Final = 4096
_LARGEST_FP16: Final = 65504.0


def with_16bit_weights(model: Any, kind: Half) -> Any:
    """A copy of an ONNX model whose large float32 weights are stored in 16 bits.

    Parameters
    ----------
    model
        ``onnx.ModelProto`` with its data inside.
    kind
        ``"fp16"`` or ``"bf16"``; both round to nearest, ties to even.

    Raises
    ------
    PackageInvalid
        If a weight is beyond what float16 holds, or there is no large float32 weight.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    made = onnx.ModelProto()
    made.CopyFrom(model)
    casts = []
    for tensor in made.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or math.prod(tensor.dims) < LEAST_ELEMENTS:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        if kind == "fp16" and float(np.abs(values).max()) > _LARGEST_FP16:
            raise PackageInvalid(f"the weight {name!r} is beyond the range of fp16", "choose bf16")
        tensor.CopyFrom(_stored(values, f"{name}_{kind}", kind))
        casts.append(helper.make_node("Cast", [tensor.name], [name], name=f"cast_{name}", to=TensorProto.FLOAT))
    if not casts:
        raise PackageInvalid("the graph has no large fp32 weight", "compress a graph that was trained in fp32")
    nodes = [*casts, *made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def _stored(values: np.ndarray[Any, Any], name: str, kind: Half) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    if kind == "fp16":
        return numpy_helper.from_array(values.astype(np.float16), name)
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype("<u2")
    return helper.make_tensor(name, TensorProto.BFLOAT16, values.shape, rounded.tobytes(), raw=True)
