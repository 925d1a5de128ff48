"""Post-training quantisation to int8: an fp32 ONNX graph and windows that it really reads, to a QDQ graph.

Two quantisers: ``nncf`` rounds the inputs and weights of heavy layers and corrects their biases, for OpenVINO;
``onnxruntime`` rounds their answers too, which ONNX Runtime needs to run them as integers. Weights are rounded
per output channel, activations per tensor, with ranges from the calibration windows.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from hounsfield.compression.layers import heavy_layers, quantised_layers, with_copies, with_exact_answer, with_float
from hounsfield.errors import EngineUnavailable, PackageInvalid, PluginError
from hounsfield.inference.engine import Floats
from hounsfield.planning.machine import INT8_INSTRUCTIONS, Machine

Quantiser = Literal["nncf", "onnxruntime"]

_INSTALL: Final = "pip install 'hounsfield[compress]'"
_MODULES: Final[Mapping[str, str]] = {"nncf": "nncf", "onnxruntime": "onnxruntime.quantization"}


@dataclass(frozen=True)
class Quantised:
    """A quantised graph: the model, the quantiser with its version, the layers in int8 and those left in float."""

    model: Any
    quantiser: str
    layers: tuple[str, ...]
    excluded: tuple[str, ...]


def demand_int8_machine(machine: Machine) -> None:
    """Refuse a processor without int8 dot products, before anything was computed.

    There int8 is emulated: not faster, and on some with saturating sums, so that a verdict from
    it would not hold for a processor that has them.

    Raises
    ------
    EngineUnavailable
        Names the instructions that would do.
    """
    if not machine.fast_int8:
        raise EngineUnavailable(
            f"this processor has no int8 instructions ({', '.join(INT8_INSTRUCTIONS)})",
            "compress, judge and run int8 on one that has them, or choose --to bf16 or fp16",
        )


def demand_quantiser(name: str) -> str:
    """Name and version of a quantiser.

    Raises
    ------
    PluginError
        If there is none of that name, or it is not installed.
    """
    if name not in _MODULES:
        raise PluginError(f"there is no quantiser {name!r}", f"choose one of: {', '.join(_MODULES)}")
    try:
        module = _imported(name)
    except ImportError as error:
        raise PluginError(f"the quantiser {name} does not import ({error})", f"install it: {_INSTALL}") from error
    return f"{name} {getattr(module, '__version__', '')}".strip()


def quantise(model: Any, windows: Sequence[Floats], name: str, excluded: Sequence[str] = ()) -> Quantised:
    """Quantise every heavy layer but the excluded ones, and all that read the same weights as those.

    Parameters
    ----------
    model
        ``onnx.ModelProto`` with one input, names on all nodes (:func:`hounsfield.compression.layers.named`) and
        its data inside.
    windows
        (1, channels, k, j, i) float32, as the package prepares them.
    name
        ``"nncf"`` or ``"onnxruntime"``.

    Raises
    ------
    PackageInvalid
        If the graph has nothing to quantise, is quantised already, or the quantiser refuses it.
    PluginError
        As :func:`demand_quantiser`.
    """
    told = demand_quantiser(name)
    layers = [layer.name for layer in heavy_layers(model)]
    if quantised_layers(model) or not layers:
        fact = "the graph is quantised already" if quantised_layers(model) else "the graph has no layer to quantise"
        raise PackageInvalid(fact, "give a package with an fp32 graph of convolutions or matrix products")
    if len(model.graph.input) != 1:
        raise PackageInvalid(f"the graph has {len(model.graph.input)} inputs", "only graphs of one input are quantised")
    with _quietly():
        try:
            made = _BACKENDS[name](model, windows)
        except Exception as error:  # the quantisers' own exceptions have no common base but Exception
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = lines[0][:300] if lines else type(error).__name__
            raise PackageInvalid(f"{name} cannot quantise this graph: {reason}", "try the other quantiser") from error
    made = with_float(with_exact_answer(made), model, with_copies(model, excluded))
    done = quantised_layers(made)
    if not done:
        raise PackageInvalid(f"{name} left every layer in fp32", "exclude fewer layers, or try the other quantiser")
    return Quantised(made, told, done, tuple(layer for layer in layers if layer not in done))


def _nncf(model: Any, windows: Sequence[Floats]) -> Any:
    nncf = _imported("nncf")
    nncf.set_log_level(logging.ERROR)
    name = model.graph.input[0].name
    data = nncf.Dataset([{name: window} for window in windows])
    preset = nncf.QuantizationPreset.PERFORMANCE
    return nncf.quantize(_copy(model), data, preset=preset, subset_size=len(windows))


def _onnxruntime(model: Any, windows: Sequence[Floats]) -> Any:
    import onnx

    found = _imported("onnxruntime")

    class Windows(found.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.left = iter(windows)

        def get_next(self) -> dict[str, Floats] | None:
            window = next(self.left, None)
            return None if window is None else {model.graph.input[0].name: window}

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "int8.onnx"
        found.quantize_static(
            _copy(model),
            str(target),
            Windows(),
            quant_format=found.QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            per_channel=True,
            activation_type=found.QuantType.QUInt8,
            weight_type=found.QuantType.QInt8,
        )
        made = onnx.load(str(target))
    del made.metadata_props[:]
    return made


_BACKENDS: Final[Mapping[str, Callable[[Any, Sequence[Floats]], Any]]] = {"nncf": _nncf, "onnxruntime": _onnxruntime}


def _imported(name: str) -> Any:
    """A quantiser's module. NNCF would report its use to a server: without that module it cannot."""
    import importlib

    if name == "nncf" and "nncf" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(_MODULES[name])


def _copy(model: Any) -> Any:
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep progress bars and warnings of the quantisers off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
