"""Stored values of one frame, whatever its transfer syntax (PS3.5 chapters 8 and A).

imagecodecs decodes every compression here and releases the interpreter lock while it does, so
that threads scale. What a code stream says of its own size is held against the header before a
decoder allocates for it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.reading import tags
from hounsfield.reading.elements import Malformed
from hounsfield.reading.frames.locate import StoredFrames
from hounsfield.reading.instances import PixelFormat

NATIVE: Final = (tags.IMPLICIT_LITTLE, tags.EXPLICIT_LITTLE, tags.EXPLICIT_BIG, tags.DEFLATED)

_JPEG: Final = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70))
_JPEG_LS: Final = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (80, 81))
_JPEG_2000: Final = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91))
_HTJ2K: Final = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (201, 202, 203))
_RLE: Final = "1.2.840.10008.1.2.5"

_NAMES: Final = {
    "1.2.840.10008.1.2.1.98": "Encapsulated Uncompressed",
    "1.2.840.10008.1.2.4.92": "JPEG 2000 Part 2",
    "1.2.840.10008.1.2.4.93": "JPEG 2000 Part 2",
    "1.2.840.10008.1.2.4.100": "MPEG2 video",
    "1.2.840.10008.1.2.4.102": "MPEG-4 video",
    "1.2.840.10008.1.2.4.107": "HEVC video",
    "1.2.840.10008.1.2.4.110": "JPEG XL",
}


def is_native(transfer_syntax_uid: str) -> bool:
    """Whether pixels are stored without compression (a deflated data set included)."""
    return transfer_syntax_uid in NATIVE


def is_supported(transfer_syntax_uid: str) -> bool:
    """Whether a decoder for it is here."""
    return is_native(transfer_syntax_uid) or _decoder(transfer_syntax_uid) is not None


def syntax_name(transfer_syntax_uid: str) -> str:
    """A transfer syntax by name where it is well known, else its UID."""
    return _NAMES.get(transfer_syntax_uid, transfer_syntax_uid or "none")


def warm_up(transfer_syntax_uid: str) -> None:
    """Load the decoder library now, so that every forked child has it."""
    decoder = _decoder(transfer_syntax_uid)
    if decoder is not None:
        import imagecodecs

        for name in decoder[1]:
            getattr(imagecodecs, name)


def stored_dtype(stored: PixelFormat) -> np.dtype[Any]:
    """Native-endian dtype of the stored values."""
    kind = "f" if stored.kind != "integer" else ("i" if stored.signed else "u")
    return np.dtype(f"{kind}{stored.bits_allocated // 8}")


def decode_into(frames: StoredFrames, index: int, out: NDArray[Any]) -> None:
    """Decode frame ``index`` (from 0) into ``out``, (rows, columns) contiguous, of ``stored_dtype``.

    Raises
    ------
    Malformed
        If the frame is cut short, damaged or of another size than the header says.
    """
    stored = frames.instance.format
    if is_native(stored.transfer_syntax_uid):
        frames.read_native(index, out.reshape(-1).view(np.uint8))
        if not stored.little and out.dtype.itemsize > 1:
            out.byteswap(inplace=True)
        _clean(out, stored)
        return
    decoder = _decoder(stored.transfer_syntax_uid)
    if decoder is None:
        raise Malformed(f"no decoder for {syntax_name(stored.transfer_syntax_uid)}")
    data = frames.code_stream(index)
    if stored.transfer_syntax_uid != _RLE:
        _check_size(data, stored)
    try:
        image = decoder[0](data, stored)
    except MemoryError:
        raise
    except Exception as error:
        raise Malformed(f"the {syntax_family(stored)} decoder refuses it ({type(error).__name__})") from None
    if image.shape != out.shape:
        raise Malformed(f"it decodes to {image.shape} pixels where the header says {out.shape}")
    _store(image, out, stored)


def decode_colour(frames: StoredFrames, index: int, out: NDArray[Any]) -> None:
    """Decode frame ``index`` (from 0) of three samples of 8 bits into ``out``, (rows, columns, 3) uint8.

    Raises
    ------
    Malformed
        If the frame is cut short, damaged or of another size than the header says.
    """
    stored = frames.instance.format
    if is_native(stored.transfer_syntax_uid):
        raw = np.empty(stored.frame_bytes, np.uint8)
        frames.read_native(index, raw)
        planar = frames.instance.header.get("PlanarConfiguration") == 1
        by_plane = raw.reshape(3, stored.rows, stored.columns).transpose(1, 2, 0) if planar else raw.reshape(out.shape)
        out[...] = by_plane
        return
    decoder = _decoder(stored.transfer_syntax_uid)
    if decoder is None or stored.transfer_syntax_uid == _RLE:
        raise Malformed(f"no decoder for colour in {syntax_name(stored.transfer_syntax_uid)}")
    data = frames.code_stream(index)
    _check_size(data, stored)
    try:
        image = decoder[0](data, stored)
    except MemoryError:
        raise
    except Exception as error:
        raise Malformed(f"the {syntax_family(stored)} decoder refuses it ({type(error).__name__})") from None
    if image.shape != out.shape or image.dtype != out.dtype:
        raise Malformed("it decodes to other pixels than the header says")
    out[...] = image


def syntax_family(stored: PixelFormat) -> str:
    """The compression by name."""
    families = ((_JPEG, "JPEG"), (_JPEG_LS, "JPEG-LS"), (_JPEG_2000, "JPEG 2000"), (_HTJ2K, "HTJ2K"))
    return next((name for uids, name in families if stored.transfer_syntax_uid in uids), "RLE")


def _store(image: NDArray[Any], out: NDArray[Any], stored: PixelFormat) -> None:
    """Decoded values into the stored dtype; only code streams of JPEG 2000 know a sign."""
    if image.dtype.itemsize > out.dtype.itemsize:
        raise Malformed(
            f"it decodes to {image.dtype.itemsize * 8}-bit values where {stored.bits_allocated} are allocated"
        )
    if image.dtype.kind == "i" and not stored.signed and image.dtype.itemsize < out.dtype.itemsize:
        image = image.view(f"u{image.dtype.itemsize}")
    np.copyto(out, image, casting="unsafe")
    if image.dtype.kind == "u" or not stored.signed:
        _clean(out, stored)


def _clean(out: NDArray[Any], stored: PixelFormat) -> None:
    """Keep bits ``high_bit`` down to ``high_bit - bits_stored + 1``, sign-extended, in place."""
    unused = stored.bits_allocated - stored.bits_stored
    if stored.kind != "integer" or unused == 0:
        return
    above = stored.bits_allocated - 1 - stored.high_bit
    if stored.signed:
        np.left_shift(out, above, out=out)
        np.right_shift(out, unused, out=out)
        return
    if above != unused:
        np.right_shift(out, unused - above, out=out)
    np.bitwise_and(out, (1 << stored.bits_stored) - 1, out=out)


_Decoder = tuple[Callable[[bytes, PixelFormat], NDArray[Any]], tuple[str, ...]]


def _decoder(uid: str) -> _Decoder | None:
    """The decoding function of a transfer syntax, and the imagecodecs functions that it needs."""
    if uid in _JPEG:
        return _jpeg, ("jpeg8_decode", "jpegsof3_decode")
    if uid in _JPEG_LS:
        return _jpeg_ls, ("jpegls_decode",)
    if uid in _JPEG_2000:
        return _jpeg_2000, ("jpeg2k_decode",)
    if uid in _HTJ2K and _has_htj2k():
        return _htj2k, ("htj2k_decode",)
    if uid == _RLE:
        return _rle, ("dicomrle_decode",)
    return None


def _has_htj2k() -> bool:
    import imagecodecs

    return bool(imagecodecs.HTJ2K.available)


def _jpeg(data: bytes, stored: PixelFormat) -> NDArray[Any]:
    import imagecodecs

    try:
        image: NDArray[Any] = imagecodecs.jpeg8_decode(data)
    except imagecodecs.Jpeg8Error:
        # libjpeg-turbo leaves out a few lossless predictors and precisions
        image = np.ascontiguousarray(imagecodecs.jpegsof3_decode(data))
    return image


def _jpeg_ls(data: bytes, stored: PixelFormat) -> NDArray[Any]:
    import imagecodecs

    image: NDArray[Any] = imagecodecs.jpegls_decode(data)
    return image


def _jpeg_2000(data: bytes, stored: PixelFormat) -> NDArray[Any]:
    import imagecodecs

    image: NDArray[Any] = imagecodecs.jpeg2k_decode(data, numthreads=1)
    return image


def _htj2k(data: bytes, stored: PixelFormat) -> NDArray[Any]:
    import imagecodecs

    image: NDArray[Any] = imagecodecs.htj2k_decode(data)
    return image


def _rle(data: bytes, stored: PixelFormat) -> NDArray[Any]:
    """RLE (PS3.5 annex G): byte planes, most significant first."""
    import imagecodecs

    dtype = np.dtype(f"<u{stored.bits_allocated // 8}")
    flat = imagecodecs.dicomrle_decode(data, dtype)
    if len(flat) < stored.frame_bytes:
        raise Malformed(f"RLE gives {len(flat)} of {stored.frame_bytes} bytes")
    image = np.frombuffer(flat, dtype, stored.rows * stored.columns).reshape(stored.rows, stored.columns)
    return image.astype(dtype.newbyteorder("="), copy=False)


def _check_size(data: bytes, stored: PixelFormat) -> None:
    """Hold the size in a code stream against the header before anything is allocated for it."""
    size = _stream_size(data)
    if size is None:
        raise Malformed(f"the compressed pixels are not {syntax_family(stored)}")
    if size != (stored.rows, stored.columns):
        raise Malformed(
            f"its code stream says {size[0]} x {size[1]} pixels where the header says {stored.rows} x {stored.columns}"
        )


def _stream_size(data: bytes) -> tuple[int, int] | None:
    """(rows, columns) from the SOF of a JPEG or JPEG-LS, or the SIZ of a JPEG 2000 code stream."""
    siz = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if siz >= 0 and len(data) >= siz + 24:
        width, height, left, top = struct.unpack_from(">IIII", data, siz + 8)
        return height - top, width - left
    position = 2
    while data[:2] == b"\xff\xd8" and position + 9 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns = struct.unpack_from(">HH", data, position + 5)
            return rows, columns
        else:
            position += 2 + int(struct.unpack_from(">H", data, position + 2)[0])
    return None
