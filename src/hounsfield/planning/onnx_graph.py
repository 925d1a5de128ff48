"""Read an ONNX file into the node list that ``graph`` counts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from hounsfield.errors import EngineUnavailable, PackageInvalid
from hounsfield.planning.graph import GraphCost, GraphNode, cost_of

Shape = tuple[int, int, int]
_STANDARD_DOMAINS = ("", "ai.onnx")
_SMALL_ELEMENTS = 4096


def read_cost(path: Path, window: Shape, batch: int = 1) -> GraphCost:
    """What one inference of ``batch`` windows of shape ``window`` (k, j, i) takes.

    Dynamic shapes are resolved by ONNX shape inference for exactly this window. Where an
    operator's output stays unknown, the largest known output of the graph stands in for it and
    the cost says so.

    Raises
    ------
    PackageInvalid
        If the file is no ONNX graph, or has another fixed input shape than the window.
    EngineUnavailable
        If an operator is not of the ONNX standard.
    """
    import onnx

    try:
        model = onnx.load(str(path))
    except Exception as error:
        raise PackageInvalid(
            f"the graph cannot be parsed as ONNX ({type(error).__name__})", "build the package again", path
        ) from error
    _standard_operators_only(model, path)
    weights_bytes = sum(_tensor_bytes(tensor) for tensor in model.graph.initializer)
    sizes = _light_copy_with_shapes(model, window, batch, path)
    return _count(model, sizes, weights_bytes, math.prod(window) * batch)


def _standard_operators_only(model: Any, path: Path) -> None:
    for node in model.graph.node:
        if node.domain not in _STANDARD_DOMAINS:
            raise EngineUnavailable(
                f"the graph uses the operator {node.domain}::{node.op_type}, which is not of the ONNX standard",
                "export the network with standard operators only",
                path,
            )


def _tensor_bytes(tensor: Any) -> int:
    import onnx

    itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return int(math.prod(tensor.dims)) * int(itemsize)


def _light_copy_with_shapes(model: Any, window: Shape, batch: int, path: Path) -> dict[str, int]:
    """Bytes of every activation, by shape inference on a copy without the large weights."""
    import onnx

    weights = {tensor.name for tensor in model.graph.initializer}
    light = onnx.ModelProto()
    light.ir_version = model.ir_version
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    graph = light.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    real_inputs = [value for value in model.graph.input if value.name not in weights]
    for value in real_inputs:
        graph.input.append(_fixed_input(value, window, batch, path))
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SMALL_ELEMENTS:
            graph.initializer.append(tensor)
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    for value in model.graph.output:
        graph.output.append(onnx.helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, None))
    try:
        inferred = onnx.shape_inference.infer_shapes(light, strict_mode=False, data_prop=True)
    except Exception as error:
        raise PackageInvalid(
            f"the shapes of the graph do not work out for a window of {window} ({type(error).__name__})",
            "use the package's own window",
            path,
        ) from error
    values = [*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input]
    found = {value.name: _value_bytes(value) for value in values if value.name not in weights}
    return {name: size for name, size in found.items() if size is not None}


def _fixed_input(value: Any, window: Shape, batch: int, path: Path) -> Any:
    import onnx

    dims = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in value.type.tensor_type.shape.dim]
    if len(dims) != 5:
        raise PackageInvalid(
            f"the graph's input {value.name!r} has {len(dims)} axes instead of (batch, channels, k, j, i)",
            "export a 3-D network",
            path,
        )
    wanted = [batch, dims[1] or 1, *window]
    for have, want in zip(dims, wanted, strict=True):
        if have > 0 and have != want:
            raise PackageInvalid(
                f"the graph has a fixed input shape {tuple(dims)}, which a batch of {batch} windows of {window} "
                "does not fit",
                "use the window that the graph was exported with",
                path,
            )
    return onnx.helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, wanted)


def _value_bytes(value: Any) -> int | None:
    import onnx

    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        return None
    dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
    if any(dim is None for dim in dims) or tensor.elem_type == onnx.TensorProto.UNDEFINED:
        return None
    itemsize = int(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize)
    return int(math.prod(dim for dim in dims if dim is not None)) * itemsize


def _count(model: Any, sizes: dict[str, int], weights_bytes: int, voxels: int) -> GraphCost:
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    bound = max((size for size in sizes.values()), default=voxels * 4)
    nodes = []
    for index, node in enumerate(model.graph.node):
        outputs = tuple(name for name in node.output if name)
        known = [sizes.get(name) for name in outputs]
        nodes.append(
            GraphNode(
                name=node.name or f"{node.op_type}_{index}",
                operator=node.op_type,
                inputs=tuple(name for name in node.input if name and name not in weights),
                outputs=outputs,
                output_bytes=tuple(bound if size is None else size for size in known),
                operations=_operations(node, weights, sizes, bound),
                bounded=any(size is None for size in known),
            )
        )
    real_inputs = {value.name: sizes[value.name] for value in model.graph.input if value.name not in weights}
    return cost_of(nodes, real_inputs, [value.name for value in model.graph.output], weights_bytes, voxels)


def _operations(node: Any, weights: dict[str, tuple[int, ...]], sizes: dict[str, int], bound: int) -> int:
    """Multiply-adds times two of convolutions and products; one per output value for the rest."""
    out = sum(sizes.get(name, bound) for name in node.output if name) // 4
    kernel = weights.get(node.input[1]) if len(node.input) > 1 else None
    if node.op_type == "Conv" and kernel:
        return 2 * out * math.prod(kernel[1:])
    if node.op_type == "ConvTranspose" and kernel:
        return 2 * (sizes.get(node.input[0], bound) // 4) * math.prod(kernel[1:])
    if node.op_type in ("MatMul", "Gemm") and kernel:
        return 2 * out * kernel[0]
    return out
