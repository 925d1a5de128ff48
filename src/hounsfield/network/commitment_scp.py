"""The report of storage commitment: N-EVENT-REPORT over an association of our own (PS3.4 annex J)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hounsfield.network import dimse
from hounsfield.network.destinations import Destination, Receipt
from hounsfield.network.encoding import encode_item
from hounsfield.network.identity import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from hounsfield.network.requestor import PeerFailed, Requestor
from hounsfield.network.store_scu import tls_of

_PLAIN: Final = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
_ALL_COMMITTED: Final = 1
_SOME_FAILED: Final = 2


@dataclass(frozen=True)
class Report:
    """What is committed, and what is not with the reason (PS3.3 table C.14-1).

    Parameters
    ----------
    committed
        (SOP class, SOP instance).
    failed
        (SOP class, SOP instance, failure reason).
    """

    transaction_uid: str
    committed: Sequence[tuple[str, str]]
    failed: Sequence[tuple[str, str, int]]

    def as_json(self) -> Mapping[str, Any]:
        """The data set of the report."""
        found: dict[str, Any] = {"00081195": {"vr": "UI", "Value": [self.transaction_uid]}}
        if self.failed:
            items = [{**_reference(*one[:2]), "00081197": {"vr": "US", "Value": [one[2]]}} for one in self.failed]
            found["00081198"] = {"vr": "SQ", "Value": items}
        if self.committed:
            found["00081199"] = {"vr": "SQ", "Value": [_reference(*one) for one in self.committed]}
        return found


def report(peer: Destination, told: Report) -> Receipt:
    """Tell a peer; it has heard it when the receipt says delivered."""
    wanted: list[tuple[str, str | tuple[str, ...]]] = [(STORAGE_COMMITMENT, _PLAIN)]
    try:
        with Requestor(peer, wanted, tls_of(peer), (STORAGE_COMMITMENT,)) as requestor:
            context = requestor.any_context(STORAGE_COMMITMENT)
            if context is None:
                return Receipt(told.transaction_uid, False, None, "the peer does not take reports of commitment")
            asked: dict[int, str | int] = {
                dimse.AFFECTED_CLASS: STORAGE_COMMITMENT,
                dimse.FIELD: dimse.N_EVENT_REPORT_RQ,
                dimse.AFFECTED_INSTANCE: STORAGE_COMMITMENT_INSTANCE,
                dimse.EVENT_TYPE: _SOME_FAILED if told.failed else _ALL_COMMITTED,
            }
            data = encode_item(told.as_json(), requestor.accepted(context)[1])
            status = int(requestor.ask(context, asked, iter([data]))[dimse.STATUS])
            said = "" if status == dimse.SUCCESS else f"the peer answered {status:04X}"
            return Receipt(told.transaction_uid, status == dimse.SUCCESS, status, said)
    except (PeerFailed, OSError) as error:
        return Receipt(told.transaction_uid, False, None, str(error))


def _reference(sop_class_uid: str, sop_instance_uid: str) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [sop_instance_uid]},
    }
