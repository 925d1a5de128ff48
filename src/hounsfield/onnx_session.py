"""ONNX Runtime sessions, opened in one place: quiet, on as many threads as asked, reporting to nobody.

Every room that runs an ONNX graph comes here, so that the runtime's telemetry is switched off
wherever it is used, whatever the wheel's default.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

_ERRORS_ONLY = 3


def session_options(threads: int) -> Any:
    """ONNX Runtime's options: ``threads`` within a layer, layers one after another, errors only on the log.

    Raises
    ------
    ImportError
        If ONNX Runtime is not installed; the caller knows what to advise.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return options


def open_session(model: Path | bytes, options: Any, providers: Sequence[Any] = ("CPUExecutionProvider",)) -> Any:
    """An ``onnxruntime.InferenceSession`` with telemetry off.

    Parameters
    ----------
    model
        The ONNX file, or its bytes.
    options
        From :func:`session_options`.
    providers
        Where it runs, best first; the processor by default.

    Raises
    ------
    ImportError
        If ONNX Runtime is not installed.
    Exception
        What the runtime raises for a graph that it refuses: its exceptions have no other common base.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    given = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(given, options, providers=list(providers))
