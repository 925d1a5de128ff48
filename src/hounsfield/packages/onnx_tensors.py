"""Check the tensors of an ONNX graph: dims against bytes, external data, finite numbers, sizes."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from hounsfield.errors import PackageInvalid, PackageRefused
from hounsfield.packages.finite import all_finite, finite_bytes
from hounsfield.packages.inventory import shown
from hounsfield.packages.onnx_operators import MOST_ELEMENTS, MOST_SIZE, SIZED_BY_INPUT

#: TensorProto.DataType -> (bits of an item, kind for the test of finiteness); onnx.proto.
_TYPES: dict[int, tuple[int, str | None]] = {
    1: (32, "f4"),
    11: (64, "f8"),
    10: (16, "f2"),
    16: (16, "bf2"),
    2: (8, None),
    3: (8, None),
    4: (16, None),
    5: (16, None),
    6: (32, None),
    7: (64, None),
    9: (8, None),
    12: (32, None),
    13: (64, None),
    17: (8, None),
    18: (8, None),
    19: (8, None),
    20: (8, None),
    21: (4, None),
    22: (4, None),
}
_EXTERNAL_KEYS = {"location", "offset", "length", "checksum"}
_SMALL = 1024
_EXPORT = "export the graph again"


def _typed_bytes(tensor: Any, kind: str | None) -> bytes:
    """The floats of a tensor that are not in raw_data; 16-bit floats lie in int32_data (onnx.proto)."""
    if kind in ("f2", "bf2"):
        return np.asarray(tensor.int32_data, np.int64).astype("<u2").tobytes()
    if kind == "f8":
        return np.asarray(tensor.double_data, "<f8").tobytes()
    return np.asarray(tensor.float_data, "<f4").tobytes() if kind == "f4" else b""


class TensorChecker:
    """Checks the tensors of one graph and remembers small constants that decide sizes.

    Parameters
    ----------
    root, graph_file
        The package folder and the graph's relative path.
    listed
        The files of the package; external data must be one of them, in ``graphs/``.
    """

    def __init__(self, root: Path, graph_file: str, listed: frozenset[str]) -> None:
        self._root = root
        self._graph_file = graph_file
        self._listed = listed
        self._numbers: dict[str, list[float]] = {}
        self.external: frozenset[str] = frozenset()

    def check(self, tensor: Any, *, in_file: bool = False) -> None:
        """Check one tensor; ``in_file`` refuses external data (attributes may not have them).

        Raises
        ------
        PackageInvalid
            If dims and bytes do not match, or a number is NaN (or infinite, unless it is alone).
        PackageRefused
            For texts, unknown types, huge dims, and external data outside the package.
        """
        dims = list(tensor.dims)
        if tensor.data_type not in _TYPES or tensor.string_data:
            raise PackageRefused(fact=f"a tensor has the data type {tensor.data_type}", remedy="use numbers only")
        if len(dims) > 16 or any(dim < 0 for dim in dims) or math.prod(dims) > 2**40:
            raise PackageRefused(fact=f"the tensor {shown(tensor.name)} has impossible dims", remedy=_EXPORT)
        bits, kind = _TYPES[tensor.data_type]
        expected = (math.prod(dims) * bits + 7) // 8
        if tensor.data_location == 1 or tensor.external_data:
            if in_file:
                raise PackageRefused(fact="an attribute keeps its data in another file", remedy=_EXPORT)
            self._check_external(tensor, expected, kind)
            return
        self._check_inside(tensor, math.prod(dims), expected, kind)
        if math.prod(dims) <= _SMALL:
            self._remember(tensor.name, tensor)

    def _check_inside(self, tensor: Any, count: int, expected: int, kind: str | None) -> None:
        if tensor.raw_data:
            good = len(tensor.raw_data) == expected
            data = bytes(tensor.raw_data) if good and kind else b""
        else:
            values = [tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data]
            per_item = 2 if tensor.data_type in (21, 22) else 1
            good = sum(len(some) for some in values) in (count, (count + per_item - 1) // per_item)
            data = _typed_bytes(tensor, kind)
        if not good:
            raise PackageInvalid(fact=f"the bytes of tensor {shown(tensor.name)} do not match its dims", remedy=_EXPORT)
        if kind and data and not finite_bytes(data, kind, infinity=count == 1):
            raise self._not_finite(tensor)

    def _check_external(self, tensor: Any, expected: int, kind: str | None) -> None:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if len(entries) != len(tensor.external_data) or not set(entries) <= _EXTERNAL_KEYS or tensor.raw_data:
            raise PackageRefused(fact="external data have unknown or repeated keys", remedy=_EXPORT)
        location = entries.get("location", "")
        name = f"graphs/{location}"
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.data", location) or ".." in location:
            raise PackageRefused(
                fact=f"external data point to {shown(location)}, outside the package's graphs folder",
                remedy="keep external data in graphs/NAME.data",
            )
        if name not in self._listed:
            raise PackageInvalid(fact=f"external data {name!r} are not in the package", remedy="add the file")
        offset, length = (self._whole(entries.get(key, default)) for key, default in (("offset", "0"), ("length", "")))
        path = self._root / name
        if length != expected or offset + length > path.lstat().st_size:
            raise PackageInvalid(
                fact=f"the external data of {shown(tensor.name)} do not match its dims or pass the end", remedy=_EXPORT
            )
        self.external |= {name}
        if kind and not all_finite(path, kind, offset, length, infinity=expected <= 8):
            raise self._not_finite(tensor)

    @staticmethod
    def _whole(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,15}", text):
            raise PackageRefused(fact="external data need an offset and a length in whole numbers", remedy=_EXPORT)
        return int(text)

    @staticmethod
    def _not_finite(tensor: Any) -> PackageInvalid:
        return PackageInvalid(
            fact=f"the tensor {shown(tensor.name)} holds NaN or infinity", remedy="train or export the weights again"
        )

    def remember_constant(self, node: Any, attribute: Any) -> None:
        """Remember a Constant node's small value under its output's name."""
        if attribute.HasField("t"):
            if math.prod(attribute.t.dims) <= _SMALL:
                self._remember(node.output[0], attribute.t)
        else:
            numbers = [*attribute.ints, *attribute.floats]
            numbers += [attribute.i] if attribute.HasField("i") else []
            numbers += [attribute.f] if attribute.HasField("f") else []
            self._numbers[node.output[0]] = [float(number) for number in numbers[:_SMALL]]

    def _remember(self, name: str, tensor: Any) -> None:
        from onnx import numpy_helper

        if tensor.data_type in (1, 5, 6, 7, 11, 12, 13):
            self._numbers[name] = [float(number) for number in numpy_helper.to_array(tensor).ravel()]

    def check_sizes(self, node: Any) -> None:
        """Refuse constant shapes, repeats, pads and ranges that would make a huge array.

        Raises
        ------
        PackageRefused
            If a constant that decides a size is beyond 2**20, or their product beyond 2**31.
        """
        for position in SIZED_BY_INPUT.get(node.op_type, ()):
            name = node.input[position] if position < len(node.input) else ""
            numbers = self._numbers.get(name, [])
            product = math.prod(max(1.0, abs(number)) for number in numbers)
            if any(abs(number) > MOST_SIZE for number in numbers) or product > MOST_ELEMENTS:
                raise PackageRefused(
                    fact=f"a {node.op_type} node would make a huge array", remedy="export a graph with sane sizes"
                )
