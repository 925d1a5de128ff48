"""The head of a DICOM file around a data set as it came over the network (PS3.10 section 7.1)."""

from __future__ import annotations

import struct

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


def _uid(element: int, uid: str) -> bytes:
    raw = uid.encode("ascii")
    return _short(element, b"UI", raw + b"\0" * (len(raw) % 2))


def _short(element: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", 0x0002, element, vr, len(value)) + value


def _long(element: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2s2xL", 0x0002, element, vr, len(value)) + value
