"""The requestor's side of an association, on one blocking socket (PS3.8 section 9.2).

It starts no thread and leaves no socket behind whatever the peer does: a destination may be down
for days, and is tried all that time. Every wait has an end.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from hounsfield.network import dimse, pdu
from hounsfield.network.destinations import Destination
from hounsfield.network.pdu import BadPdu, OfferedContext

PDU_BYTES: Final = 131072
_MOST_COMMAND: Final = 65536
_CONNECT_S: Final = 10.0
_RELEASE_S: Final = 2.0


class PeerFailed(Exception):
    """A peer was not there, refused, went away, or answered nonsense; the text is ours alone."""


class Requestor:
    """An association with a destination; a context manager.

    Parameters
    ----------
    wanted
        Pairs of SOP class and transfer syntax: one presentation context for each.
    tls
        Context of a TLS client, ``None`` for plain TCP.

    Raises
    ------
    PeerFailed
        If there is no association.
    """

    def __init__(
        self, destination: Destination, wanted: Sequence[tuple[str, str]], tls: ssl.SSLContext | None = None
    ) -> None:
        self._patience_s = destination.timeout_s
        self._message = 0
        self._offered = {2 * n + 1: pair for n, pair in enumerate(dict.fromkeys(wanted))}
        self._plug = _connected(destination, tls)
        self.is_open = True
        try:
            self._accepted, longest = self._associate(destination)
        except BaseException:
            self._plug.close()
            raise
        self._longest = min(longest or PDU_BYTES, PDU_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError, PeerFailed):
            if self.is_open and kind is None:
                self._patience_s = _RELEASE_S
                self._plug.sendall(pdu.release_request())
                self._read()
            elif self.is_open:
                self._plug.sendall(pdu.abort())
        self.is_open = False
        self._plug.close()

    def context(self, sop_class_uid: str, transfer_syntax_uid: str) -> int | None:
        """Number of the accepted context for a pair."""
        pair = (sop_class_uid, transfer_syntax_uid)
        return next((n for n, offered in self._offered.items() if offered == pair and n in self._accepted), None)

    def ask(self, context: int, command: dimse.Command, data: Iterator[bytes] | None = None) -> dict[int, str | int]:
        """Send a request, with a data set if there is one, and wait for its answer.

        Raises
        ------
        PeerFailed
            If none came; the association is over then.
        """
        self._message = self._message % 65535 + 1
        kind = dimse.NO_DATA_SET if data is None else 1
        asked = {**command, dimse.MESSAGE_ID: self._message, dimse.DATA_SET_TYPE: kind}
        try:
            encoded = dimse.encode_command(asked)
            self._plug.sendall(pdu.data(context, encoded, is_command=True, longest=self._longest))
            if data is not None:
                self._send_data(context, data)
            return self._answer()
        except OSError as error:
            self.is_open = False
            raise PeerFailed(f"the connection was lost ({_word(error)})") from error
        except (PeerFailed, dimse.BadCommand, BadPdu) as error:
            self.is_open = False
            raise PeerFailed(str(error)) from error

    def _send_data(self, context: int, data: Iterator[bytes]) -> None:
        """A data set in fragments; only the last one is marked so."""
        waiting = next(data, b"")
        for following in data:
            self._plug.sendall(pdu.data(context, waiting, is_command=False, longest=self._longest, is_last=False))
            waiting = following
        self._plug.sendall(pdu.data(context, waiting, is_command=False, longest=self._longest))

    def _answer(self) -> dict[int, str | int]:
        collected = b""
        while True:
            kind, body = self._read()
            if kind != pdu.P_DATA_TF:
                raise PeerFailed("the peer aborted the association" if kind == pdu.ABORT else "no answer came")
            for value in pdu.values_of(body):
                if not value.is_command:
                    continue  # no answer that is asked for here has a data set
                collected += value.fragment
                if len(collected) > _MOST_COMMAND:
                    raise PeerFailed("the answer has no end")
                if value.is_last:
                    answer = dimse.parse_command(collected)
                    if answer.get(dimse.ANSWERED_MESSAGE_ID) != self._message or dimse.STATUS not in answer:
                        raise PeerFailed("the answer is to something else")
                    return answer

    def _associate(self, destination: Destination) -> tuple[dict[int, str], int]:
        contexts = tuple(OfferedContext(n, pair[0], (pair[1],)) for n, pair in self._offered.items())
        try:
            self._plug.sendall(pdu.request(destination.ae_title, destination.own_ae_title, contexts, PDU_BYTES))
            kind, body = self._read()
        except OSError as error:
            raise PeerFailed(f"the connection was lost ({_word(error)})") from error
        if kind == pdu.ASSOCIATE_RJ and len(body) == 4:
            raise PeerFailed(f"the peer rejected the association ({body[1]}/{body[2]}/{body[3]})")
        if kind != pdu.ASSOCIATE_AC:
            raise PeerFailed("the peer aborted the association")
        try:
            return pdu.parse_accept(body)
        except BadPdu as error:
            raise PeerFailed(str(error)) from error

    def _read(self) -> tuple[int, bytes]:
        end = time.monotonic() + self._patience_s
        kind, length = pdu.parse_head(self._exactly(6, end))
        if kind not in range(1, 8) or length > PDU_BYTES + 12:
            raise PeerFailed("the peer sent something that is no PDU")
        return kind, self._exactly(length, end)

    def _exactly(self, count: int, end: float) -> bytes:
        got = bytearray()
        while len(got) < count:
            self._plug.settimeout(max(0.01, end - time.monotonic()))
            block = self._plug.recv(count - len(got))
            if not block:
                raise PeerFailed("the peer closed the connection")
            got += block
        self._plug.settimeout(self._patience_s)
        return bytes(got)


def _connected(destination: Destination, tls: ssl.SSLContext | None) -> socket.socket:
    patience = min(_CONNECT_S, destination.timeout_s)
    try:
        plug = socket.create_connection((destination.host, destination.port), timeout=patience)
    except OSError as error:
        raise PeerFailed(f"no connection ({_word(error)})") from error
    try:
        plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            plug = tls.wrap_socket(plug, server_hostname=destination.host)
    except (OSError, ValueError) as error:
        plug.close()
        raise PeerFailed(f"no secure connection ({_word(error)})") from error
    plug.settimeout(destination.timeout_s)
    return plug


def _word(error: Exception) -> str:
    """The system's own word for an error: no address, no name."""
    return getattr(error, "strerror", None) or type(error).__name__
