"""OpenVINO: the CPU engine of the core install.

OpenVINO runs fp32 graphs in bf16 on CPUs with AMX unless told otherwise, so the precision hint
is always explicit, and what really runs is read from the compiled graph: the arithmetic of its
convolutions and matrix products, layer by layer.
"""

from __future__ import annotations

import math
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hounsfield.errors import EngineError, EngineUnavailable
from hounsfield.inference.engine import Floats, LoadSettings, Network, OnnxGraph, Precision, Session, checked
from hounsfield.inference.engines.openvino_norms import sum_in_blocks
from hounsfield.inference.engines.openvino_rewrites import rewrite
from hounsfield.plugins import Availability

_INSTALL = "pip install openvino"
_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
_READ: dict[str, Precision] = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "i8": "int8", "u8": "int8"}
_HEAVY = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
_LARGE_BYTES = 64 * 2**20
_EXACTNESS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")


class OpenVinoEngine:
    """See :class:`hounsfield.inference.engine.Engine`."""

    name = "openvino"

    def availability(self) -> Availability:
        """Available wherever the wheel imports."""
        try:
            import openvino  # noqa: F401
        except ImportError as error:
            return Availability(False, f"OpenVINO does not import ({error})", _INSTALL)
        return Availability(True)

    def load(self, network: Network, settings: LoadSettings) -> Session:
        """Compile an ONNX graph for the CPU.

        Raises
        ------
        EngineUnavailable
            If OpenVINO is absent, the network is no ONNX graph, the device is no CPU, or the CPU has
            no such arithmetic.
        EngineError
            If OpenVINO refuses the graph or the window does not fit it.
        """
        if not isinstance(network, OnnxGraph) or settings.device != "cpu":
            raise EngineUnavailable("OpenVINO here runs ONNX graphs on the CPU", "choose the engine torch or another")
        try:
            import openvino as ov
        except ImportError as error:
            raise EngineUnavailable(f"OpenVINO does not import ({error})", f"install it: {_INSTALL}") from error
        try:
            compiled = _compile(ov.Core(), network, settings)
        except RuntimeError as error:
            raise EngineError(
                fact=f"OpenVINO cannot run this graph with a window of {settings.window}: {_first_line(error)}",
                remedy="check the window shape and the graph of the package, or choose another engine",
            ) from error
        precision = _really_runs(compiled)
        if _EXACTNESS.index(precision) > _EXACTNESS.index(settings.precision):
            raise EngineError(
                fact=f"{settings.precision} was asked for, but OpenVINO would compute in {precision}",
                remedy="use a graph of the wanted precision, or ask for the precision that it has",
            )
        return OpenVinoSession(compiled, settings, precision, str(ov.__version__).split("-")[0])


def _compile(core: Any, network: OnnxGraph, settings: LoadSettings) -> Any:
    model = core.read_model(network.model, b"") if isinstance(network.model, bytes) else core.read_model(network.model)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise RuntimeError(
            f"the graph has {len(model.inputs)} inputs and {len(model.outputs)} outputs, not one of each"
        )
    model.reshape({model.inputs[0]: list(settings.input_shape)})
    if settings.precision == "fp32":
        sum_in_blocks(model)
    elif not network.quantised:
        rewrite(model)
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": _HINTS[settings.precision],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": settings.threads or len(os.sched_getaffinity(0)),
        "ENABLE_CPU_PINNING": False,
    }
    if settings.cache_folder is not None:
        options["CACHE_DIR"] = str(settings.cache_folder)
    return core.compile_model(model, "CPU", options)


def _really_runs(compiled: Any) -> Precision:
    """The least exact arithmetic among the heavy layers of the compiled graph."""
    found: Counter[Precision] = Counter()
    for layer in compiled.get_runtime_model().get_ops():
        facts = layer.get_rt_info()
        if "layerType" in facts and facts["layerType"].astype(str) in _HEAVY:
            kind = facts["runtimePrecision"].astype(str).lower()
            found[_READ.get(kind, "fp32")] += 1
    if not found:
        hint = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        return _READ.get(hint, "fp32")
    return max(found, key=_EXACTNESS.index)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


@dataclass(eq=False)
class OpenVinoSession:
    """See :class:`hounsfield.inference.engine.Session`."""

    compiled: Any
    settings: LoadSettings
    precision: Precision
    version: str
    _requests: list[Any] = field(default_factory=list)

    def infer(self, batch: Floats) -> Floats:
        """One batch; short batches are filled up, since the graph has one shape."""
        for answer in self.stream([batch]):
            return answer
        raise EngineError("OpenVINO gave no answer", "report this")

    def stream(self, batches: Iterable[Floats]) -> Iterator[Floats]:
        """Answers in order; while one is used by the caller the next is computed.

        Answers of more than 64 MiB are made one at a time: a second one would cost more memory than
        overlapping is worth, as networks that answer so much take long over it.
        """
        large = math.prod(self.compiled.output(0).shape) * 4 > _LARGE_BYTES
        while len(self._requests) < (1 if large else max(1, self.settings.requests)):
            self._requests.append(self.compiled.create_infer_request())
        free, running = list(self._requests), deque[tuple[Any, int]]()
        try:
            for batch in batches:
                if not free:
                    request, n = running.popleft()
                    yield self._answer(request, n)
                    free.append(request)
                request = free.pop()
                self._start(request, batch)
                running.append((request, len(batch)))
                if len(self._requests) == 1:
                    request, n = running.popleft()
                    yield self._answer(request, n)
                    free.append(request)
            while running:
                yield self._answer(*running.popleft())
        finally:
            for request, _ in running:
                request.wait()

    def _start(self, request: Any, batch: Floats) -> None:
        checked("OpenVINO", batch, self.settings)
        request.get_input_tensor().data[: len(batch)] = batch
        request.start_async()

    @staticmethod
    def _answer(request: Any, n: int) -> Floats:
        try:
            request.wait()
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO failed: {_first_line(error)}", "try fewer threads or another engine"
            ) from error
        return np.asarray(request.get_output_tensor().data)[:n]

    def facts(self) -> dict[str, str | int]:
        """What a result says of how it was made."""
        threads = int(self.compiled.get_property("INFERENCE_NUM_THREADS"))
        return {
            "engine": "openvino",
            "version": self.version,
            "device": "cpu",
            "precision": self.precision,
            "threads": threads,
        }

    def close(self) -> None:
        """Free the compiled model and its buffers."""
        self._requests.clear()
        self.compiled = None
