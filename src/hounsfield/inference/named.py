"""Graphs with several named inputs, or inputs of another rank than a window: sequences and records.

Small networks that are run once per scan. What :class:`hounsfield.inference.engine.Session` promises of
precision holds here too: fp32 means fp32, whatever the processor would rather do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import EngineError, EngineUnavailable
from hounsfield.onnx_session import open_session, session_options

Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class NamedAnswer:
    """The graph's one output, and what ran."""

    values: NDArray[np.float32]
    engine: str
    precision: str
    threads: int


def run_named(graph: Path, inputs: Arrays, engine: str = "openvino", threads: int = 0) -> NamedAnswer:
    """Run a graph once in float32.

    Raises
    ------
    EngineUnavailable
        If the engine is not one that does this, or is not installed.
    EngineError
        If it refuses the graph or the inputs.
    """
    used = threads or len(os.sched_getaffinity(0))
    runners = {"openvino": _openvino, "onnxruntime": _onnxruntime}
    if engine not in runners:
        raise EngineUnavailable(f"{engine} does not run graphs of records or sequences", "use openvino or onnxruntime")
    try:
        values, version = runners[engine](graph, inputs, used)
    except ImportError as error:
        raise EngineUnavailable(f"{engine} does not import ({error})", f"install it: pip install {engine}") from error
    except Exception as error:  # the runtimes' own exceptions have no common base but Exception
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        told = lines[-1][:300] if lines else type(error).__name__
        raise EngineError(f"{engine} failed: {told}", "check the input against the package") from error
    return NamedAnswer(np.asarray(values, np.float32), f"{engine} {version}", "fp32", used)


def _openvino(graph: Path, inputs: Arrays, threads: int) -> tuple[Any, str]:
    compiled, version = _compiled(str(graph), threads)
    (answer,) = compiled(dict(inputs)).values()
    return np.array(answer), version


@lru_cache(maxsize=2)
def _compiled(graph: str, threads: int) -> tuple[Any, str]:
    """The graph compiled once for many records."""
    import openvino

    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    return openvino.Core().compile_model(graph, "CPU", options), openvino.__version__.split("-")[0]


def _onnxruntime(graph: Path, inputs: Arrays, threads: int) -> tuple[Any, str]:
    import onnxruntime

    session = open_session(graph, session_options(threads))
    (answer,) = session.run(None, dict(inputs))
    return answer, onnxruntime.__version__
