"""Check a ``.safetensors`` file without the library: header, ranges, and finite numbers.

The format is eight bytes (length of the header, little endian), a JSON header naming each
tensor's dtype, shape and byte range, and the bytes (huggingface/safetensors, README).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hounsfield.errors import PackageInvalid
from hounsfield.packages.finite import all_finite
from hounsfield.packages.inventory import opened, shown

MOST_HEADER_BYTES = 16 * 1024**2
MOST_TENSORS = 100_000
ITEM_BYTES = {
    "F64": 8,
    "I64": 8,
    "U64": 8,
    "F32": 4,
    "I32": 4,
    "U32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "U16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
_FLOATS = {"F64": "f8", "F32": "f4", "F16": "f2", "BF16": "bf2"}
_REMEDY = "write it again with the safetensors library"


@dataclass(frozen=True)
class _Tensor:
    name: str
    dtype: str
    start: int
    end: int


def check_safetensors(root: Path, name: str) -> int:
    """Check the file; return its number of tensors.

    Raises
    ------
    PackageInvalid
        For a header too large, not JSON, with ranges that overlap, leave holes or pass the end,
        with shapes that do not match, or for a weight that is NaN or infinite.
    """
    path = root / name
    with opened(root, name) as file:
        size = file.seek(0, 2)
        file.seek(0)
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(MOST_HEADER_BYTES, size - 8):
            raise PackageInvalid(fact=f"its header claims {length} bytes", remedy=_REMEDY, path=path)
        tensors = _tensors(file.read(length), path)
    base = 8 + length
    _check_ranges(tensors, size - base, path)
    for tensor in tensors:
        kind = _FLOATS.get(tensor.dtype)
        if kind and not all_finite(path, kind, base + tensor.start, tensor.end - tensor.start, infinity=False):
            raise PackageInvalid(
                fact=f"the tensor {shown(tensor.name)} holds NaN or infinity",
                remedy="train or export the weights again",
                path=path,
            )
    return len(tensors)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key appears twice")
    return dict(pairs)


def _tensors(header: bytes, path: Path) -> list[_Tensor]:
    try:
        if not header.startswith(b"{"):
            raise ValueError("no JSON object")
        table = json.loads(header.decode("utf-8"), object_pairs_hook=_no_duplicates)
        metadata = table.pop("__metadata__", {})
        if any(not isinstance(value, str) for value in metadata.values()):
            raise ValueError("metadata that are not text")
        if len(table) > MOST_TENSORS:
            raise ValueError("too many tensors")
        return [_tensor(name, entry) for name, entry in table.items()]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise PackageInvalid(fact=f"its header is not valid ({error})", remedy=_REMEDY, path=path) from error


def _tensor(name: str, entry: dict[str, Any]) -> _Tensor:
    if set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the entry of {shown(name)} has other keys")
    dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in ITEM_BYTES:
        raise ValueError(f"{shown(str(dtype))} is no dtype of the format")
    if any(type(number) is not int or number < 0 for number in (*shape, start, end)):
        raise ValueError(f"{shown(name)} has a shape or offset that is not a whole number from 0")
    if len(shape) > 16 or math.prod(shape) * ITEM_BYTES[dtype] != end - start:
        raise ValueError(f"the shape of {shown(name)} does not match its bytes")
    return _Tensor(name, dtype, start, end)


def _check_ranges(tensors: list[_Tensor], available: int, path: Path) -> None:
    at = 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.start, tensor.end)):
        if tensor.start != at:
            what = "overlaps another" if tensor.start < at else "leaves a hole before it"
            raise PackageInvalid(fact=f"the range of {shown(tensor.name)} {what}", remedy=_REMEDY, path=path)
        at = tensor.end
    if at != available:
        raise PackageInvalid(fact=f"its tensors need {at} bytes, it holds {available}", remedy=_REMEDY, path=path)
