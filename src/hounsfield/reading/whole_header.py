"""Every element of a DICOM header, for those who pass metadata on: the DICOM JSON Model (PS3.18 annex F).

The same strict walk as elsewhere; only what is kept differs. It may hold names of persons, so
nothing of it goes into a log or an error text.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

from hounsfield.reading import tags
from hounsfield.reading.elements import Item, Malformed, Parsed, Raw, Walk, parse
from hounsfield.reading.headers import codec_of, mapped_file
from hounsfield.reading.limits import Limits

JsonItem = dict[str, dict[str, Any]]

_INTEGERS: Final = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q"}
_FLOATS: Final = {"FL": "f", "FD": "d"}
_BINARY: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
_ONE_TEXT: Final = frozenset(("LT", "ST", "UT", "UR"))
_INLINE_BYTES: Final = 4096
_AMBIGUOUS: Final = {"US or SS": "US", "OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW", "NONE": "UN"}


class WholeWalk(Walk):
    """Keeps every element before the pixels."""

    def element(self, tag: int, vr: bytes, length: int, value: int, end: int, depth: int, into: Item | None) -> int:
        """Keep one element; return where the next one starts."""
        nested = vr == b"SQ" or (vr in (b"", b"UN") and dictionary_vr(tag) == "SQ")
        if length == tags.UNDEFINED or (nested and into is not None):
            return self.sequence(tag, vr, length, value, end, depth, into)
        if into is not None:
            into[tag] = Raw(vr, bytes(self.data[value : value + length]))
        return value + length

    def sequence(self, tag: int, vr: bytes, length: int, position: int, end: int, depth: int, into: Item | None) -> int:
        """Read a sequence, and remember that it is one even without items."""
        after = super().sequence(tag, vr, length, position, end, depth, into)
        if into is not None:
            into[tag] = Raw(b"SQ", b"", into[tag].items)
        return after


@cache
def dictionary_vr(tag: int) -> str:
    """The value representation of PS3.6, ``UN`` where it is not known."""
    from pydicom.datadict import dictionary_VR

    if tag & 0xFFFF == 0 and (tag >> 16) != 0:
        return "UL"
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return "LO" if (tag >> 16) & 1 and 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
    return _AMBIGUOUS.get(vr, vr)


def read_whole_header(path: Path, limits: Limits) -> Parsed:
    """Every element before the pixels of one file, as stored.

    Raises
    ------
    Malformed
        If the file is not DICOM, is damaged, or its header is longer than ``limits.header_bytes``.
    """
    with mapped_file(path) as view:
        header = parse(view, limits)
        if header.inflated_from is None and header.offset > limits.header_bytes:
            raise Malformed(f"its header is longer than {limits.header_bytes} bytes")
        return parse(view, limits, WholeWalk)


def read_data_set(data: bytes, limits: Limits) -> Parsed:
    """Every element of a file in memory, such as a message of the network under a head of our own.

    Raises
    ------
    Malformed
        If it is damaged.
    """
    return parse(data, limits, WholeWalk)


def as_json(parsed: Parsed, bulk_uri: Callable[[int], str] | None = None) -> JsonItem:
    """The data set in the DICOM JSON Model; file meta information and group lengths are left out.

    Parameters
    ----------
    bulk_uri
        Where the value of a large binary element of the outermost level can be fetched, by its tag;
        without it large values are left out.
    """
    order = "<" if parsed.little else ">"
    signed = parsed.item.get(0x00280103)
    is_signed = signed is not None and signed.value[:2] == struct.pack(f"{order}H", 1)
    found = _Json(order, is_signed, codec_of(parsed.item)).item(parsed.item, bulk_uri)
    if parsed.pixels is not None:
        tag, vr = {"integer": (0x7FE00010, "OW"), "float": (0x7FE00008, "OF"), "double": (0x7FE00009, "OD")}[
            parsed.pixels
        ]
        found[f"{tag:08X}"] = {"vr": vr} | ({} if bulk_uri is None else {"BulkDataURI": bulk_uri(tag)})
    return found


class _Json:
    """Turns values into JSON in one byte order, signedness and character set."""

    def __init__(self, order: str, signed: bool, codec: str) -> None:
        self.order, self.signed, self.codec = order, signed, codec

    def item(self, item: Item, bulk_uri: Callable[[int], str] | None) -> JsonItem:
        """One data set or item."""
        return {
            f"{tag:08X}": self.element(tag, raw, bulk_uri)
            for tag, raw in sorted(item.items())
            if tag & 0xFFFF and tag >> 16 != 0x0002
        }

    def element(self, tag: int, raw: Raw, bulk_uri: Callable[[int], str] | None) -> dict[str, Any]:
        """One element: its VR, and its value if it has one that can be told."""
        vr = raw.vr.decode("ascii") if raw.vr not in (b"", b"UN") else dictionary_vr(tag)
        if vr == "SQ":
            return {"vr": vr, "Value": [self.item(one, None) for one in raw.items]} if raw.items else {"vr": vr}
        if self.signed and vr == "US" and tag in tags.KIND and tags.KIND[tag] == "x":
            vr = "SS"
        if vr in _BINARY:
            return {"vr": vr} | self._binary(tag, raw.value, bulk_uri)
        values = self.values(vr, raw.value)
        return {"vr": vr, "Value": values} if any(one is not None for one in values) else {"vr": vr}

    def _binary(self, tag: int, value: bytes, bulk_uri: Callable[[int], str] | None) -> dict[str, Any]:
        if not value:
            return {}
        if len(value) <= _INLINE_BYTES:
            return {"InlineBinary": base64.b64encode(value).decode("ascii")}
        return {} if bulk_uri is None else {"BulkDataURI": bulk_uri(tag)}

    def values(self, vr: str, value: bytes) -> list[Any]:
        """The values of an element; what is no number where one belongs is null."""
        if vr in _INTEGERS or vr in _FLOATS:
            code = f"{self.order}{_INTEGERS.get(vr) or _FLOATS[vr]}"
            whole = len(value) - len(value) % struct.calcsize(code)
            numbers = [one[0] for one in struct.iter_unpack(code, value[:whole])]
            return [one if not isinstance(one, float) or math.isfinite(one) else None for one in numbers]
        if vr == "AT":
            pairs = struct.iter_unpack(f"{self.order}HH", value[: len(value) // 4 * 4])
            return [f"{group:04X}{element:04X}" for group, element in pairs]
        text = value.decode(self.codec if vr in _SPECIFIC else "latin-1", "replace").rstrip("\0 ")
        if not text:
            return []
        if vr in _ONE_TEXT:
            return [_clean(text)]
        parts = [_clean(part).strip() for part in text.split("\\")]
        if vr in ("DS", "IS"):
            return [_number(part, whole=vr == "IS") for part in parts]
        return [_name(part) for part in parts] if vr == "PN" else [part or None for part in parts]


_SPECIFIC: Final = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))  # PS3.5 6.1.2.2


def _clean(text: str) -> str:
    """Without control characters but line ends and tabs."""
    return "".join(c for c in text if c.isprintable() or c in "\r\n\t\f")


def _number(text: str, *, whole: bool) -> float | int | None:
    try:
        number = float(text)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    return int(number) if whole and number.is_integer() else number


def _name(text: str) -> dict[str, str] | None:
    """A person name by its component groups (PS3.18 F.2.2)."""
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
    return {group: part for group, part in groups if part} or None
