"""One accepted association: its messages one after the other, until it is released or ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hounsfield.network import dimse, pdu
from hounsfield.network.identity import STORAGE_COMMITMENT, is_storage_class
from hounsfield.network.inbound import Inbound
from hounsfield.network.link import Link
from hounsfield.network.pdu import AnsweredContext, AssociateRequest, BadPdu, DataValue
from hounsfield.network.pdu_stream import PduStream
from hounsfield.network.received import Answer, AssociationRecord, Received
from hounsfield.network.uids import is_uid

if TYPE_CHECKING:
    from hounsfield.network.acceptor import Acceptor

_WORDS: Final = {
    dimse.OUT_OF_RESOURCES: "no space left",
    dimse.TOO_LARGE: "the instance is too large",
    dimse.INVALID_INSTANCE: "a UID breaks the grammar of PS3.5 9.1",
    dimse.CLASS_NOT_SUPPORTED: "another SOP class than the presentation context's",
}


class Association:
    """Reads and answers the messages of one association."""

    def __init__(
        self,
        acceptor: Acceptor,
        link: Link,
        request: AssociateRequest,
        contexts: tuple[AnsweredContext, ...],
        record: AssociationRecord,
    ) -> None:
        self._acceptor = acceptor
        self._limits = acceptor.limits
        self._pdus = PduStream(link, acceptor.limits)
        self._link = link
        self._longest = request.maximum_length
        self._contexts = {one.number: one for one in contexts if one.result == pdu.ACCEPTED}
        self._record = record
        self._values: list[DataValue] = []

    async def serve(self) -> None:
        """Serve until the peer releases, aborts, goes away, or breaks the rules."""
        self._record.ended = "lost"
        try:
            while (value := await self._next()) is not None:
                await self._message(value)
                await self._link.drain()
        except (BadPdu, dimse.BadCommand) as error:
            self._record.ended = str(error)
            self._link.write(pdu.abort(6))
        except TimeoutError:
            self._record.ended = "silent for too long"
            self._link.write(pdu.abort())

    async def _next(self) -> DataValue | None:
        """The next presentation data value, or ``None`` at the end of the association."""
        while not self._values:
            kind, body = await self._pdus.next()
            if kind == pdu.P_DATA_TF:
                self._values = list(pdu.values_of(body))[::-1]
            elif kind == pdu.RELEASE_RQ:
                self._link.write(pdu.release_reply())
                self._record.ended = "released"
                return None
            elif kind == pdu.ABORT:
                self._record.ended = "aborted by the peer"
                return None
            else:
                raise BadPdu("a PDU came that has no place here")
        value = self._values.pop()
        if value.context not in self._contexts:
            raise BadPdu("a presentation context was used that was not accepted")
        return value

    async def _message(self, value: DataValue) -> None:
        context = self._contexts[value.context]
        command = dimse.parse_command(await self._whole(value, context, self._limits.command_bytes, is_command=True))
        field, has_data = command[dimse.FIELD], command[dimse.DATA_SET_TYPE] != dimse.NO_DATA_SET
        if field == dimse.C_STORE_RQ and has_data:
            answer = await self._store(command, context)
            self._record.count(answer.status)
        elif field == dimse.C_ECHO_RQ and not has_data:
            answer = Answer(dimse.SUCCESS)
        else:
            data_set = b""
            if has_data:
                data_set = await self._whole(None, context, self._limits.message_bytes, is_command=False)
            if field == dimse.C_CANCEL_RQ:
                return  # there is nothing to cancel any more, and no answer to give
            answer = await self._other(command, data_set, context)
        self._say(context, dimse.answer(command, answer.status, answer.comment))

    async def _other(self, command: dimse.Command, data_set: bytes, context: AnsweredContext) -> Answer:
        field, taken, asked = command[dimse.FIELD], self._acceptor.on_commitment, self._acceptor.on_find
        if field == dimse.C_FIND_RQ and asked is not None and not is_storage_class(context.abstract_syntax):
            who = self._record.calling_ae
            answer, found = await asked(who, context.abstract_syntax, data_set, context.transfer_syntax)
            for one in found:
                self._say(context, dimse.answer(command, dimse.PENDING[0], has_data=True))
                self._link.write(pdu.data(context.number, one, is_command=False, longest=self._longest))
                await self._link.drain()
            return answer
        if field == dimse.N_ACTION_RQ and taken is not None and context.abstract_syntax == STORAGE_COMMITMENT:
            return Answer(await taken(self._record.calling_ae, data_set, context.transfer_syntax))
        return Answer(dimse.UNRECOGNISED_OPERATION)

    async def _whole(self, value: DataValue | None, context: AnsweredContext, most: int, *, is_command: bool) -> bytes:
        """All fragments of a command or a small data set, in memory."""
        collected = bytearray()
        while True:
            value = value or await self._in_message()
            if value.is_command != is_command or value.context != context.number:
                raise BadPdu("fragments of two messages are mixed")
            collected += value.fragment
            if len(collected) > most:
                raise BadPdu("a message is longer than allowed")
            if value.is_last:
                return bytes(collected)
            value = None

    async def _in_message(self) -> DataValue:
        value = await self._next()
        if value is None:
            raise BadPdu("the association ended within a message")
        return value

    async def _store(self, command: dimse.Command, context: AnsweredContext) -> Answer:
        """Receive one instance into a file, and let it be kept."""
        names = (str(command.get(dimse.AFFECTED_CLASS, "")), str(command.get(dimse.AFFECTED_INSTANCE, "")))
        grammar = all(map(is_uid, names))
        plain = (*names, context.transfer_syntax) if grammar else ("0.0", "0.0", context.transfer_syntax)
        with Inbound(self._acceptor.incoming, plain, self._limits) as inbound:
            if not grammar:
                inbound.problem = dimse.INVALID_INSTANCE
            elif names[0] != context.abstract_syntax:
                inbound.problem = dimse.CLASS_NOT_SUPPORTED
            last = False
            while not last:
                value = await self._in_message()
                if value.is_command or value.context != context.number or inbound.is_beyond_patience:
                    raise BadPdu("fragments of two messages are mixed, or an instance has no end")
                inbound.write(value.fragment)
                last = value.is_last
            if inbound.problem:
                return Answer(inbound.problem, _WORDS[inbound.problem])
            digest = inbound.keep()
        return await self._acceptor.keep(
            Received(
                path=inbound.path,
                sha256=digest,
                size_bytes=inbound.size_bytes,
                sop_class_uid=names[0],
                sop_instance_uid=names[1],
                transfer_syntax_uid=context.transfer_syntax,
                calling_ae=self._record.calling_ae,
                host=self._record.host,
            )
        )

    def _say(self, context: AnsweredContext, command: bytes) -> None:
        self._link.write(pdu.data(context.number, command, is_command=True, longest=self._longest))
