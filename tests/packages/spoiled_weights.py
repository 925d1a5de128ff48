"""Safetensors files that are damaged or lie."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from package_variants import (
    safetensors_bytes,
)
from spoiling import hostile

from hounsfield.errors import PackageInvalid


def _weights(data: bytes) -> Callable[[Path], None]:
    return lambda root: (root / "weights.safetensors").write_bytes(data) and None


def _entry(dtype: str, shape: list[Any], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@hostile(PackageInvalid, "its header claims")
def header_of_many_gigabytes(root: Path) -> None:
    _weights(struct.pack("<Q", 2**62) + b"{}")(root)


@hostile(PackageInvalid, "its header is not valid")
def header_nested_deeply(root: Path) -> None:
    text = b'{"a":' + b"[" * 100_000
    _weights(struct.pack("<Q", len(text)) + text)(root)


@hostile(PackageInvalid, "a key appears twice")
def tensor_twice(root: Path) -> None:
    text = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    _weights(struct.pack("<Q", len(text)) + text + b"x")(root)


@hostile(PackageInvalid, "overlaps another")
def tensors_overlapping(root: Path) -> None:
    _weights(safetensors_bytes({"a": _entry("U8", [8], 0, 8), "b": _entry("U8", [8], 4, 12)}, bytes(12)))(root)


@hostile(PackageInvalid, "leaves a hole")
def hole_between_tensors(root: Path) -> None:
    _weights(safetensors_bytes({"a": _entry("U8", [4], 0, 4), "b": _entry("U8", [4], 8, 12)}, bytes(12)))(root)


@hostile(PackageInvalid, "its tensors need 80 bytes, it holds 8")
def tensor_past_the_end(root: Path) -> None:
    _weights(safetensors_bytes({"a": _entry("U8", [80], 0, 80)}, bytes(8)))(root)


@hostile(PackageInvalid, "its tensors need 4 bytes, it holds 40")
def bytes_left_over(root: Path) -> None:
    _weights(safetensors_bytes({"a": _entry("U8", [4], 0, 4)}, bytes(40)))(root)


@hostile(PackageInvalid, "does not match its bytes")
def shape_overflow(root: Path) -> None:
    _weights(safetensors_bytes({"a": _entry("F32", [2**63, 2**63], 0, 8)}, bytes(8)))(root)


@hostile(PackageInvalid, "not a whole number from 0")
def negative_shape(root: Path) -> None:
    _weights(safetensors_bytes({"a": _entry("U8", [-2, -4], 0, 8)}, bytes(8)))(root)


@hostile(PackageInvalid, "no dtype of the format")
def object_dtype(root: Path) -> None:
    _weights(safetensors_bytes({"a": _entry("O", [1], 0, 8)}, bytes(8)))(root)


@hostile(PackageInvalid, "'a' holds NaN or infinity")
def weights_with_nan(root: Path) -> None:
    data = np.array([1, np.nan], "<f4").tobytes()
    _weights(safetensors_bytes({"a": _entry("F32", [2], 0, 8)}, data))(root)


@hostile(PackageInvalid, "'a' holds NaN or infinity")
def weights_with_bfloat16_infinity(root: Path) -> None:
    _weights(safetensors_bytes({"a": _entry("BF16", [2], 0, 4)}, b"\x00\x00\x80\x7f"))(root)


@hostile(PackageInvalid, "no [architecture]")
def weights_without_architecture(root: Path) -> None:
    text = (root / "manifest.toml").read_text()
    start = text.index("[architecture]")
    (root / "manifest.toml").write_text(text[:start] + text[text.index("[[", start) :])
