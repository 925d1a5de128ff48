"""C-STORE as SCU: send files over one association, and note each instance's own status."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import Any, Final

from hounsfield.network.destinations import Destination, Parcel, Receipt, TlsFiles
from hounsfield.network.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, VERIFICATION

_WARNINGS: Final = (0xB000, 0xB006, 0xB007)
_PDU_BYTES: Final = 131072
_IMPLICIT: Final = "1.2.840.10008.1.2"
_EXPLICIT: Final = "1.2.840.10008.1.2.1"


def send(destination: Destination, parcels: Sequence[Parcel]) -> Iterator[Receipt]:
    """Send instances one after the other; one receipt for each, as soon as it is known.

    A peer that cannot be reached, refuses or goes away gives receipts that say so: nothing is
    raised for what a peer does.
    """
    association, reason = _associate(destination, [(one.sop_class_uid, one.transfer_syntax_uid) for one in parcels])
    if association is None:
        yield from (Receipt(one.sop_instance_uid, False, None, reason) for one in parcels)
        return
    try:
        for one in parcels:
            yield _send_one(association, one)
    finally:
        if association.is_established:
            association.release()


def echo(destination: Destination) -> Receipt:
    """C-ECHO: whether a destination answers."""
    association, reason = _associate(destination, [(VERIFICATION, _IMPLICIT)])
    if association is None:
        return Receipt("", False, None, reason)
    try:
        status = association.send_c_echo()
        code = status.Status if "Status" in status else None
        return Receipt("", code == 0, code, "" if code == 0 else "it did not answer the echo")
    finally:
        if association.is_established:
            association.release()


def _associate(destination: Destination, wanted: Sequence[tuple[str, str]]) -> tuple[Any, str]:
    """An association with a context for each pair of SOP class and transfer syntax, or why there is none."""
    from pynetdicom import AE, build_context, evt

    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # it would print what peers send
    entity = AE(ae_title=destination.own_ae_title)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.maximum_pdu_size = _PDU_BYTES
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = destination.timeout_s
    entity.connection_timeout = min(10.0, destination.timeout_s)
    contexts = []
    for sop_class, transfer_syntax in dict.fromkeys(wanted):
        syntaxes = [transfer_syntax] if transfer_syntax not in (_IMPLICIT, _EXPLICIT) else [_EXPLICIT, _IMPLICIT]
        contexts.append(build_context(sop_class, syntaxes))
    try:
        association = entity.associate(
            destination.host,
            destination.port,
            contexts=contexts[:128],
            ae_title=destination.ae_title,
            max_pdu=_PDU_BYTES,
            evt_handlers=[(evt.EVT_CONN_OPEN, _no_delay)],
            tls_args=None if destination.tls is None else (client_context(destination.tls), destination.host),
        )
    except (OSError, RuntimeError) as error:
        return None, f"no connection ({type(error).__name__})"
    if association.is_established:
        return association, ""
    if association.is_rejected:
        return None, "the peer rejected the association"
    return None, "no connection, or the peer aborted the association"


def _no_delay(event: Any) -> None:
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _send_one(association: Any, one: Parcel) -> Receipt:
    uid = one.sop_instance_uid
    if not association.is_established:
        return Receipt(uid, False, None, "the association ended before")
    try:
        status = association.send_c_store(one.path)
    except (ValueError, RuntimeError, AttributeError) as error:
        return Receipt(uid, False, None, f"it could not be sent ({type(error).__name__})")
    if "Status" not in status:
        return Receipt(uid, False, None, "no answer came, or the association was aborted")
    code = int(status.Status)
    if code == 0:
        return Receipt(uid, True, code)
    if code in _WARNINGS:
        return Receipt(uid, True, code, "stored with a warning")
    return Receipt(uid, False, code, f"the peer answered {code:04X}")


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """TLS 1.2 or newer, the peer's certificate checked (BCP 195), our own shown if there is one."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(files.authorities))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if files.certificate is not None:
        context.load_cert_chain(files.certificate, files.key)
    return context


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """TLS 1.2 or newer; peers must show a certificate of the authorities (mutual)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if files.certificate is not None:
        context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(files.authorities)
    context.verify_mode = ssl.CERT_REQUIRED
    return context
