"""Which presentation contexts are accepted (PS3.8 section 9.3.3)."""

from __future__ import annotations

from hounsfield.network import pdu
from hounsfield.network.identity import VERIFICATION, choose_transfer_syntax, is_storage_class


def negotiate(request: pdu.AssociateRequest, more: frozenset[str]) -> tuple[pdu.AnsweredContext, ...]:
    """An answer to each offered context: verification, every storage class, and the classes in ``more``."""
    return tuple(_answer(one, more) for one in request.contexts)


def _answer(one: pdu.OfferedContext, more: frozenset[str]) -> pdu.AnsweredContext:
    stored = is_storage_class(one.abstract_syntax)
    own = one.abstract_syntax == VERIFICATION or one.abstract_syntax in more
    if not (stored or own):
        return _refused(one, pdu.NO_ABSTRACT_SYNTAX)
    chosen = choose_transfer_syntax(one.transfer_syntaxes, stored=stored)
    if chosen is None:
        return _refused(one, pdu.NO_TRANSFER_SYNTAX)
    return pdu.AnsweredContext(one.number, pdu.ACCEPTED, one.abstract_syntax, chosen)


def _refused(one: pdu.OfferedContext, result: int) -> pdu.AnsweredContext:
    return pdu.AnsweredContext(one.number, result, one.abstract_syntax, one.transfer_syntaxes[0])
