"""The requestor's side of an association, on one blocking socket (PS3.8 section 9.2).

It starts no thread and leaves no socket behind whatever the peer does: a destination may be down
for days, and is tried all that time. Every wait has an end.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Final, Self

from hounsfield.network import dimse, pdu
from hounsfield.network.destinations import Destination
from hounsfield.network.pdu import BadPdu, DataValue, OfferedContext

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
        Pairs of SOP class and transfer syntax: one presentation context for each. Or of SOP class and
        several syntaxes, of which the peer chooses one.
    scp_roles
        SOP classes for which this side wants to be the provider.
    tls
        Context of a TLS client, ``None`` for plain TCP.

    Raises
    ------
    PeerFailed
        If there is no association.
    """

    def __init__(
        self,
        destination: Destination,
        wanted: Sequence[tuple[str, str | tuple[str, ...]]],
        tls: ssl.SSLContext | None = None,
        scp_roles: tuple[str, ...] = (),
    ) -> None:
        self._patience_s = destination.timeout_s
        self._message = 0
        self._offered = {2 * n + 1: pair for n, pair in enumerate(dict.fromkeys(wanted))}
        self._values: list[DataValue] = []
        self._plug = _connected(destination, tls)
        self.is_open = True
        try:
            self._accepted, longest = self._associate(destination, scp_roles)
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

    def accepted(self, context: int) -> tuple[str, str]:
        """SOP class and transfer syntax of an accepted context."""
        return self._offered[context][0], self._accepted[context]

    def any_context(self, sop_class_uid: str) -> int | None:
        """Number of an accepted context for a SOP class, whatever its transfer syntax."""
        return next((n for n, pair in self._offered.items() if pair[0] == sop_class_uid and n in self._accepted), None)

    def ask(self, context: int, command: dimse.Command, data: Iterator[bytes] | None = None) -> dict[int, str | int]:
        """Send a request, with a data set if there is one, and wait for its answer.

        Raises
        ------
        PeerFailed
            If none came; the association is over then.
        """
        number = self.tell(context, command, data)
        while True:
            _, said = self.hear()
            if said[dimse.DATA_SET_TYPE] != dimse.NO_DATA_SET:
                for _ in self.data():
                    pass  # no answer that is asked for here has a data set
            if said.get(dimse.ANSWERED_MESSAGE_ID) != number or dimse.STATUS not in said:
                self.is_open = False
                raise PeerFailed("the answer is to something else")
            return said

    def tell(self, context: int, command: dimse.Command, data: Iterator[bytes] | None = None) -> int:
        """Send a request, with a data set if there is one; its message number.

        Raises
        ------
        PeerFailed
            If the connection is lost; the association is over then.
        """
        self._message = self._message % 65535 + 1
        kind = dimse.NO_DATA_SET if data is None else 1
        asked = {**command, dimse.MESSAGE_ID: self._message, dimse.DATA_SET_TYPE: kind}
        with self._association_ends():
            self.say(context, dimse.encode_command(asked))
            if data is not None:
                self._send_data(context, data)
        return self._message

    def say(self, context: int, encoded: bytes) -> None:
        """Send an encoded command, such as the answer to a request of the peer."""
        with self._association_ends():
            self._plug.sendall(pdu.data(context, encoded, is_command=True, longest=self._longest))

    def hear(self) -> tuple[int, dict[int, str | int]]:
        """The next command and its presentation context; if it has a data set, read :meth:`data` next.

        Raises
        ------
        PeerFailed
            If none came; the association is over then.
        """
        collected = b""
        with self._association_ends():
            while True:
                value = self._value()
                if not value.is_command:
                    continue  # the rest of a data set that nobody wanted
                collected += value.fragment
                if len(collected) > _MOST_COMMAND:
                    raise PeerFailed("the answer has no end")
                if value.is_last:
                    return value.context, dimse.parse_command(collected)

    def data(self) -> Iterator[memoryview]:
        """The fragments of the data set that follows a command.

        Raises
        ------
        PeerFailed
            If it does not come to its end; the association is over then.
        """
        with self._association_ends():
            while True:
                value = self._value()
                if value.is_command:
                    raise PeerFailed("a data set was cut by a command")
                yield value.fragment
                if value.is_last:
                    return

    @contextmanager
    def _association_ends(self) -> Iterator[None]:
        """What goes wrong inside ends the association, and is told in our own words."""
        try:
            yield
        except OSError as error:
            self.is_open = False
            raise PeerFailed(f"the connection was lost ({_word(error)})") from error
        except (PeerFailed, dimse.BadCommand, BadPdu) as error:
            self.is_open = False
            raise PeerFailed(str(error)) from error

    def _value(self) -> DataValue:
        while not self._values:
            kind, body = self._read()
            if kind != pdu.P_DATA_TF:
                raise PeerFailed("the peer aborted the association" if kind == pdu.ABORT else "no answer came")
            self._values = list(pdu.values_of(body))[::-1]
        return self._values.pop()

    def _send_data(self, context: int, data: Iterator[bytes]) -> None:
        """A data set in fragments; only the last one is marked so."""
        waiting = next(data, b"")
        for following in data:
            self._plug.sendall(pdu.data(context, waiting, is_command=False, longest=self._longest, is_last=False))
            waiting = following
        self._plug.sendall(pdu.data(context, waiting, is_command=False, longest=self._longest))

    def _associate(self, destination: Destination, scp_roles: tuple[str, ...]) -> tuple[dict[int, str], int]:
        contexts = tuple(
            OfferedContext(n, uid, (syntaxes,) if isinstance(syntaxes, str) else syntaxes)
            for n, (uid, syntaxes) in self._offered.items()
        )
        titles = (destination.ae_title, destination.own_ae_title)
        try:
            self._plug.sendall(pdu.request(*titles, contexts, PDU_BYTES, scp_roles))
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
