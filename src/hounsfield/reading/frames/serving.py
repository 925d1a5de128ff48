"""Frames for others: as they are stored, uncompressed, or as numbers to show.

Whatever must be decoded is decoded in a confined child; a decoder that crashes or hangs costs one
answer and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import InputError, LimitExceeded, NotReadable, UnsupportedEncoding
from hounsfield.reading import jail
from hounsfield.reading.elements import Malformed
from hounsfield.reading.frames.decode import (
    decode_colour,
    decode_into,
    is_native,
    is_supported,
    stored_dtype,
    syntax_name,
    warm_up,
)
from hounsfield.reading.frames.locate import StoredFrames
from hounsfield.reading.instances import Instance, from_answer, read_in_child
from hounsfield.reading.jail import Refused
from hounsfield.reading.limits import Limits
from hounsfield.reading.pixels import converted, modality_conversion

_AGAIN: Final = "fetch the instance as a file"
_MOST_BYTES: Final = 512 * 2**20
_LIMITS: Final = Limits(cpu_s=60, wall_s=60.0, header_bytes=64 * 2**20)


def open_instance(path: Path) -> Instance:
    """What is in a file, without its pixels.

    Raises
    ------
    NotReadable
        If it is damaged, or holds no pixels.
    """
    try:
        instance = from_answer(path, read_in_child(path, _LIMITS))
    except Refused as refused:
        raise NotReadable(refused.failure.reason, _AGAIN) from None
    stored = instance.format
    if instance.pixels is None or min(stored.rows, stored.columns, stored.samples, instance.frame_count) < 1:
        raise NotReadable("it has no frames", _AGAIN)
    if stored.kind == "integer" and stored.bits_allocated not in (1, 8, 16, 32):
        raise UnsupportedEncoding(f"{stored.bits_allocated} bits allocated are not served by frame", _AGAIN)
    return instance


def stored_frames(instance: Instance, numbers: Sequence[int]) -> list[bytes]:
    """Compressed frames as they are stored; ``numbers`` count from 1.

    Raises
    ------
    NotReadable
        If a frame is not there, or the fragments are damaged.
    """
    _check(instance, numbers)
    source = StoredFrames(instance)
    try:
        return [source.code_stream(number - 1) for number in numbers]
    except Malformed as fault:
        raise NotReadable(str(fault), _AGAIN) from None


def plain_frames(instance: Instance, numbers: Sequence[int]) -> list[bytes]:
    """Uncompressed frames, little endian, a one-bit frame filled up to a byte; ``numbers`` count from 1.

    Raises
    ------
    NotReadable
        If a frame is not there, or its pixels are damaged.
    UnsupportedEncoding
        If there is no decoder for it.
    LimitExceeded
        If it takes more memory or time than allowed.
    """
    _check(instance, numbers)
    stored = instance.format
    if stored.bits_allocated == 1:
        return [_packed(instance, number - 1) for number in numbers]
    if is_native(stored.transfer_syntax_uid) and stored.little and instance.inflated_from is None:
        return [_native(instance, number - 1) for number in numbers]
    array = _decoded(instance, numbers)
    return [one.astype(one.dtype.newbyteorder("<"), copy=False).tobytes() for one in array]


def shown_frame(instance: Instance, number: int) -> NDArray[Any]:
    """One frame to show: (rows, columns) float64 numbers after the rescale, or (rows, columns, 3) uint8 RGB.

    Raises
    ------
    NotReadable, UnsupportedEncoding, LimitExceeded
        As :func:`plain_frames`.
    """
    _check(instance, [number])
    stored = instance.format
    if stored.bits_allocated == 1:
        packed = np.frombuffer(_packed(instance, number - 1), np.uint8)
        bits = np.unpackbits(packed, bitorder="little")[: stored.rows * stored.columns]
        return bits.reshape(stored.rows, stored.columns).astype(np.float64)
    array: NDArray[Any] = _decoded(instance, [number])[0]
    if stored.samples > 1:
        return array
    frame = instance.frames[number - 1]
    numbers = np.empty(array.shape, np.float64)
    with np.errstate(all="ignore"):
        converted(array, modality_conversion(frame), numbers)
    return numbers


def _check(instance: Instance, numbers: Sequence[int]) -> None:
    if not numbers or not all(1 <= number <= instance.frame_count for number in numbers):
        raise NotReadable(f"it has {instance.frame_count} frames, and not all that were asked for", "ask for others")
    if len(numbers) * instance.format.frame_bytes > _MOST_BYTES:
        raise LimitExceeded("these frames are too large for one answer", "ask for fewer at a time")


def _native(instance: Instance, index: int) -> bytes:
    room = np.empty(instance.format.frame_bytes, np.uint8)
    try:
        StoredFrames(instance).read_native(index, room)
    except Malformed as fault:
        raise NotReadable(str(fault), _AGAIN) from None
    return room.tobytes()


def _packed(instance: Instance, index: int) -> bytes:
    """One frame of one-bit pixels, which need not begin at a byte (PS3.5 8.1.1)."""
    pixels = instance.format.rows * instance.format.columns
    first, end = index * pixels // 8, ((index + 1) * pixels + 7) // 8
    if instance.inflated_from is not None or not is_native(instance.format.transfer_syntax_uid):
        raise UnsupportedEncoding("one-bit frames are served only where they are not compressed", _AGAIN)
    with instance.path.open("rb") as stream:
        stream.seek(instance.offset + first)
        data = stream.read(end - first)
    if len(data) != end - first:
        raise NotReadable("the pixels are cut short", _AGAIN)
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    start = index * pixels - 8 * first
    return np.packbits(bits[start : start + pixels], bitorder="little").tobytes()


def _decoded(instance: Instance, numbers: Sequence[int]) -> NDArray[Any]:
    """(frames, rows, columns[, samples]) in the stored dtype, decoded in a child."""
    stored = instance.format
    if not is_supported(stored.transfer_syntax_uid):
        name = syntax_name(stored.transfer_syntax_uid)
        raise UnsupportedEncoding(f"no decoder for the transfer syntax {name}", _AGAIN)
    if stored.samples not in (1, 3) or (stored.samples == 3 and stored.bits_allocated != 8):
        raise UnsupportedEncoding(f"{stored.samples} samples of {stored.bits_allocated} bits are not decoded", _AGAIN)
    shape: tuple[int, ...] = (len(numbers), stored.rows, stored.columns)
    out = jail.shared_array(shape if stored.samples == 1 else (*shape, 3), stored_dtype(stored))
    warm_up(stored.transfer_syntax_uid)

    def work() -> bool:
        source = StoredFrames(instance)
        decode = decode_into if stored.samples == 1 else decode_colour
        for row, number in zip(out, numbers, strict=True):
            try:
                decode(source, number - 1, row)
            except Malformed as fault:
                raise Refused(str(fault)) from None
        return True

    answer = jail.run_one(work, _LIMITS)
    if isinstance(answer, jail.Failure):
        error: type[InputError] = LimitExceeded if answer.kind == "limit" else NotReadable
        raise error(answer.reason, _AGAIN)
    return out
