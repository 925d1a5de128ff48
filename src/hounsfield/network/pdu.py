"""The protocol data units of the DICOM upper layer, acceptor's side (PS3.8 section 9.3).

Nothing that a peer says is trusted: every length is checked against what is there, items are
counted, and what does not follow the standard raises :class:`BadPdu` with one plain sentence.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hounsfield.network.identity import APPLICATION_CONTEXT, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from hounsfield.network.uids import is_uid

ASSOCIATE_RQ: Final = 0x01
ASSOCIATE_AC: Final = 0x02
ASSOCIATE_RJ: Final = 0x03
P_DATA_TF: Final = 0x04
RELEASE_RQ: Final = 0x05
RELEASE_RP: Final = 0x06
ABORT: Final = 0x07

_HEAD: Final = struct.Struct(">BBL")
_ITEM: Final = struct.Struct(">BBH")
_MOST_CONTEXTS: Final = 128
_MOST_SYNTAXES: Final = 256

#: results of a presentation context (PS3.8 table 9-18)
ACCEPTED: Final = 0
NO_ABSTRACT_SYNTAX: Final = 3
NO_TRANSFER_SYNTAX: Final = 4


class BadPdu(ValueError):
    """The bytes are no PDU that may come here."""


@dataclass(frozen=True)
class OfferedContext:
    """A presentation context as the requestor offers it."""

    number: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True)
class AssociateRequest:
    """An A-ASSOCIATE-RQ (PS3.8 table 9-11).

    Parameters
    ----------
    maximum_length
        Longest P-DATA-TF that the requestor takes, bytes; 0 means no limit.
    scp_roles
        Abstract syntaxes for which the requestor offers to be SCP (PS3.7 D.3.3.4).
    """

    called_ae: str
    calling_ae: str
    contexts: tuple[OfferedContext, ...]
    maximum_length: int
    scp_roles: tuple[str, ...] = ()


@dataclass(frozen=True)
class AnsweredContext:
    """The acceptor's answer to one presentation context."""

    number: int
    result: int
    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True)
class DataValue:
    """One presentation data value: a fragment of a command or of a data set (PS3.8 annex E.2)."""

    context: int
    is_command: bool
    is_last: bool
    fragment: memoryview


def parse_associate(body: bytes) -> AssociateRequest:
    """Parse what follows the six bytes of an A-ASSOCIATE-RQ's head.

    Raises
    ------
    BadPdu
        If it does not follow the standard.
    """
    if len(body) < 68:
        raise BadPdu("the A-ASSOCIATE-RQ is too short")
    if not struct.unpack_from(">H", body)[0] & 1:
        raise BadPdu("protocol version 1 is not offered")
    contexts: list[OfferedContext] = []
    maximum, application = 0, ""
    roles: list[str] = []
    for kind, value in _items(body[68:]):
        if kind == 0x10:
            application = _uid(value)
        elif kind == 0x20:
            contexts.append(_context(value))
            if len(contexts) > _MOST_CONTEXTS:
                raise BadPdu("there are more than 128 presentation contexts")
        elif kind == 0x50:
            maximum, roles = _user_information(value)
    if application != APPLICATION_CONTEXT:
        raise BadPdu("the application context is not DICOM's")
    if not contexts or len({one.number for one in contexts}) != len(contexts):
        raise BadPdu("presentation contexts are missing, or two have one number")
    return AssociateRequest(_title(body[4:20]), _title(body[20:36]), tuple(contexts), maximum, tuple(roles))


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        if position + 4 > len(data):
            raise BadPdu("an item is cut")
        kind, _, length = _ITEM.unpack_from(data, position)
        position += 4
        if position + length > len(data):
            raise BadPdu("an item is longer than what is left")
        yield kind, data[position : position + length]
        position += length


def _context(value: bytes) -> OfferedContext:
    if len(value) < 4:
        raise BadPdu("a presentation context is cut")
    number, abstract = value[0], ""
    transfers: list[str] = []
    if not number & 1:
        raise BadPdu("a presentation context has an even number")
    for kind, item in _items(value[4:]):
        if kind == 0x30:
            abstract = _uid(item)
        elif kind == 0x40 and len(transfers) < _MOST_SYNTAXES:
            transfers.append(_uid(item))
    if not abstract or not transfers:
        raise BadPdu("a presentation context has no abstract or no transfer syntax")
    return OfferedContext(number, abstract, tuple(transfers))


def _user_information(value: bytes) -> tuple[int, list[str]]:
    maximum = 0
    roles: list[str] = []
    for kind, item in _items(value):
        if kind == 0x51:
            if len(item) != 4:
                raise BadPdu("the maximum length has not four bytes")
            maximum = struct.unpack(">L", item)[0]
        elif kind == 0x54 and len(item) >= 4:
            length = struct.unpack_from(">H", item)[0]
            if length + 4 == len(item) and item[-1]:
                roles.append(_uid(item[2 : 2 + length]))
    return maximum, roles


def _uid(value: bytes) -> str:
    text = value.rstrip(b"\0 ").decode("ascii", "replace")
    if not is_uid(text):
        raise BadPdu("an identifier in the association request is no UID")
    return text


def _title(value: bytes) -> str:
    """An AE title: at most 16 printable ASCII characters (PS3.5 table 6.2-1, AE)."""
    text = value.decode("ascii", "replace").strip(" \0")
    if not text or not text.isascii() or not text.isprintable() or "\\" in text:
        raise BadPdu("an AE title is empty or holds characters that it must not")
    return text


def values_of(body: bytes | memoryview) -> Iterator[DataValue]:
    """The presentation data values of a P-DATA-TF.

    Raises
    ------
    BadPdu
        If lengths do not fit.
    """
    view, position = memoryview(body), 0
    if not body:
        raise BadPdu("a P-DATA-TF is empty")
    while position < len(body):
        if position + 6 > len(body):
            raise BadPdu("a presentation data value is cut")
        length = struct.unpack_from(">L", body, position)[0]
        end = position + 4 + length
        if length < 2 or end > len(body):
            raise BadPdu("a presentation data value is longer than its PDU")
        context, control = body[position + 4], body[position + 5]
        yield DataValue(context, bool(control & 1), bool(control & 2), view[position + 6 : end])
        position = end


def head(kind: int, length: int) -> bytes:
    """The six bytes before every PDU."""
    return _HEAD.pack(kind, 0, length)


def parse_head(data: bytes | memoryview) -> tuple[int, int]:
    """(type, length) of the PDU that follows."""
    kind, _, length = _HEAD.unpack(data)
    return kind, length


def accept(request: AssociateRequest, contexts: tuple[AnsweredContext, ...], maximum_length: int) -> bytes:
    """An A-ASSOCIATE-AC (PS3.8 table 9-17)."""
    fixed = struct.pack(">H2x16s16s32x", 1, _padded(request.called_ae), _padded(request.calling_ae))
    body = fixed + _item(0x10, APPLICATION_CONTEXT.encode())
    for one in contexts:
        transfer = _item(0x40, one.transfer_syntax.encode())
        body += _item(0x21, struct.pack(">BBBB", one.number, 0, one.result, 0) + transfer)
    user = _item(0x51, struct.pack(">L", maximum_length))
    user += _item(0x52, IMPLEMENTATION_CLASS_UID.encode()) + _item(0x55, IMPLEMENTATION_VERSION_NAME.encode())
    body += _item(0x50, user)
    return head(ASSOCIATE_AC, len(body)) + body


def _padded(title: str) -> bytes:
    return title.encode("ascii").ljust(16)


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, 0, len(value)) + value


def reject(result: int, source: int, reason: int) -> bytes:
    """An A-ASSOCIATE-RJ (PS3.8 table 9-21)."""
    return head(ASSOCIATE_RJ, 4) + struct.pack(">BBBB", 0, result, source, reason)


def release_reply() -> bytes:
    """An A-RELEASE-RP."""
    return head(RELEASE_RP, 4) + bytes(4)


def abort(reason: int = 0) -> bytes:
    """An A-ABORT by the service provider (PS3.8 table 9-26)."""
    return head(ABORT, 4) + struct.pack(">BBBB", 0, 0, 2, reason)


def data(context: int, fragment: bytes, *, is_command: bool, longest: int, is_last: bool = True) -> bytes:
    """P-DATA-TFs with a command or data set, or a part of one, in fragments that the peer takes.

    Parameters
    ----------
    longest
        The peer's maximum length, bytes; 0 means no limit.
    is_last
        Whether the command or data set ends here.
    """
    room = (longest or 1 << 17) - 6
    pieces = [fragment[start : start + room] for start in range(0, max(1, len(fragment)), room)]
    out = b""
    for number, piece in enumerate(pieces, 1):
        control = (1 if is_command else 0) | (2 if is_last and number == len(pieces) else 0)
        value = struct.pack(">LBB", len(piece) + 2, context, control) + piece
        out += head(P_DATA_TF, len(value)) + value
    return out


def request(
    called_ae: str,
    calling_ae: str,
    contexts: tuple[OfferedContext, ...],
    maximum_length: int,
    scp_roles: tuple[str, ...] = (),
) -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 table 9-11).

    Parameters
    ----------
    scp_roles
        Abstract syntaxes for which the requestor wants to be SCP and not SCU (PS3.7 D.3.3.4).
    """
    body = struct.pack(">H2x16s16s32x", 1, _padded(called_ae), _padded(calling_ae))
    body += _item(0x10, APPLICATION_CONTEXT.encode())
    for one in contexts:
        syntaxes = _item(0x30, one.abstract_syntax.encode())
        syntaxes += b"".join(_item(0x40, uid.encode()) for uid in one.transfer_syntaxes)
        body += _item(0x20, struct.pack(">BBBB", one.number, 0, 0, 0) + syntaxes)
    user = _item(0x51, struct.pack(">L", maximum_length))
    user += _item(0x52, IMPLEMENTATION_CLASS_UID.encode())
    user += b"".join(_item(0x54, struct.pack(">H", len(uid)) + uid.encode() + b"\0\1") for uid in scp_roles)
    user += _item(0x55, IMPLEMENTATION_VERSION_NAME.encode())
    body += _item(0x50, user)
    return head(ASSOCIATE_RQ, len(body)) + body


def parse_accept(body: bytes) -> tuple[dict[int, str], int]:
    """Of an A-ASSOCIATE-AC: accepted contexts with their transfer syntax, and the peer's maximum length.

    Raises
    ------
    BadPdu
        If it does not follow the standard.
    """
    if len(body) < 68:
        raise BadPdu("the A-ASSOCIATE-AC is too short")
    accepted: dict[int, str] = {}
    maximum = 0
    for kind, value in _items(body[68:]):
        if kind == 0x21 and len(value) >= 4 and value[2] == ACCEPTED:
            transfers = [_uid(item) for inner, item in _items(value[4:]) if inner == 0x40]
            if transfers:
                accepted[value[0]] = transfers[0]
        elif kind == 0x50:
            maximum, _ = _user_information(value)
    return accepted, maximum


def release_request() -> bytes:
    """An A-RELEASE-RQ."""
    return head(RELEASE_RQ, 4) + bytes(4)
