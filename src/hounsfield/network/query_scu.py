"""Query and retrieve as SCU: C-FIND, C-MOVE and C-GET in the Study Root model (PS3.4 annex C)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hounsfield.network import dimse
from hounsfield.network.destinations import Destination
from hounsfield.network.encoding import JsonItem, encode_item
from hounsfield.network.identity import FETCHED_CLASSES, FETCHED_SYNTAXES, FIND, GET, MOVE, STUDY_ROOT
from hounsfield.network.inbound import Inbound
from hounsfield.network.limits import NodeLimits
from hounsfield.network.received import Answer, Received
from hounsfield.network.requestor import PeerFailed, Requestor
from hounsfield.network.store_scu import tls_of
from hounsfield.network.uids import is_uid

_EXPLICIT: Final = "1.2.840.10008.1.2.1"
_IMPLICIT: Final = "1.2.840.10008.1.2"
_PLAIN: Final = (_EXPLICIT, _IMPLICIT)
_MOST_ANSWERS: Final = 100_000
_MOST_ANSWER_BYTES: Final = 4 * 2**20


@dataclass(frozen=True)
class Found:
    """One answer to a query: a data set as it came, and its transfer syntax."""

    data: bytes
    transfer_syntax_uid: str


@dataclass(frozen=True)
class Fetched:
    """What a C-MOVE or C-GET came to, by the peer's last word."""

    status: int
    completed: int
    failed: int
    warned: int

    @property
    def is_whole(self) -> bool:
        """Whether the peer says that all went well."""
        return self.status == dimse.SUCCESS and not self.failed


def find(source: Destination, keys: JsonItem) -> Iterator[Found]:
    """C-FIND: every answer that the source gives.

    Raises
    ------
    PeerFailed
        If the source cannot be reached, does not answer queries, or says no.
    """
    with Requestor(source, [(STUDY_ROOT + FIND, _PLAIN)], tls_of(source)) as requestor:
        context, command, syntax = _opening(requestor, FIND, dimse.C_FIND_RQ)
        requestor.tell(context, command, iter([encode_item(keys, syntax)]))
        for _ in range(_MOST_ANSWERS):
            _, said = requestor.hear()
            data = _whole(requestor) if said[dimse.DATA_SET_TYPE] != dimse.NO_DATA_SET else b""
            status = int(said.get(dimse.STATUS, dimse.PROCESSING_FAILURE))
            if status not in dimse.PENDING:
                if status != dimse.SUCCESS:
                    raise PeerFailed(f"the peer answered the query with {status:04X}")
                return
            yield Found(data, syntax)
        raise PeerFailed("the query has too many answers")


def move(source: Destination, keys: JsonItem, to_ae_title: str, patience_s: float) -> Fetched:
    """C-MOVE: let the source send what matches to ``to_ae_title``.

    Parameters
    ----------
    patience_s
        How long the source may say nothing while it sends.

    Raises
    ------
    PeerFailed
        If the source cannot be reached, does not move, or goes away.
    """
    source = replace(source, timeout_s=max(source.timeout_s, patience_s))
    with Requestor(source, [(STUDY_ROOT + MOVE, _PLAIN)], tls_of(source)) as requestor:
        context, command, syntax = _opening(requestor, MOVE, dimse.C_MOVE_RQ)
        command = {**command, dimse.MOVE_DESTINATION: to_ae_title}
        requestor.tell(context, command, iter([encode_item(keys, syntax)]))
        while True:
            _, said = requestor.hear()
            if said[dimse.DATA_SET_TYPE] != dimse.NO_DATA_SET:
                _whole(requestor)
            if int(said.get(dimse.STATUS, 0)) not in dimse.PENDING:
                return _outcome(said)


@dataclass(frozen=True)
class Fetcher:
    """C-GET: instances come over the same association, and are kept one by one.

    Parameters
    ----------
    incoming
        Folder for what is being received.
    keep
        Keeps an instance for good and answers with the status.
    """

    source: Destination
    incoming: Path
    limits: NodeLimits
    keep: Callable[[Received], Answer]

    def get(self, keys: JsonItem) -> Fetched:
        """Fetch what matches.

        Raises
        ------
        PeerFailed
            If the source cannot be reached, does not offer C-GET, or goes away.
        """
        offered: list[tuple[str, str | tuple[str, ...]]] = [(STUDY_ROOT + GET, _PLAIN)]
        offered += [(uid, FETCHED_SYNTAXES) for uid in FETCHED_CLASSES]
        with Requestor(self.source, offered, tls_of(self.source), FETCHED_CLASSES) as requestor:
            context, command, syntax = _opening(requestor, GET, dimse.C_GET_RQ)
            requestor.tell(context, command, iter([encode_item(keys, syntax)]))
            while True:
                where, said = requestor.hear()
                if said[dimse.FIELD] == dimse.C_STORE_RQ:
                    answer = self._store(requestor, where, said)
                    requestor.say(where, dimse.answer(said, answer.status, answer.comment))
                    continue
                if said[dimse.DATA_SET_TYPE] != dimse.NO_DATA_SET:
                    _whole(requestor)
                if int(said.get(dimse.STATUS, 0)) not in dimse.PENDING:
                    return _outcome(said)

    def _store(self, requestor: Requestor, context: int, command: dimse.Command) -> Answer:
        sop_class, syntax = requestor.accepted(context)
        names = (str(command.get(dimse.AFFECTED_CLASS, "")), str(command.get(dimse.AFFECTED_INSTANCE, "")))
        plain = (*names, syntax) if all(map(is_uid, names)) else ("0.0", "0.0", syntax)
        with Inbound(self.incoming, plain, self.limits) as inbound:
            if plain[0] != sop_class:
                inbound.problem = dimse.CLASS_NOT_SUPPORTED
            for fragment in requestor.data():
                inbound.write(fragment)
            if inbound.problem:
                return Answer(inbound.problem)
            digest = inbound.keep()
        where = (self.source.ae_title, self.source.host)
        return self.keep(Received(inbound.path, digest, inbound.size_bytes, *names, syntax, *where))


def _opening(requestor: Requestor, service: str, field: int) -> tuple[int, dimse.Command, str]:
    """The context of a service, the command that asks for it, and the transfer syntax of the keys."""
    uid = STUDY_ROOT + service
    context = requestor.any_context(uid)
    if context is None:
        raise PeerFailed("the peer does not offer this service")
    command: dict[int, str | int] = {dimse.AFFECTED_CLASS: uid, dimse.FIELD: field, dimse.PRIORITY: 0}
    return context, command, requestor.accepted(context)[1]


def _whole(requestor: Requestor) -> bytes:
    collected, began = bytearray(), time.monotonic()
    for fragment in requestor.data():
        collected += fragment
        if len(collected) > _MOST_ANSWER_BYTES or time.monotonic() - began > 600:
            raise PeerFailed("the answer has no end")
    return bytes(collected)


def _outcome(said: dimse.Command) -> Fetched:
    def number(element: int) -> int:
        return int(said.get(element, 0))

    status = int(said.get(dimse.STATUS, dimse.PROCESSING_FAILURE))
    return Fetched(status, number(dimse.COMPLETED), number(dimse.FAILED), number(dimse.WARNED))
