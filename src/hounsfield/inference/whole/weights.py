"""Open an ONNX file without copying its weights: they stay in the mapped file until a stage needs them.

The protobuf parser would hold all weights at once, several times over. Here the wire format is
walked (protobuf encoding guide; field numbers of onnx.proto), tensors with much raw data are taken out
and become views of the mapped file, and only the rest is parsed.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import PackageInvalid

_GRAPH, _INITIALIZER, _NAME, _RAW_DATA = 7, 5, 8, 9
_LENGTH, _VARINT, _FIXED64, _FIXED32 = 2, 0, 1, 5
_WORTH_TAKING_OUT = 4096


def open_model(graph: Path | bytes) -> tuple[Any, dict[str, NDArray[Any]], mmap.mmap | None]:
    """The model without its large tensors, those tensors by name, and the mapped file (if it is one).

    Raises
    ------
    PackageInvalid
        If the file cannot be read or is no ONNX graph.
    """
    import onnx

    path = graph if isinstance(graph, Path) else None
    pages = None
    try:
        if isinstance(graph, Path):
            with graph.open("rb") as file:
                pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        data = memoryview(graph if isinstance(graph, bytes) else pages)  # type: ignore[arg-type]
        large: dict[str, NDArray[Any]] = {}
        model = onnx.ModelProto()
        model.ParseFromString(b"".join(_light(data, large)))
        small = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    except Exception as error:  # protobuf raises unrelated classes for damaged bytes
        raise PackageInvalid(
            f"the graph cannot be read as ONNX ({type(error).__name__})", "build the package again", path
        ) from error
    return model, {**small, **large}, pages


def release(pages: mmap.mmap | None) -> None:
    """Let the pages of the mapped file go; they come back from the file when they are touched."""
    if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
        with contextlib.suppress(OSError):
            pages.madvise(mmap.MADV_DONTNEED)


def _light(data: memoryview, large: dict[str, NDArray[Any]]) -> Iterator[bytes]:
    """The bytes of the model without its large tensors, which are put into ``large``."""
    for number, kind, start, low, high in _fields(data, 0, len(data)):
        if number != _GRAPH or kind != _LENGTH:
            yield bytes(data[start:high])
            continue
        rest = []
        for inner, inner_kind, begin, inner_low, inner_high in _fields(data, low, high):
            big = inner == _INITIALIZER and inner_kind == _LENGTH and inner_high - inner_low > _WORTH_TAKING_OUT
            if not (big and _take_out(data, inner_low, inner_high, large)):
                rest.append(bytes(data[begin:inner_high]))
        body = b"".join(rest)
        yield _key_and_length(_GRAPH, len(body)) + body


def _take_out(data: memoryview, low: int, high: int, large: dict[str, NDArray[Any]]) -> bool:
    """Make a view of a tensor's raw data; False if its numbers are kept in another way."""
    import onnx

    head, raw = [], None
    for number, _, start, value, end in _fields(data, low, high):
        if number == _RAW_DATA:
            raw = value, end
        elif end - start > _WORTH_TAKING_OUT:
            return False
        else:
            head.append(bytes(data[start:end]))
    if raw is None:
        return False
    tensor = onnx.TensorProto()
    tensor.ParseFromString(b"".join(head))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    view = np.frombuffer(data[raw[0] : raw[1]], dtype)
    large[tensor.name] = view.reshape(tuple(tensor.dims))
    return True


def _fields(data: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Fields of a message: number, wire type, where the field starts, where its value starts and ends."""
    while at < end:
        start = at
        key, at = _varint(data, at, end)
        kind = key & 7
        low = at
        if kind == _VARINT:
            _, at = _varint(data, at, end)
        elif kind == _LENGTH:
            length, low = _varint(data, at, end)
            at = low + length
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("a field of unknown kind")
        if at > end:
            raise ValueError("a field reaches past the end")
        yield key >> 3, kind, start, low, at


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("a number without an end")


def _key_and_length(number: int, length: int) -> bytes:
    out = bytearray([number << 3 | _LENGTH])
    while length >= 0x80:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)
    return bytes(out)
