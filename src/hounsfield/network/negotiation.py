"""Which presentation contexts are accepted (PS3.8 section 9.3.3)."""

from __future__ import annotations

from hounsfield.network import pdu
from hounsfield.network.identity import STORAGE_COMMITMENT, VERIFICATION, choose_transfer_syntax, is_storage_class


def negotiate(request: pdu.AssociateRequest, *, commitment: bool) -> tuple[pdu.AnsweredContext, ...]:
    """An answer to each offered context: verification and every storage class, and commitment if offered."""
    return tuple(_answer(one, commitment) for one in request.contexts)


def _answer(one: pdu.OfferedContext, commitment: bool) -> pdu.AnsweredContext:
    stored = is_storage_class(one.abstract_syntax)
    own = one.abstract_syntax == VERIFICATION or (commitment and one.abstract_syntax == STORAGE_COMMITMENT)
    if not (stored or own):
        return _refused(one, pdu.NO_ABSTRACT_SYNTAX)
    chosen = choose_transfer_syntax(one.transfer_syntaxes, stored=stored)
    if chosen is None:
        return _refused(one, pdu.NO_TRANSFER_SYNTAX)
    return pdu.AnsweredContext(one.number, pdu.ACCEPTED, one.abstract_syntax, chosen)


def _refused(one: pdu.OfferedContext, result: int) -> pdu.AnsweredContext:
    return pdu.AnsweredContext(one.number, result, one.abstract_syntax, one.transfer_syntaxes[0])
