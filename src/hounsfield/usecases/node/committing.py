"""Storage commitment: take the request, look at what is on the disk, tell the peer until it has heard."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from hounsfield.audit import AuditEvent
from hounsfield.department import commitments
from hounsfield.department.commitments import Asked
from hounsfield.department.configuration import Peer
from hounsfield.network import dimse
from hounsfield.network.commitment_scp import Report, report
from hounsfield.network.destinations import Destination
from hounsfield.network.part10 import file_head
from hounsfield.network.uids import is_uid
from hounsfield.reading.elements import Malformed
from hounsfield.reading.limits import Limits
from hounsfield.reading.whole_header import JsonItem, as_json, read_data_set
from hounsfield.usecases.node.cataloguing import text
from hounsfield.usecases.node.opening import Node, log

_LIMITS: Final = Limits(header_bytes=8 * 2**20, elements=500_000)
_MOST: Final = 50_000
LOOK_SECONDS: Final = 0.5


def read_message(data: bytes, transfer_syntax_uid: str) -> JsonItem:
    """A small data set that came over the network, in the DICOM JSON Model.

    Raises
    ------
    Malformed
        If it is damaged.
    """
    return as_json(read_data_set(file_head("1.2", "1.2", transfer_syntax_uid) + data, _LIMITS))


def reachable(node: Node, calling_ae: str) -> Peer | None:
    """The peer of the configuration to which a report can be sent."""
    return next((one for one in node.config.peers if one.ae_title == calling_ae and one.port), None)


def take_request(node: Node, calling_ae: str, data: bytes, transfer_syntax_uid: str) -> int:
    """Remember a request durably; the DIMSE status of the N-ACTION."""
    if reachable(node, calling_ae) is None:
        return dimse.PROCESSING_FAILURE
    try:
        asked = read_message(data, transfer_syntax_uid)
    except (Malformed, RecursionError):
        return dimse.INVALID_ARGUMENT
    items = asked.get("00081199", {}).get("Value", [])
    references = [(text(one, "00081150"), text(one, "00081155")) for one in items[: _MOST + 1]]
    transaction = text(asked, "00081195")
    uids = [transaction, *(uid for one in references for uid in one)]
    if not references or len(references) > _MOST or not all(map(is_uid, uids)):
        return dimse.INVALID_ARGUMENT
    try:
        with node.database.write() as connection:
            commitments.ask(connection, transaction, calling_ae, references)
    except SQLAlchemyError:
        return dimse.PROCESSING_FAILURE
    return dimse.SUCCESS


def report_due(node: Node) -> int:
    """Report on what is due; how many peers have heard."""
    with node.database.read() as connection:
        waiting = commitments.due(connection)
    return sum(_report(node, one) for one in waiting)


def _report(node: Node, asked: Asked) -> bool:
    peer = reachable(node, asked.calling_ae)
    if peer is None:
        with node.database.write() as connection:
            commitments.postponed(connection, asked, "the peer has no port in the configuration any more")
        return False
    told = _judge(node, asked)
    address = str(ipaddress.ip_interface(peer.host).ip)
    there = Destination(
        name=asked.calling_ae,
        kind="dicom",
        ae_title=peer.ae_title,
        host=address,
        port=peer.port,
        own_ae_title=node.config.ae_title,
        tls=node.tls(node.config.tls),
    )
    receipt = report(there, told)
    with node.database.write() as connection:
        if receipt.delivered:
            commitments.reported(connection, asked)
        else:
            commitments.postponed(connection, asked, receipt.reason)
    counts = {"committed": len(told.committed), "failed": len(told.failed)}
    log("commitment", **counts, delivered=receipt.delivered, reason=receipt.reason)
    if receipt.delivered:
        what = {"activity": "storage commitment", "transaction": asked.transaction_uid, **counts}
        node.audit(AuditEvent("application-activity", asked.calling_ae, what, 4 if told.failed else 0))
    return receipt.delivered


def _judge(node: Node, asked: Asked) -> Report:
    """Committed is what is in the database and whose file is there."""
    with node.database.read() as connection:
        judged = commitments.judged(connection, asked.references)
    committed, failed = [], []
    for reference, reason, digest in judged:
        if not reason and not node.files.path(digest).is_file():
            reason = dimse.PROCESSING_FAILURE
        if reason:
            failed.append((*reference, reason))
        else:
            committed.append(reference)
    return Report(asked.transaction_uid, committed, failed)


def report_all(node: Node, stopped: Callable[[], bool]) -> threading.Thread:
    """Start a thread that reports until told to stop: a peer that is away holds up nothing else."""

    def work() -> None:
        pause = threading.Event()
        while not stopped():
            try:
                report_due(node)
            except Exception as error:  # a thread that ended would report no more, and nobody would know
                log("commitment-failed", fact=type(error).__name__)
            pause.wait(LOOK_SECONDS)

    thread = threading.Thread(target=work, name="commitments", daemon=True)
    thread.start()
    return thread
