"""A storage SCU on a bare socket: it knows exactly which answer came, and leaves nothing behind.

That other implementations can talk to the node is shown elsewhere, with dcmtk, Orthanc and
pynetdicom; here the point is the ledger.
"""

from __future__ import annotations

import io
import socket
import struct
from types import TracebackType
from typing import Self

from pydicom import FileDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

VERIFICATION = "1.2.840.10008.1.1"
MR = "1.2.840.10008.5.1.4.1.1.4"


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def associate_rq(
    called: str = "HOUNSFIELD", calling: str = "SENDER", classes: tuple[str, ...] = (CTImageStorage, VERIFICATION)
) -> bytes:
    """A whole A-ASSOCIATE-RQ; contexts are numbered 1, 3, 5 ..."""
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode())
    body += item(0x10, b"1.2.840.10008.3.1.1.1")
    for number, uid in enumerate(classes):
        syntaxes = item(0x30, uid.encode()) + item(0x40, ExplicitVRLittleEndian.encode())
        body += item(0x20, struct.pack(">BBBB", 2 * number + 1, 0, 0, 0) + syntaxes)
    body += item(0x50, item(0x51, struct.pack(">L", 65536)) + item(0x52, b"2.25.1"))
    return struct.pack(">BBL", 1, 0, len(body)) + body


def command(elements: dict[int, str | int]) -> bytes:
    """A command set with its group length."""
    body = b""
    for element, value in sorted(elements.items()):
        raw = struct.pack("<H", value) if isinstance(value, int) else value.encode()
        raw += b"\0" * (len(raw) % 2)
        body += struct.pack("<HHL", 0, element, len(raw)) + raw
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def p_data(context: int, data: bytes, *, is_command: bool, longest: int = 16384) -> bytes:
    """P-DATA-TFs with a whole message part."""
    out = b""
    for start in range(0, max(1, len(data)), longest):
        piece = data[start : start + longest]
        control = (1 if is_command else 0) | (2 if start + longest >= len(data) else 0)
        value = struct.pack(">LBB", len(piece) + 2, context, control) + piece
        out += struct.pack(">BBL", 4, 0, len(value)) + value
    return out


def data_set(found: FileDataset) -> bytes:
    """The data set without file meta information, explicit little endian."""
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, False
    write_dataset(stream, found)
    return stream.getvalue()


class Scu:
    """One association; every error of the connection is an OSError."""

    def __init__(self, port: int, *, timeout: float = 20.0, sop_class: str = CTImageStorage) -> None:
        self._plug = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._message, self._class = 0, sop_class
        try:
            self._plug.sendall(associate_rq(classes=(sop_class, VERIFICATION)))
            kind, _ = self._pdu()
            if kind != 2:
                raise ConnectionError(f"not accepted: PDU type {kind}")
        except BaseException:
            self._plug.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._plug.sendall(struct.pack(">BBL4x", 5, 0, 4))
                self._pdu()
        finally:
            self._plug.close()

    def echo(self) -> int:
        """C-ECHO; the status."""
        rq = {0x0002: VERIFICATION, 0x0100: 0x0030, 0x0110: self._next(), 0x0800: 0x0101}
        self._plug.sendall(p_data(3, command(rq), is_command=True))
        return self._status()

    def store(self, found: FileDataset, *, uid: str = "") -> int:
        """C-STORE; the status."""
        return self.store_bytes(uid or str(found.SOPInstanceUID), data_set(found))

    def store_bytes(self, uid: str, data: bytes) -> int:
        """C-STORE of any bytes under this UID; the status."""
        rq = {0x0002: self._class, 0x0100: 0x0001, 0x0110: self._next(), 0x0700: 0, 0x0800: 1, 0x1000: uid}
        self._plug.sendall(p_data(1, command(rq), is_command=True) + p_data(1, data, is_command=False))
        return self._status()

    def _next(self) -> int:
        self._message = self._message % 60000 + 1
        return self._message

    def _status(self) -> int:
        kind, body = self._pdu()
        if kind != 4:
            raise ConnectionError(f"no answer: PDU type {kind}")
        elements, position = {}, 6
        while position < len(body):
            _, element, length = struct.unpack_from("<HHL", body, position)
            elements[element] = body[position + 8 : position + 8 + length]
            position += 8 + length
        assert elements[0x0120] == struct.pack("<H", self._message), "an answer to another message"
        return int(struct.unpack("<H", elements[0x0900])[0])

    def _pdu(self) -> tuple[int, bytes]:
        kind, _, length = struct.unpack(">BBL", self._exactly(6))
        return kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        stream = io.BytesIO()
        while stream.tell() < count:
            block = self._plug.recv(count - stream.tell())
            if not block:
                raise ConnectionError("the peer went away")
            stream.write(block)
        return stream.getvalue()
