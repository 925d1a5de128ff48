"""The head of a DICOM file around a data set as it came over the network (PS3.10 section 7.1)."""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path

from hounsfield.network.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def file_head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble of zeros, ``DICM``, and file meta information.

    It depends on nothing but its arguments, so that the same object always gives the same file,
    from whomever it came, whenever.
    """
    meta = _long(0x0001, b"OB", b"\0\1")
    meta += _uid(0x0002, sop_class_uid) + _uid(0x0003, sop_instance_uid) + _uid(0x0010, transfer_syntax_uid)
    meta += _uid(0x0012, IMPLEMENTATION_CLASS_UID) + _short(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode())
    return bytes(128) + b"DICM" + _short(0x0000, b"UL", struct.pack("<L", len(meta))) + meta


@lru_cache(maxsize=64)
def _uid(element: int, uid: str) -> bytes:
    raw = uid.encode("ascii")
    return _short(element, b"UI", raw + b"\0" * (len(raw) % 2))


def _short(element: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", 0x0002, element, vr, len(value)) + value


def _long(element: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2s2xL", 0x0002, element, vr, len(value)) + value


def data_set_start(path: Path) -> int:
    """Where the data set of a DICOM file begins: after preamble and group 0002, bytes."""
    with path.open("rb") as stream:
        position = 132 if stream.read(132)[128:132] == b"DICM" else 0
        while True:
            stream.seek(position)
            first = stream.read(12)
            if len(first) < 8 or first[:2] != b"\x02\x00":
                return position
            long = first[4:6] in (b"OB", b"UN", b"OW", b"UT", b"SQ")
            length = int.from_bytes(first[8:12] if long else first[6:8], "little")
            position += (12 if long else 8) + length
