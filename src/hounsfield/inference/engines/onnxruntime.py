"""ONNX Runtime: CPU everywhere, CUDA and TensorRT where the wheel and the machine have them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hounsfield.errors import EngineError, EngineUnavailable
from hounsfield.inference.engine import (
    Floats,
    LoadSettings,
    Network,
    OnnxGraph,
    Precision,
    Session,
    checked,
    overlapped,
)
from hounsfield.onnx_session import open_session, session_options
from hounsfield.plugins import Availability

_INSTALL = "pip install 'hounsfield[ort]'"
#: What ONNX Runtime fuses a quantised layer and its roundings to; without them it computes in floats.
_INTEGER = frozenset({"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat"})


class OnnxRuntimeEngine:
    """See :class:`hounsfield.inference.engine.Engine`."""

    name = "onnxruntime"

    def availability(self) -> Availability:
        """Available where the extra ``ort`` is installed."""
        try:
            import onnxruntime  # noqa: F401
        except ImportError as error:
            return Availability(False, f"ONNX Runtime does not import ({error})", _INSTALL)
        return Availability(True)

    def load(self, network: Network, settings: LoadSettings) -> Session:
        """Make a session of an ONNX graph.

        fp32 runs fp32 graphs (TensorFloat-32 switched off on CUDA), int8 runs quantised graphs,
        fp16 runs on CUDA by TensorRT. There is no bf16.

        Raises
        ------
        EngineUnavailable
            If the runtime, the device or the precision is not there.
        EngineError
            If the runtime refuses the graph.
        """
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise EngineUnavailable(f"ONNX Runtime does not import ({error})", f"install it: {_INSTALL}") from error
        if not isinstance(network, OnnxGraph):
            raise EngineUnavailable("ONNX Runtime runs ONNX graphs only", "choose the engine torch")
        providers = _providers(settings, network, ort.get_available_providers())
        options = session_options(settings.threads or len(os.sched_getaffinity(0)))
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.enable_cpu_mem_arena = True
        with tempfile.TemporaryDirectory() as folder:
            optimised = Path(folder) / "optimised.onnx"
            if network.quantised:
                options.optimized_model_filepath = str(optimised)
            try:
                session = open_session(network.model, options, providers)
            except Exception as error:  # the runtime's own exceptions have no common base but Exception
                raise EngineError(
                    fact=f"ONNX Runtime cannot run this graph: {str(error).splitlines()[0][:300]}",
                    remedy="check the graph of the package, or choose another engine",
                ) from error
            precision = settings.precision if not network.quantised or _in_integers(optimised) else "fp32"
        return OnnxRuntimeSession(session, settings, precision, str(ort.__version__))


def _in_integers(optimised: Path) -> bool:
    """Whether any heavy layer of the graph, as it will run, computes in integers."""
    import onnx

    return any(node.op_type in _INTEGER for node in onnx.load(str(optimised), load_external_data=False).graph.node)


def _providers(settings: LoadSettings, network: OnnxGraph, present: list[str]) -> list[Any]:
    """The execution providers for device and precision, best first; ends with the CPU's."""
    if network.quantised != (settings.precision == "int8"):
        raise EngineUnavailable(
            fact=f"ONNX Runtime runs a graph at its own precision, and this one is not {settings.precision}",
            remedy="choose the graph of that precision",
        )
    if settings.device == "cpu":
        if settings.precision not in ("fp32", "int8"):
            raise EngineUnavailable(
                f"ONNX Runtime has no {settings.precision} on the CPU", "choose fp32, or the engine openvino"
            )
        return ["CPUExecutionProvider"]
    device = {"device_id": int(settings.device.partition(":")[2] or 0)}
    wanted = "TensorrtExecutionProvider" if settings.precision == "fp16" else "CUDAExecutionProvider"
    if wanted not in present or settings.precision == "bf16":
        raise EngineUnavailable(
            fact=f"this ONNX Runtime has no {wanted} for {settings.precision} on {settings.device}",
            remedy="install it: pip install onnxruntime-gpu, or choose another engine",
        )
    if settings.precision == "fp16":
        return [(wanted, {**device, "trt_fp16_enable": True}), ("CUDAExecutionProvider", device)]
    return [(wanted, {**device, "use_tf32": 0}), "CPUExecutionProvider"]


@dataclass(eq=False)
class OnnxRuntimeSession:
    """See :class:`hounsfield.inference.engine.Session`."""

    session: Any
    settings: LoadSettings
    precision: Precision
    version: str

    def infer(self, batch: Floats) -> Floats:
        """One batch, in the calling thread."""
        checked("ONNX Runtime", batch, self.settings)
        try:
            (answer,) = self.session.run(None, {self.session.get_inputs()[0].name: batch})
        except Exception as error:  # the runtime's own exceptions have no common base but Exception
            raise EngineError(
                fact=f"ONNX Runtime failed: {str(error).splitlines()[0][:300]}",
                remedy="check the window shape of the package, or choose another engine",
            ) from error
        result: Floats = answer
        return result

    def stream(self, batches: Iterable[Floats]) -> Iterator[Floats]:
        """Answers in order, computed on one worker thread ahead of the caller."""
        return overlapped(self.infer, batches, self.settings.requests)

    def facts(self) -> dict[str, str | int]:
        """What a result says of how it was made."""
        return {
            "engine": "onnxruntime",
            "version": self.version,
            "device": self.settings.device,
            "provider": str(self.session.get_providers()[0]),
            "precision": self.precision,
            "threads": self.session.get_session_options().intra_op_num_threads,
        }

    def close(self) -> None:
        """Free the session."""
        self.session = None
