"""From the raw elements of a file to plain values by keyword, as JSON can carry them."""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from hounsfield.reading import tags
from hounsfield.reading.elements import Item, Malformed, Parsed, Raw, parse
from hounsfield.reading.limits import Limits

Header = dict[str, Any]

# PS3.3 C.12.1.1.2; multi-byte sets by the nearest codec that Python has
_CHARACTER_SETS: Final = {
    "ISO_IR 100": "latin-1",
    "ISO_IR 101": "iso8859-2",
    "ISO_IR 109": "iso8859-3",
    "ISO_IR 110": "iso8859-4",
    "ISO_IR 126": "iso8859-7",
    "ISO_IR 127": "iso8859-6",
    "ISO_IR 138": "iso8859-8",
    "ISO_IR 144": "iso8859-5",
    "ISO_IR 148": "iso8859-9",
    "ISO_IR 203": "iso8859-15",
    "ISO_IR 13": "shift_jis",
    "ISO_IR 166": "tis-620",
    "ISO_IR 192": "utf-8",
    "GB18030": "gb18030",
    "GBK": "gbk",
    "ISO 2022 IR 87": "iso2022_jp",
    "ISO 2022 IR 159": "iso2022_jp_2",
    "ISO 2022 IR 149": "euc_kr",
    "ISO 2022 IR 58": "gb2312",
}


def read_header(path: Path, limits: Limits) -> tuple[Header, Parsed]:
    """The kept elements of one file by keyword, and where its pixels are.

    Only the pages before the pixels are touched.

    Raises
    ------
    Malformed
        If the file is not DICOM or is damaged.
    """
    with mapped_file(path) as view:
        parsed = parse(view, limits)
    return decode(parsed), parsed


@contextmanager
def mapped_file(path: Path) -> Iterator[memoryview]:
    """The bytes of a file, of which only the pages that are touched are read.

    Raises
    ------
    Malformed
        If the file is empty.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        if size == 0:
            raise Malformed("the file is empty")
        with mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
            yield view
    finally:
        os.close(descriptor)


def decode(parsed: Parsed) -> Header:
    """Values by keyword: ``str``, ``int``, ``float``, lists of these, or lists of headers."""
    order = "<" if parsed.little else ">"
    signed = _decode_integers(parsed.item.get(0x00280103), order + "H") == [1]
    return _Decoder(order, signed, codec_of(parsed.item)).header(parsed.item)


def codec_of(item: Item) -> str:
    """The codec of a data set's texts: of several character sets the last that is known."""
    charset = item.get(0x00080005)
    names = [] if charset is None else _split(charset.value.decode("ascii", "replace"))
    return next((_CHARACTER_SETS[name] for name in reversed(names) if name in _CHARACTER_SETS), "latin-1")


class _Decoder:
    """Decodes values in one byte order, signedness and character set."""

    def __init__(self, order: str, signed: bool, codec: str) -> None:
        self.codec = codec
        short = order + "H"
        default = order + ("h" if signed else "H")
        binary = {b"UL": "I", b"SL": "i", b"SS": "h", b"US": "H", b"UV": "Q", b"SV": "q"}
        self.binary = {vr: order + code for vr, code in binary.items()}
        self.by_kind: dict[str, Callable[[Raw], Any]] = {
            "s": self.text,
            "S": lambda raw: _split(self.text(raw)),
            "d": lambda raw: _numbers(raw, float),
            "i": lambda raw: _numbers(raw, int),
            "u": lambda raw: _decode_integers(raw, self._code(raw, short)),
            "l": lambda raw: _decode_integers(raw, self._code(raw, order + "I")),
            "x": lambda raw: _decode_integers(raw, self._code(raw, default)),
            "f": lambda raw: _decode_floats(raw, order),
            "q": lambda raw: [self.header(item) for item in raw.items],
        }

    def header(self, item: Item) -> Header:
        """One data set or sequence item; empty values are left out, single ones unpacked."""
        result: Header = {}
        for tag, raw in item.items():
            kind = tags.KIND[tag]
            value = self.by_kind[kind](raw)
            if value in ("", []):
                continue
            result[tags.KEYWORD[tag]] = value[0] if kind in "diulxf" and len(value) == 1 else value
        return result

    def _code(self, raw: Raw, default: str) -> str:
        return self.binary.get(raw.vr, default)

    def text(self, raw: Raw) -> str:
        """A text without padding and control characters."""
        text = raw.value.decode(self.codec, "replace").rstrip("\0 ").lstrip(" ")
        return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split("\\")] if text else []


def _numbers(raw: Raw, convert: Callable[[str], Any]) -> list[Any]:
    """Decimal or integer strings.

    What is no number must not look as if it were absent, for then a default would be taken: it
    stays as NaN, or as the text where an integer belongs, and is refused where it is needed.
    """
    parts = [part.strip() for part in raw.value.decode("ascii", "replace").rstrip("\0 ").split("\\")]
    if parts == [""]:
        return []
    try:
        return [convert(part) for part in parts]
    except ValueError:
        numbers = [_float_or_nan(part) for part in parts]
    if convert is float:
        return numbers
    # some writers store integers as "3.0"
    return [int(number) if number.is_integer() else part for number, part in zip(numbers, parts, strict=True)]


def _float_or_nan(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _decode_integers(raw: Raw | None, code: str) -> list[int]:
    if raw is None:
        return []
    size = struct.calcsize(code)
    count = len(raw.value) // size
    return list(struct.unpack_from(f"{code[0]}{count}{code[1]}", raw.value))


def _decode_floats(raw: Raw, order: str) -> list[float]:
    code, size = ("f", 4) if raw.vr == b"FL" else ("d", 8)
    count = len(raw.value) // size
    return list(struct.unpack_from(f"{order}{count}{code}", raw.value))
