"""C-ECHO and C-STORE as SCU: send files over one association, and note each instance's own status."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from hounsfield.network import dimse
from hounsfield.network.destinations import Destination, Parcel, Receipt, TlsFiles
from hounsfield.network.identity import VERIFICATION
from hounsfield.network.part10 import data_set_start
from hounsfield.network.requestor import PeerFailed, Requestor

_WARNINGS: Final = (0xB000, 0xB006, 0xB007)
_IMPLICIT: Final = "1.2.840.10008.1.2"
_EXPLICIT: Final = "1.2.840.10008.1.2.1"
_CHUNK: Final = 1 << 16
_MOST_CONTEXTS: Final = 127


def send(destination: Destination, parcels: Sequence[Parcel]) -> Iterator[Receipt]:
    """Send instances one after the other; one receipt for each, as soon as it is known.

    A peer that cannot be reached, refuses or goes away gives receipts that say so: nothing is
    raised for what a peer does.
    """
    done = 0
    try:
        with Requestor(destination, _wanted(parcels), tls_of(destination)) as requestor:
            for one in parcels:
                receipt = _send_one(requestor, one)
                done += 1
                yield receipt
    except (PeerFailed, OSError) as error:
        reason = str(error) if isinstance(error, PeerFailed) else f"it cannot be read or sent ({type(error).__name__})"
        yield from (Receipt(one.sop_instance_uid, False, None, reason) for one in parcels[done:])


def echo(destination: Destination) -> Receipt:
    """C-ECHO: whether a destination answers."""
    try:
        with Requestor(destination, [(VERIFICATION, _IMPLICIT)], tls_of(destination)) as requestor:
            context = requestor.context(VERIFICATION, _IMPLICIT)
            if context is None:
                return Receipt("", False, None, "the peer does not accept verification")
            asked: dict[int, str | int] = {dimse.AFFECTED_CLASS: VERIFICATION, dimse.FIELD: dimse.C_ECHO_RQ}
            status = int(requestor.ask(context, asked)[dimse.STATUS])
            return Receipt("", status == 0, status, "" if status == 0 else f"the peer answered {status:04X}")
    except (PeerFailed, OSError) as error:
        return Receipt("", False, None, str(error))


def _wanted(parcels: Sequence[Parcel]) -> list[tuple[str, str]]:
    """A context for each class and syntax; what is uncompressed is offered in both byte forms."""
    pairs: dict[tuple[str, str], None] = {}
    for one in parcels:
        plain = one.transfer_syntax_uid in (_EXPLICIT, _IMPLICIT)
        for syntax in (_EXPLICIT, _IMPLICIT) if plain else (one.transfer_syntax_uid,):
            pairs[(one.sop_class_uid, syntax)] = None
    return list(pairs)[:_MOST_CONTEXTS]


def _send_one(requestor: Requestor, one: Parcel) -> Receipt:
    uid = one.sop_instance_uid
    found = _context(requestor, one)
    if found is None:
        return Receipt(uid, False, dimse.CLASS_NOT_SUPPORTED, "the peer does not accept this SOP class or syntax")
    context, syntax = found
    content = _blocks(one.path) if syntax == one.transfer_syntax_uid else _converted(one.path, syntax)
    asked: dict[int, str | int] = {
        dimse.AFFECTED_CLASS: one.sop_class_uid,
        dimse.FIELD: dimse.C_STORE_RQ,
        dimse.PRIORITY: 0,
        dimse.AFFECTED_INSTANCE: uid,
    }
    code = int(requestor.ask(context, asked, content)[dimse.STATUS])
    if code == dimse.SUCCESS:
        return Receipt(uid, True, code)
    if code in _WARNINGS:
        return Receipt(uid, True, code, "stored with a warning")
    return Receipt(uid, False, code, f"the peer answered {code:04X}")


def _context(requestor: Requestor, one: Parcel) -> tuple[int, str] | None:
    """The accepted context to use: in the file's own syntax if possible."""
    plain = one.transfer_syntax_uid in (_EXPLICIT, _IMPLICIT)
    for syntax in (one.transfer_syntax_uid, *((_EXPLICIT, _IMPLICIT) if plain else ())):
        number = requestor.context(one.sop_class_uid, syntax)
        if number is not None:
            return number, syntax
    return None


def _blocks(path: Path) -> Iterator[bytes]:
    """The data set of a file, as it is."""
    start = data_set_start(path)
    with path.open("rb") as stream:
        stream.seek(start)
        while block := stream.read(_CHUNK):
            yield block


def _converted(path: Path, syntax: str) -> Iterator[bytes]:
    """The data set in the other uncompressed little endian form."""
    from pydicom import dcmread
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, syntax == _IMPLICIT
    write_dataset(stream, dcmread(path))
    yield stream.getvalue()


def tls_of(destination: Destination) -> ssl.SSLContext | None:
    """The TLS context for a destination, ``None`` for plain TCP."""
    return None if destination.tls is None else client_context(destination.tls)


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
