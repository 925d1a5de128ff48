"""Count what an ONNX file holds before the protobuf parser builds it.

A parsed message takes far more memory than its bytes (an empty node takes two bytes in the file),
so a small file could fill the memory. This walks the wire format without building anything,
with a bound on the number of fields, and refuses what a package's graph may never hold:
subgraphs, functions, training information, sparse tensors. Subgraphs being refused, the
depth is fixed and there is no recursion. After it, parsing costs at most a small multiple of
the file.

Wire format: protobuf encoding guide (varint key = number << 3 | type). Field numbers: onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from mmap import mmap

from hounsfield.errors import PackageInvalid, PackageRefused

MOST_FIELDS = 500_000
MOST_SMALL_BYTES = 64 * 1024
MOST_PACKED_BYTES = 32 * 1024**2

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class _Message:
    """What fields of a message mean here; a field named nowhere is small or refused."""

    name: str
    inner: Mapping[int, _Message] = field(default_factory=dict)
    bulk: frozenset[int] = frozenset()
    packed: frozenset[int] = frozenset()
    forbidden: Mapping[int, str] = field(default_factory=dict)


_SPARSE, _SUBGRAPH = "a sparse tensor", "a subgraph (If, Loop or Scan)"
_ENTRY = _Message("entry")
_KINDS = {4: "a sequence type", 5: "a map type", 7: "an opaque type", 8: "a sparse type", 9: "an optional type"}
_SHAPE = _Message("shape", inner={1: _Message("axis")})
_TYPE = _Message("type", inner={1: _Message("tensor type", inner={2: _SHAPE})}, forbidden=_KINDS)
_VALUE = _Message("value", inner={2: _TYPE, 4: _ENTRY})
_TENSOR = _Message(
    "tensor",
    inner={13: _ENTRY, 16: _ENTRY},
    bulk=frozenset({4, 9, 10}),
    packed=frozenset({1, 5, 7, 11}),
    forbidden={3: "a segment"},
)
_ATTRIBUTE = _Message(
    "attribute",
    inner={5: _TENSOR, 10: _TENSOR},
    packed=frozenset({7, 8}),
    forbidden={
        6: _SUBGRAPH,
        11: _SUBGRAPH,
        14: "a type attribute",
        15: "a type attribute",
        21: "a function's attribute reference",
        22: _SPARSE,
        23: _SPARSE,
    },
)
_NODE = _Message(
    "node", inner={5: _ATTRIBUTE, 9: _ENTRY}, forbidden={8: "a function overload", 10: "a device configuration"}
)
_GRAPH = _Message(
    "graph",
    inner={1: _NODE, 5: _TENSOR, 11: _VALUE, 12: _VALUE, 13: _VALUE, 16: _ENTRY},
    forbidden={14: "quantisation annotations", 15: _SPARSE},
)
_MODEL = _Message(
    "model",
    inner={7: _GRAPH, 8: _ENTRY, 14: _ENTRY},
    forbidden={20: "training information", 25: "functions of its own", 26: "device configurations"},
)


def scan_wire(data: mmap | bytes) -> int:
    """Walk an ONNX model; return the number of fields seen.

    Raises
    ------
    PackageInvalid
        If the bytes are not a protobuf message of this shape.
    PackageRefused
        If it holds what a graph may not hold, or too many fields.
    """
    view = memoryview(data)
    try:
        return _walk(view)
    finally:
        view.release()


def _walk(data: memoryview) -> int:
    count = packed = 0
    todo = [(_MODEL, 0, len(data))]
    while todo:
        message, start, end = todo.pop()
        for number, kind, low, high in _fields(data, start, end):
            count += 1
            if count > MOST_FIELDS:
                raise PackageRefused(
                    fact=f"the graph has more than {MOST_FIELDS} fields",
                    remedy="simplify the graph and export it again",
                )
            if number in message.forbidden:
                raise PackageRefused(
                    fact=f"the graph holds {message.forbidden[number]}", remedy="export it without; inline functions"
                )
            if kind == _LENGTH:
                inner = message.inner.get(number)
                if inner is not None:
                    todo.append((inner, low, high))
                elif number in message.packed:
                    packed += high - low
                    _check_size(message, number, packed, MOST_PACKED_BYTES)
                elif number not in message.bulk:
                    _check_size(message, number, high - low, MOST_SMALL_BYTES)
    return count


def _check_size(message: _Message, number: int, size: int, most: int) -> None:
    if size > most:
        raise PackageRefused(
            fact=f"the graph has a {message.name} whose field {number} has {size} bytes",
            remedy="keep large numbers in raw_data and texts short",
        )


def _fields(data: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of one message: number, wire type, and the range of the value."""
    while at < end:
        key, at = _varint(data, at, end)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise _broken()
        if kind == _VARINT:
            low, at = at, _varint(data, at, end)[1]
        elif kind == _LENGTH:
            length, low = _varint(data, at, end)
            at = low + length
        elif kind in (_FIXED64, _FIXED32):
            low, at = at, at + (8 if kind == _FIXED64 else 4)
        else:
            raise _broken()
        if at > end:
            raise _broken()
        yield number, kind, low, at


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise _broken()
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _broken()


def _broken() -> PackageInvalid:
    return PackageInvalid(fact="it is not an ONNX model", remedy="export the graph again")
