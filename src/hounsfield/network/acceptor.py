"""The acceptor's side of DICOM associations: C-ECHO and C-STORE as SCP (PS3.8 section 9.2, PS3.7).

One process serves all peers by waiting for all of them at once (asyncio): a silent socket costs a
few kilobytes and holds up nobody. Type and length of a PDU are checked before it is read, a data
set goes to a file as it comes, and an answer is given only after the keeper has answered.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hounsfield.network import pdu
from hounsfield.network.association import Association
from hounsfield.network.identity import FIND, PATIENT_ROOT, STORAGE_COMMITMENT, STUDY_ROOT
from hounsfield.network.limits import NodeLimits
from hounsfield.network.link import Link
from hounsfield.network.negotiation import negotiate
from hounsfield.network.pdu import BadPdu
from hounsfield.network.received import Admit, Answer, AssociationRecord, Keep, Rejection

_BUSY = Rejection(2, 3, 2, "too many associations")


def _anyone(calling: str, called: str, host: str) -> Rejection | None:
    return None


def _nobody_listens(record: AssociationRecord) -> None:
    return None


#: (calling AE, data set of the N-ACTION, transfer syntax) -> DIMSE status
OnCommitment = Callable[[str, bytes, str], Awaitable[int]]

#: (calling AE, SOP class, data set of the C-FIND, transfer syntax) -> the last status, and data sets
#: in that syntax that match
OnFind = Callable[[str, str, bytes, str], Awaitable[tuple[Answer, Sequence[bytes]]]]


@dataclass
class Acceptor:
    """Listens, and serves associations until it is closed.

    Parameters
    ----------
    keep
        Keeps an instance for good and answers with the status.
    incoming
        Folder for what is being received.
    admit
        Says who may have an association; everyone by default.
    tls
        Context of a TLS server; ``None`` for plain TCP.
    on_commitment
        Takes requests for storage commitment; ``None``: the service is not offered.
    on_find
        Answers queries; ``None``: the service is not offered.
    """

    keep: Keep
    incoming: Path
    limits: NodeLimits = field(default_factory=NodeLimits)
    admit: Admit = _anyone
    on_end: Callable[[AssociationRecord], None] = _nobody_listens
    tls: ssl.SSLContext | None = None
    on_commitment: OnCommitment | None = None
    on_find: OnFind | None = None
    _open: Counter[str] = field(default_factory=Counter)
    _unassociated: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> int:
        """Start to listen; the port, which is new when 0 was asked for."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Link(self._serve),
            host,
            port,
            ssl=self.tls,
            ssl_handshake_timeout=None if self.tls is None else self.limits.silent_s,
            backlog=256,
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Stop listening, and end what is open."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, link: Link) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        try:
            await self._connection(link)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, BadPdu):
            return  # whatever was known is in the record already
        except asyncio.CancelledError:
            return  # only close() cancels; what asyncio would say of it helps nobody
        finally:
            with suppress(asyncio.CancelledError):
                await link.close(self.limits.silent_s)
            if task is not None:
                self._tasks.discard(task)

    async def _connection(self, link: Link) -> None:
        if self._unassociated >= self.limits.connections:
            return
        self._unassociated += 1
        try:
            plug = link.about("socket")
            if plug is not None:
                plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            request = await self._request(link)
        finally:
            self._unassociated -= 1
        peer = link.about("peername")
        host = str(peer[0]) if peer else ""
        record = AssociationRecord(request.calling_ae, request.called_ae, host)
        rejection = self._too_many(host) or self.admit(request.calling_ae, request.called_ae, host)
        if rejection is not None:
            link.write(pdu.reject(rejection.result, rejection.source, rejection.reason))
            record.rejected = rejection.fact
            self.on_end(record)
            return
        self._open[host] += 1
        try:
            contexts = negotiate(request, self._services())
            link.write(pdu.accept(request, contexts, self.limits.pdu_bytes))
            association = Association(self, link, request, contexts, record)
            await association.serve()
        finally:
            self._open[host] -= 1
            if not self._open[host]:
                del self._open[host]
            self.on_end(record)

    def _services(self) -> frozenset[str]:
        """SOP classes beyond storage that are offered."""
        found = {STORAGE_COMMITMENT} if self.on_commitment is not None else set()
        if self.on_find is not None:
            found |= {PATIENT_ROOT + FIND, STUDY_ROOT + FIND}
        return frozenset(found)

    def _too_many(self, host: str) -> Rejection | None:
        if self._open.total() >= self.limits.associations or self._open[host] >= self.limits.associations_per_host:
            return _BUSY
        return None

    async def _request(self, link: Link) -> pdu.AssociateRequest:
        """The A-ASSOCIATE-RQ, which must come soon, whole, and well formed."""
        async with asyncio.timeout(self.limits.silent_s):
            await link.fill(6)
            kind, length = pdu.parse_head(link.take(6))
            if kind != pdu.ASSOCIATE_RQ or length > self.limits.associate_bytes:
                link.write(pdu.abort(1 if kind not in range(1, 8) else 2))
                raise BadPdu("something else came where an A-ASSOCIATE-RQ belongs")
            await link.fill(length)
            body = bytes(link.take(length))
        try:
            return pdu.parse_associate(body)
        except BadPdu:
            link.write(pdu.abort(6))
            raise
