"""In the jail: the answer of ONNX Runtime to one image, with the source's own graph as it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

from hounsfield.errors import SourceRefused
from hounsfield.onnx_session import open_session, session_options


def answer_of(
    model: bytes, input_name: str, output_name: str, image: NDArray[np.float32]
) -> tuple[NDArray[np.float32], str]:
    """The named output, and the version of ONNX Runtime.

    Raises
    ------
    SourceRefused
        If ONNX Runtime is not installed or refuses the graph.
    """
    if onnxruntime is None:
        raise SourceRefused("proving an ONNX needs ONNX Runtime", "install it: pip install 'hounsfield[ort]'")
    try:
        answer = open_session(model, session_options(1)).run([output_name], {input_name: image})[0]
    except Exception as error:  # onnxruntime's own exceptions derive from Exception alone
        if isinstance(error, MemoryError):
            raise
        raise SourceRefused(
            f"ONNX Runtime refuses the graph ({type(error).__name__})", "check the window, or export it again"
        ) from error
    if not isinstance(answer, np.ndarray) or answer.dtype != np.float32:
        raise SourceRefused("the output is not 32-bit float", "keep input and output in fp32 and cast inside the graph")
    return answer, str(onnxruntime.__version__)
