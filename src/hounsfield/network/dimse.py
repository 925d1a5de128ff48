"""Command sets of DIMSE messages (PS3.7 section 6.3 and annex E): always implicit little endian."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

C_STORE_RQ: Final = 0x0001
C_GET_RQ: Final = 0x0010
C_FIND_RQ: Final = 0x0020
C_MOVE_RQ: Final = 0x0021
C_ECHO_RQ: Final = 0x0030
N_EVENT_REPORT_RQ: Final = 0x0100
N_ACTION_RQ: Final = 0x0130
C_CANCEL_RQ: Final = 0x0FFF
RESPONSE: Final = 0x8000
NO_DATA_SET: Final = 0x0101

SUCCESS: Final = 0x0000
PENDING: Final = (0xFF00, 0xFF01)
PROCESSING_FAILURE: Final = 0x0110
INVALID_ARGUMENT: Final = 0x0115
NO_SUCH_INSTANCE: Final = 0x0112
CLASS_INSTANCE_CONFLICT: Final = 0x0119
OUT_OF_RESOURCES: Final = 0xA700
DOES_NOT_MATCH_CLASS: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000
TOO_LARGE: Final = 0xC002
INVALID_INSTANCE: Final = 0x0117
CLASS_NOT_SUPPORTED: Final = 0x0122
UNRECOGNISED_OPERATION: Final = 0x0211

_TEXTS: Final = {0x0002: "UI", 0x0003: "UI", 0x0600: "AE", 0x0902: "LO", 0x1000: "UI", 0x1001: "UI", 0x1030: "AE"}
_NUMBERS: Final = frozenset(
    (0x0100, 0x0110, 0x0120, 0x0700, 0x0800, 0x0900, 0x1002, 0x1008, 0x1020, 0x1021, 0x1022, 0x1023, 0x1031)
)

AFFECTED_CLASS: Final = 0x0002
REQUESTED_CLASS: Final = 0x0003
FIELD: Final = 0x0100
MESSAGE_ID: Final = 0x0110
ANSWERED_MESSAGE_ID: Final = 0x0120
DATA_SET_TYPE: Final = 0x0800
STATUS: Final = 0x0900
ERROR_COMMENT: Final = 0x0902
PRIORITY: Final = 0x0700
MOVE_DESTINATION: Final = 0x0600
AFFECTED_INSTANCE: Final = 0x1000
REQUESTED_INSTANCE: Final = 0x1001
EVENT_TYPE: Final = 0x1002
ACTION_TYPE: Final = 0x1008
REMAINING: Final = 0x1020
COMPLETED: Final = 0x1021
FAILED: Final = 0x1022
WARNED: Final = 0x1023

Command = Mapping[int, str | int]


class BadCommand(ValueError):
    """The bytes are no command set."""


def parse_command(data: bytes) -> dict[int, str | int]:
    """The elements of a command set that this node looks at, by element number of group 0000.

    Raises
    ------
    BadCommand
        If an element is cut, of another group, or a number has not two bytes.
    """
    found: dict[int, str | int] = {}
    position = 0
    while position < len(data):
        if position + 8 > len(data):
            raise BadCommand("a command element is cut")
        group, element, length = struct.unpack_from("<HHL", data, position)
        position += 8
        if group != 0 or position + length > len(data):
            raise BadCommand("a command element is of another group, or longer than what is left")
        value = data[position : position + length]
        position += length
        if element in _TEXTS:
            found[element] = value.decode("ascii", "replace").strip(" \0")
        elif element in _NUMBERS:
            if length != 2:
                raise BadCommand("a command number has not two bytes")
            found[element] = struct.unpack("<H", value)[0]
    if not {FIELD, DATA_SET_TYPE} <= found.keys():
        raise BadCommand("the command says not what it is")
    return found


def encode_command(elements: Command) -> bytes:
    """A command set with its group length."""
    body = b""
    for element, value in sorted(elements.items()):
        raw = struct.pack("<H", value) if isinstance(value, int) else _text(element, value)
        body += struct.pack("<HHL", 0, element, len(raw)) + raw
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def _text(element: int, value: str) -> bytes:
    raw = value.encode("ascii", "replace")
    padding = b"\0" if _TEXTS[element] == "UI" else b" "
    return raw + padding * (len(raw) % 2)


def answer(request: Command, status: int, comment: str = "", *, has_data: bool = False) -> bytes:
    """The response to a request, with its SOP class and instance where it names them.

    Parameters
    ----------
    has_data
        Whether a data set follows.
    comment
        Why, in at most 64 plain characters; never a value from the data set (PS3.7 C.1).
    """
    elements: dict[int, str | int] = {
        FIELD: int(request[FIELD]) | RESPONSE,
        ANSWERED_MESSAGE_ID: request.get(MESSAGE_ID, 0),
        DATA_SET_TYPE: 1 if has_data else NO_DATA_SET,
        STATUS: status,
    }
    for asked, told in ((AFFECTED_CLASS, AFFECTED_CLASS), (AFFECTED_INSTANCE, AFFECTED_INSTANCE)):
        if asked in request:
            elements[told] = request[asked]
    if REQUESTED_CLASS in request:
        elements[AFFECTED_CLASS] = request[REQUESTED_CLASS]
        elements[AFFECTED_INSTANCE] = request.get(REQUESTED_INSTANCE, "")
        elements[ACTION_TYPE] = request.get(ACTION_TYPE, 0)
    if comment:
        elements[ERROR_COMMENT] = comment[:64]
    return encode_command(elements)
