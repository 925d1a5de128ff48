"""Where each frame of an instance lies in its file: native pixels, or fragments of code streams (PS3.5 A.4)."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Sequence
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.reading.elements import Malformed, inflate
from hounsfield.reading.instances import Instance

_ITEM: Final = b"\xfe\xff\x00\xe0"
_END: Final = b"\xfe\xff\xdd\xe0"
# How a code stream starts: JPEG and JPEG-LS, JPEG 2000 and HTJ2K, and their file format JP2
_STARTS: Final = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ")

Span = tuple[int, int]


class StoredFrames:
    """The bytes of the frames of one instance; use it in the confined child only."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance

    @cached_property
    def _mapped(self) -> mmap.mmap:
        descriptor = os.open(self.instance.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)

    @cached_property
    def _inflated(self) -> bytes:
        start = self.instance.inflated_from or 0
        needed = self.instance.offset + self.instance.format.frame_bytes * self.instance.frame_count
        return inflate(self._mapped[start:], needed)[0]

    def read_native(self, index: int, into: NDArray[np.uint8]) -> None:
        """Copy uncompressed frame ``index`` (from 0) into a contiguous (bytes,) array.

        Raises
        ------
        Malformed
            If the frame is cut short.
        """
        start = self.instance.offset + index * into.size
        if self.instance.inflated_from is not None:
            part = self._inflated[start : start + into.size]
            got = len(part)
            if got == into.size:
                into[...] = np.frombuffer(part, dtype=np.uint8)
        else:
            descriptor = os.open(self.instance.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                got = _read_fully(descriptor, into.data, start)
            finally:
                os.close(descriptor)
        if got != into.size:
            raise Malformed(f"the pixels are cut short ({got} of {into.size} bytes of a frame)")

    def code_stream(self, index: int) -> bytes:
        """The compressed bytes of frame ``index`` (from 0).

        Raises
        ------
        Malformed
            If the fragments are damaged or do not tell which frame they belong to.
        """
        return b"".join(self._mapped[start:stop] for start, stop in self._spans[index])

    @cached_property
    def _spans(self) -> list[list[Span]]:
        offsets, fragments = _fragments(self._mapped, self.instance.offset)
        return _by_frame(self._mapped, offsets, fragments, self.instance.frame_count)


def _read_fully(descriptor: int, into: memoryview, position: int) -> int:
    done = 0
    while done < len(into):
        got = os.preadv(descriptor, [into[done:]], position + done)
        if got == 0:
            break
        done += got
    return done


def _fragments(data: mmap.mmap, position: int) -> tuple[tuple[int, ...], list[Span]]:
    """The basic offset table, and the spans of the fragments."""
    spans: list[Span] = []
    end = len(data)
    while position + 8 <= end:
        tag = data[position : position + 4]
        length = struct.unpack_from("<I", data, position + 4)[0]
        start = position + 8
        if tag == _END:
            break
        if tag != _ITEM:
            raise Malformed("the compressed pixels are damaged: an item is not where it should be")
        if start + length > end:
            raise Malformed(f"the compressed pixels are cut short ({end - start} of {length} bytes of a fragment)")
        spans.append((start, start + length))
        position = start + length
    if not spans:
        raise Malformed("the compressed pixels hold no fragment")
    table = data[spans[0][0] : spans[0][1]]
    return struct.unpack(f"<{len(table) // 4}I", table[: len(table) // 4 * 4]), spans[1:]


def _by_frame(data: mmap.mmap, offsets: Sequence[int], fragments: list[Span], frames: int) -> list[list[Span]]:
    """Fragments of each frame: one each, by the offset table, or by how code streams start."""
    if frames == 1:
        groups = [fragments]
    elif len(fragments) == frames:
        groups = [[fragment] for fragment in fragments]
    elif len(offsets) == frames:
        origin = fragments[0][0] - 8 if fragments else 0
        starts = {origin + offset for offset in offsets}
        groups = _grouped(fragments, [start - 8 in starts for start, _ in fragments])
    else:
        groups = _grouped(fragments, [data[start : start + 12].startswith(_STARTS) for start, _ in fragments])
    if len(groups) != frames or not all(groups):
        raise Malformed(f"the compressed pixels hold {len(groups)} frames where {frames} are declared")
    return groups


def _grouped(fragments: list[Span], is_first: list[bool]) -> list[list[Span]]:
    groups: list[list[Span]] = []
    for fragment, first in zip(fragments, is_first, strict=True):
        if first or not groups:
            groups.append([])
        groups[-1].append(fragment)
    return groups
