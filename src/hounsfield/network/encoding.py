"""Small data sets onto the wire: from the DICOM JSON Model (PS3.18 annex F) to little endian bytes (PS3.5 7)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
_LONG: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"))
_NUMBERS: Final = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}
JsonItem = Mapping[str, Mapping[str, Any]]


def encode_item(item: JsonItem, transfer_syntax_uid: str) -> bytes:
    """A data set of texts, numbers and sequences, in tag order, texts in UTF-8.

    The data set should say so: Specific Character Set ``ISO_IR 192``.
    """
    explicit = transfer_syntax_uid != IMPLICIT_LITTLE
    return b"".join(_element(tag, item[tag], explicit) for tag in sorted(item))


def _element(tag: str, element: Mapping[str, Any], explicit: bool) -> bytes:
    vr, values = str(element["vr"]), element.get("Value", [])
    head = struct.pack("<HH", int(tag[:4], 16), int(tag[4:], 16))
    if vr == "SQ":
        value = b"".join(_item(one, explicit) for one in values)
    elif vr in _NUMBERS:
        value = struct.pack(f"<{len(values)}{_NUMBERS[vr]}", *values)
    elif vr == "AT":
        value = b"".join(struct.pack("<HH", int(one[:4], 16), int(one[4:], 16)) for one in values)
    else:
        raw = "\\".join(_text(one) for one in values).encode("utf-8")
        value = raw + (b"\0" if vr == "UI" else b" ") * (len(raw) % 2)
    if not explicit:
        return head + struct.pack("<L", len(value)) + value
    if vr in _LONG:
        return head + vr.encode("ascii") + struct.pack("<2xL", len(value)) + value
    return head + vr.encode("ascii") + struct.pack("<H", min(len(value), 0xFFFE)) + value[:0xFFFE]


def _item(item: JsonItem, explicit: bool) -> bytes:
    value = encode_item(item, "" if explicit else IMPLICIT_LITTLE)
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(value)) + value


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        groups = [str(value.get(name, "")) for name in ("Alphabetic", "Ideographic", "Phonetic")]
        return "=".join(groups).rstrip("=")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)[:16] if isinstance(value, float) else str(value)
