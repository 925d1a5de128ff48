"""A tensor of a checkpoint: where its numbers lie, checked before any of them is read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import SourceRefused

MOST_ELEMENTS = 2**31
_REMEDY = "do not trust the file, or save the weights again"

#: numpy type of each storage and dtype name of torch; bfloat16 is widened to float32 when read.
STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "bf16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
DTYPES = {
    "float64": "f8",
    "float32": "f4",
    "float16": "f2",
    "bfloat16": "bf16",
    "int64": "i8",
    "int32": "i4",
    "int16": "i2",
    "int8": "i1",
    "uint8": "u1",
    "bool": "?",
}


def item_bytes(kind: str) -> int:
    """Bytes of one number of a kind."""
    return 2 if kind == "bf16" else np.dtype(kind).itemsize


@dataclass(frozen=True, eq=False)
class Storage:
    """A run of numbers in the file.

    Parameters
    ----------
    kind
        A value of :data:`STORAGES`.
    elements
        How many numbers it holds.
    read
        Gives its bytes; called only when a tensor over it is asked for.
    little
        Byte order.
    """

    kind: str
    elements: int
    read: Callable[[], bytes]
    little: bool = True


@dataclass(frozen=True, eq=False)
class Tensor:
    """A view of a storage; ``shape`` and ``stride`` in elements.

    Raises
    ------
    SourceRefused
        On making one that reaches beyond its storage, or repeats elements without end.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.shape, *self.stride)
        if any(type(number) is not int or number < 0 for number in numbers) or len(self.shape) != len(self.stride):
            raise SourceRefused("a tensor has a shape, stride or offset that is no whole number from 0", _REMEDY)
        elements = math.prod(self.shape)
        if len(self.shape) > 16 or elements > MOST_ELEMENTS or elements > max(1, self.storage.elements):
            raise SourceRefused(f"a tensor claims the shape {list(self.shape)}, more than the file holds", _REMEDY)
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        if elements and last >= self.storage.elements:
            raise SourceRefused(f"a tensor of shape {list(self.shape)} reaches beyond its storage", _REMEDY)

    def same_as(self, other: Tensor) -> bool:
        """Whether both are the same numbers of the file (a network may hold a tensor under two names)."""
        mine, theirs = (self.offset, self.shape, self.stride), (other.offset, other.shape, other.stride)
        return self.storage is other.storage and mine == theirs

    def array(self) -> NDArray[np.generic]:
        """The numbers as a C-ordered array of their own; bfloat16 as float32.

        Raises
        ------
        SourceRefused
            If the file holds fewer bytes than it claims.
        """
        storage = self.storage
        if math.prod(self.shape) == 0:
            return np.zeros(self.shape, "f4" if storage.kind == "bf16" else storage.kind)
        data = storage.read()
        size = item_bytes(storage.kind)
        if len(data) < storage.elements * size:
            raise SourceRefused("a tensor's numbers are cut off", "fetch the file again")
        order = "<" if storage.little else ">"
        stored = np.frombuffer(data, order + ("u2" if storage.kind == "bf16" else storage.kind), storage.elements)
        view = np.lib.stride_tricks.as_strided(
            stored[self.offset :], self.shape, tuple(step * size for step in self.stride), writeable=False
        )
        if storage.kind == "bf16":
            return (view.astype("u4") << 16).view("f4")
        return np.ascontiguousarray(view, view.dtype.newbyteorder("=")).reshape(self.shape)
