"""One ONNX graph from a network: opset pinned, names fixed, checked, and compared in the engines.

The batch is always dynamic. The spatial axes are dynamic where the network allows it, else the
window is part of the graph. Inputs are named as the architecture says (``image``, ``record``),
the output ``logits``.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hounsfield.architectures.registry import architecture
from hounsfield.errors import EngineError, OutputError
from hounsfield.onnx_session import open_session, session_options

OPSET = 18
OUTPUT = "logits"
Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Exported:
    """What was written.

    Parameters
    ----------
    path
        The ``.onnx`` file, weights inside.
    inputs, output
        Names of the graph's inputs and output.
    shape
        The image's shape as an example, batch first; ``None`` where the graph leaves it open.
    opset
        Of the default domain.
    """

    path: Path
    inputs: tuple[str, ...]
    output: str
    shape: tuple[int | None, ...]
    opset: int


def export_onnx(
    network: nn.Module,
    description: Mapping[str, Any],
    window: tuple[int, int, int],
    path: Path,
    phases: int = 2,
) -> Exported:
    """Write the network in evaluation mode as fp32 ONNX.

    Parameters
    ----------
    network
        Built from ``description``; it comes back in evaluation mode, on the CPU, float32.
    description
        The manifest's ``[architecture]``.
    window
        Spatial shape (k, j, i) of the example, and of the graph where it is fixed.
    path
        The file; it appears whole or not at all.
    phases
        Phases of the example of a dynamic sequence; the graph takes any number.

    Raises
    ------
    OutputError
        If the graph cannot be written, or the ONNX checker refuses it.
    """
    import onnx

    entry = architecture(str(description["name"]))
    network.cpu().float().eval()
    example = example_inputs(description, window, batch=2, phases=phases)
    axes = _dynamic_axes(description, entry.fixed_window)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own notices about constants it folds
            torch.onnx.export(
                network,
                tuple(example.values()),
                str(temporary),
                input_names=list(example),
                output_names=[OUTPUT],
                opset_version=OPSET,
                dynamic_axes=axes,
                dynamo=False,
                do_constant_folding=True,
            )
        graph = onnx.load(str(temporary), load_external_data=False)
        graph.producer_version = ""
        graph.doc_string = ""
        for node in graph.graph.node:
            node.doc_string = ""
        onnx.checker.check_model(graph, full_check=True)
        temporary.write_bytes(graph.SerializeToString())
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (RuntimeError, ValueError, OSError, onnx.checker.ValidationError) as error:
        raise OutputError(
            fact=f"the network cannot be written as ONNX ({str(error).splitlines()[0]})",
            remedy="check the window against the architecture, and the free disk space",
            path=path,
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    first = next(iter(example))
    shape = tuple(None if n in axes[first] else size for n, size in enumerate(example[first].shape))
    return Exported(path, tuple(example), OUTPUT, shape, OPSET)


class _RecordAlone(nn.Module):
    """A fusion network without an image: only the record goes in."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, record: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        logits: Tensor = self.network(record[:, :0], record)
        return logits


def on_record_alone(network: nn.Module, description: Mapping[str, Any]) -> nn.Module:
    """The network as it is exported: without the image input where it has no image channel."""
    if "record" in architecture(str(description["name"])).inputs and not int(description["channels_in"]):
        return _RecordAlone(network)
    return network


def example_inputs(
    description: Mapping[str, Any], window: tuple[int, int, int], batch: int, phases: int = 2, seed: int = 0
) -> dict[str, Tensor]:
    """Random inputs that fit the network, by the graph's input names; float32."""
    generator = torch.Generator().manual_seed(seed)
    channels = int(description["channels_in"])
    shape: tuple[int, ...] = (batch, channels, *window)
    if description["name"] == "cnn-lstm":
        shape = (batch, phases, channels, *window)
    inputs = {"image": torch.randn(shape, generator=generator)} if channels else {}
    if "record" in architecture(str(description["name"])).inputs:
        record = torch.randn((batch, int(description["columns"])), generator=generator)
        record[0, 0] = float("nan")
        inputs["record"] = record
    return inputs


def parity(path: Path, network: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, float]:
    """Largest difference to the network, relative to its largest answer, per engine that is installed.

    Both engines are told to compute in float32, whatever the processor would rather do.

    Raises
    ------
    EngineError
        If an engine refuses the graph.
    """
    network.cpu().float().eval()
    with torch.inference_mode():
        expected = network(*inputs.values()).numpy()
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    scale = max(1.0, float(np.abs(expected).max()))
    differences = {}
    for engine, run in (("onnxruntime", _onnxruntime), ("openvino", _openvino)):
        try:
            found = run(path, arrays)
        except ImportError:
            continue
        except RuntimeError as error:
            raise EngineError(
                fact=f"{engine} refuses the exported graph ({str(error).splitlines()[0]})",
                remedy="export again with another window, or report this with the architecture table",
                path=path,
            ) from error
        if found.shape != expected.shape:
            raise EngineError(
                fact=f"{engine} answers the shape {found.shape}, not {expected.shape}",
                remedy="report this with the architecture table",
                path=path,
            )
        differences[engine] = float(np.abs(found - expected).max()) / scale
    return differences


def _dynamic_axes(description: Mapping[str, Any], fixed: bool) -> dict[str, dict[int, str]]:
    first = 2
    axes: dict[int, str] = {0: "batch"}
    if description["name"] == "cnn-lstm":
        axes[1] = "phases"
        first = 3
    if not fixed:
        axes |= {first: "k", first + 1: "j", first + 2: "i"}
    flat = description.get("spatial_dims", 2 if description["name"] in ("densenet121", "cnn-lstm") else 3) == 2
    if flat and architecture(str(description["name"])).answer == "classes":
        axes.pop(first, None)
    answer = {0: "batch"}
    if architecture(str(description["name"])).answer != "classes" and not fixed:
        answer |= {2: "k_out", 3: "j_out", 4: "i_out"}
    named = {"image": axes, OUTPUT: answer} if int(description["channels_in"]) else {OUTPUT: answer}
    if "record" in architecture(str(description["name"])).inputs:
        named["record"] = {0: "batch"}
    return named


def _onnxruntime(path: Path, arrays: Arrays) -> NDArray[np.float32]:
    options = session_options(max(1, torch.get_num_threads()))
    try:
        session = open_session(path, options)
        known = {entry.name for entry in session.get_inputs()}
        answer: NDArray[np.float32] = session.run(
            [OUTPUT], {name: array for name, array in arrays.items() if name in known}
        )[0]
    except RuntimeError:
        raise
    except Exception as error:  # onnxruntime's own exception classes derive from Exception alone
        raise RuntimeError(str(error)) from error
    return answer


def _openvino(path: Path, arrays: Arrays) -> NDArray[np.float32]:
    import openvino

    model = openvino.Core().compile_model(
        str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": max(1, torch.get_num_threads())}
    )
    known = {name for port in model.inputs for name in port.names}
    answer = model({name: array for name, array in arrays.items() if name in known})
    found: NDArray[np.float32] = np.array(answer[OUTPUT])
    return found
