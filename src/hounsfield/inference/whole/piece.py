"""One stage as a small ONNX graph, and the engine that runs it.

The graph of a stage takes slabs of the kept activations, normalises and joins them, and ends in
the stencil with the padding that this slab needs along k.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import EngineError, EngineUnavailable
from hounsfield.inference.whole.network import NORMALISATION, Network, Operator, float32
from hounsfield.inference.whole.slabs import Reach
from hounsfield.inference.whole.stages import Stage
from hounsfield.inference.whole.storage import storage_dtype
from hounsfield.onnx_session import open_session, session_options

Affine = tuple[NDArray[np.float32], NDArray[np.float32]]
MASK = "mask of slices inside the volume"
_SAME: Mapping[str, str] = {}
_LARGE = 1 << 18


class Piece(Protocol):
    """A compiled stage: slabs (1, channels, k, j, i) in, one slab out, fp32 or bf16."""

    precision: str

    def run(self, slabs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Run one slab; the answer (1, channels, k, j, i) is only valid until the next call."""
        ...


@dataclass(frozen=True)
class PieceSpec:
    """What a piece is built for.

    Parameters
    ----------
    reach
        Which slices it reads and makes.
    shapes
        Source → shape (channels, k, j, i) of the slab that is read.
    answer
        Shape (channels, k, j, i) of the slab that is made.
    storage
        Type in which sources are kept.
    short
        Whether the answer is bf16: then the engine needs no fp32 copy of it.
    masked
        Whether slices outside the volume are read, which must be zeros for the stencil even
        after normalisation: then the piece takes one more input, 1 inside and 0 outside.
    """

    reach: Reach
    shapes: Mapping[str, tuple[int, int, int, int]]
    answer: tuple[int, int, int, int]
    storage: str
    short: bool = False
    masked: bool = False


@dataclass(frozen=True, eq=False)
class PieceGraph:
    """An ONNX graph, and large weights that are handed over beside it instead of copied into it.

    Such a weight is an input of the graph that the engine must replace by the constant.
    """

    model: bytes
    weights: Mapping[str, NDArray[Any]]


def graph_of(network: Network, stage: Stage, spec: PieceSpec, affine: Mapping[str, Affine], beside: bool) -> PieceGraph:
    """The graph of a stage for one slab.

    Parameters
    ----------
    affine
        Name of an instance normalisation's input → its scale and shift.
    beside
        Hand large weights over beside the graph.
    """
    import onnx
    from onnx import helper

    kinds = {"fp32": onnx.TensorProto.FLOAT, "fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
    model = onnx.ModelProto(ir_version=network.ir_version)
    model.opset_import.append(helper.make_opsetid("", network.opset))
    graph = model.graph
    graph.name = "stage"
    build = _Builder(onnx, graph, beside)
    for source, shape in spec.shapes.items():
        stored = "fp32" if source == network.input else spec.storage
        graph.input.append(helper.make_tensor_value_info(f"in:{source}", kinds[stored], [1, *shape]))
        build.node("Identity" if stored == "fp32" else "Cast", [f"in:{source}"], source, to=kinds["fp32"])
    for op in stage.operators:
        if op.kind == NORMALISATION:
            build.normalisation(op, affine[op.activations[0]])
        else:
            build.operator(op, op.attributes)
    if stage.stencil is not None:
        if spec.masked:
            graph.input.append(helper.make_tensor_value_info(f"in:{MASK}", kinds["fp32"], list(mask_shape(spec.reach))))
        build.stencil(stage.stencil, spec.reach, spec.masked)
    kind = kinds["bf16"] if spec.short else kinds["fp32"]
    build.node("Cast" if spec.short else "Identity", [stage.target], "out", to=kind)
    graph.output.append(helper.make_tensor_value_info("out", kind, [1, *spec.answer]))
    return PieceGraph(model.SerializeToString(), build.weights)


class _Builder:
    """Adds nodes and constants to a graph in place: weights are large, and each copy counts."""

    def __init__(self, onnx: Any, graph: Any, beside: bool) -> None:
        self._onnx, self._graph, self._beside = onnx, graph, beside
        self.weights: dict[str, NDArray[Any]] = {}

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        if kind == "Identity":
            attributes = {}
        name = f"n{len(self._graph.node)}"
        self._graph.node.append(self._onnx.helper.make_node(kind, inputs, [output], name=name, **attributes))

    def constant(self, array: NDArray[Any]) -> str:
        kind = self._onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        if self._beside and array.nbytes > _LARGE:
            name = f"weight:{len(self.weights)}"
            self.weights[name] = array
            self._graph.input.append(self._onnx.helper.make_tensor_value_info(name, kind, array.shape))
            return name
        tensor = self._graph.initializer.add()
        tensor.name = f"constant:{len(self._graph.initializer)}"
        tensor.data_type = kind
        tensor.dims.extend(array.shape)
        tensor.raw_data = array.tobytes()
        return str(tensor.name)

    def normalisation(self, op: Operator, affine: Affine) -> None:
        scale, shift = (self.constant(float32(part).reshape(1, -1, 1, 1, 1)) for part in affine)
        self.node("Mul", [op.activations[0], scale], f"scaled:{op.output}")
        self.node("Add", [f"scaled:{op.output}", shift], op.output)

    def operator(self, op: Operator, attributes: Mapping[str, Any], names: Mapping[str, str] = _SAME) -> None:
        """Add an operator; ``names`` replaces names of its input and output."""
        inputs = [
            self.constant(op.constants[at]) if at in op.constants else names.get(name, name)
            for at, name in enumerate(op.inputs)
        ]
        self.node(op.kind, inputs, names.get(op.output, op.output), **attributes)

    def stencil(self, op: Operator, reach: Reach, masked: bool) -> None:
        values = dict(op.attributes)
        names: dict[str, str] = {}
        if masked:
            source = op.activations[0]
            names[source] = f"masked:{source}"
            self.node("Mul", [source, f"in:{MASK}"], names[source])
        if all(size == 1 for size in values["dilations"]):
            del values["dilations"]  # older pooling operators do not know it
        values["pads"] = [reach.pad_low, *values["pads"][1:3], reach.pad_high, *values["pads"][4:]]
        if op.kind != "ConvTranspose":
            self.operator(op, values, names)
            return
        values["output_padding"] = [reach.extra, *values["output_padding"][1:]]
        self.operator(op, values, {**names, op.output: f"long:{op.output}"})
        ends = [reach.offset], [reach.offset + reach.depth], [2]
        cut = [self.constant(np.array(end, np.int64)) for end in ends]
        self.node("Slice", [f"long:{op.output}", *cut], op.output)


def mask_shape(reach: Reach) -> tuple[int, int, int, int, int]:
    """Shape of the mask of a piece: one value per slice that is read."""
    return (1, 1, reach.high - reach.low, 1, 1)


def _with_weights(model: Any, graph: PieceGraph) -> Any:
    """Put the weights that came beside the graph in the place of its inputs, without copying them."""
    from openvino import opset13

    for parameter in model.get_parameters():
        name = next((name for name in parameter.output(0).get_names() if name in graph.weights), None)
        if name is not None:
            values = np.array(graph.weights[name])  # shared memory must be aligned and writable
            parameter.output(0).replace(opset13.constant(values, shared_memory=True).output(0))
            model.remove_parameter(parameter)
    model.validate_nodes_and_infer_types()
    return model


class OpenVinoPiece:
    """A stage compiled by OpenVINO for the CPU."""

    weights_beside = True

    def __init__(self, graph: PieceGraph, precision: str, threads: int, spec: PieceSpec) -> None:
        core = _openvino_core()
        import openvino

        self._openvino = openvino
        options = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
        }
        try:
            compiled = core.compile_model(
                _with_weights(core.read_model(io.BytesIO(graph.model)), graph), "CPU", options
            )
        except RuntimeError as error:
            raise EngineUnavailable(
                f"OpenVINO cannot compile a stage of the network ({str(error).splitlines()[-1][:200]})",
                "use the window mode, or another engine",
            ) from error
        self.precision = _PRECISIONS[compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()]
        self._request = compiled.create_infer_request()
        self._answer = np.empty((1, *spec.answer), storage_dtype("bf16" if spec.short else "fp32"))
        self._request.set_output_tensor(0, _openvino_tensor(openvino, self._answer))

    def run(self, slabs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Run one slab; the answer lies in one buffer that the next call fills again."""
        try:
            for name, slab in slabs.items():
                self._request.set_tensor(f"in:{name}", _openvino_tensor(self._openvino, slab))
            self._request.infer()
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO failed on a slab ({str(error).splitlines()[-1][:200]})",
                "give more memory, or another engine",
            ) from error
        return self._answer


class OnnxRuntimePiece:
    """A stage run by ONNX Runtime on the CPU, in fp32."""

    precision = "fp32"
    weights_beside = False

    def __init__(self, graph: PieceGraph, precision: str, threads: int, spec: PieceSpec) -> None:
        if precision != "fp32" or spec.storage == "bf16":
            raise EngineUnavailable(
                f"ONNX Runtime runs the whole-volume mode in fp32 with fp32 or fp16 storage, not {precision}",
                "choose precision fp32, or the engine openvino",
            )
        try:
            options = session_options(threads)
        except ImportError as error:
            raise EngineUnavailable("ONNX Runtime is not installed", "pip install 'hounsfield[ort]'") from error
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        self._session = open_session(graph.model, options)

    def run(self, slabs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Run one slab."""
        answer: NDArray[np.float32] = self._session.run(None, {f"in:{name}": slab for name, slab in slabs.items()})[0]
        return answer


_PRECISIONS = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}
PIECES: dict[str, type[OpenVinoPiece] | type[OnnxRuntimePiece]] = {
    "openvino": OpenVinoPiece,
    "onnxruntime": OnnxRuntimePiece,
}
_CORES: list[Any] = []


def _openvino_core() -> Any:
    """One core per process: a second one would start its own threads."""
    if not _CORES:
        try:
            import openvino
        except ImportError as error:
            raise EngineUnavailable("OpenVINO is not installed", "pip install openvino") from error
        _CORES.append(openvino.Core())
    return _CORES[0]


def _openvino_tensor(openvino: Any, slab: NDArray[Any]) -> Any:
    if slab.dtype.name == "bfloat16":
        return openvino.Tensor(slab.view(np.uint16), slab.shape, openvino.Type.bf16)
    return openvino.Tensor(slab, shared_memory=True)
