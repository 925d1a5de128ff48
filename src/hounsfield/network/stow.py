"""STOW-RS as user agent: post instances to a DICOMweb server (PS3.18 section 10.5)."""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import ssl
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from hounsfield.network.destinations import Destination, Parcel, Receipt
from hounsfield.network.store_scu import client_context

_MOST_ANSWER_BYTES: Final = 4 * 2**20


def post(destination: Destination, parcels: Sequence[Parcel]) -> Iterator[Receipt]:
    """Post instances, one request each, so that one refused instance holds up no other.

    The URL is the one of the configuration; redirections are not followed.
    """
    yield from one_by_one(destination, parcels, _post_one)


def one_by_one(
    destination: Destination, parcels: Sequence[Parcel], post_one: Callable[[Destination, Parcel], Receipt]
) -> Iterator[Receipt]:
    """A receipt for each parcel; a server that is not there gives receipts that say so."""
    for one in parcels:
        try:
            yield post_one(destination, one)
        except (OSError, http.client.HTTPException, ValueError) as error:
            yield Receipt(one.sop_instance_uid, False, None, f"no answer ({type(error).__name__})")


def _post_one(destination: Destination, one: Parcel) -> Receipt:
    where = urlsplit(destination.url)
    boundary = f"hounsfield-{secrets.token_hex(16)}"
    before = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    after = f"\r\n--{boundary}--\r\n".encode()
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        "Accept": "application/dicom+json",
        **credentials(destination),
    }
    connection = connection_to(destination, where.scheme, where.hostname or "", where.port)
    try:
        body = before + one.path.read_bytes() + after
        connection.request("POST", f"{where.path.rstrip('/')}/studies", body, headers)
        answer = connection.getresponse()
        said = answer.read(_MOST_ANSWER_BYTES)
    finally:
        connection.close()
    if answer.status not in (200, 202):
        return Receipt(one.sop_instance_uid, False, answer.status, f"the server answered {answer.status}")
    return _judged(one.sop_instance_uid, answer.status, said)


def _judged(uid: str, status: int, said: bytes) -> Receipt:
    """Delivered only if the answer lists the instance as stored (PS3.18 table 10.5.3-2)."""
    try:
        answer = json.loads(said)
        answer = answer[0] if isinstance(answer, list) else answer
        stored = {_value(item, "00081155") for item in answer.get("00081199", {}).get("Value", [])}
        failed = [_value(item, "00081197") for item in answer.get("00081198", {}).get("Value", [])]
    except (ValueError, AttributeError, IndexError, TypeError):
        return Receipt(uid, False, status, "the server's answer is not DICOM JSON")
    if uid in stored:
        return Receipt(uid, True, status)
    code = failed[0] if failed and isinstance(failed[0], int) else None
    reason = f"the server refused it ({code:04X})" if code is not None else "the server does not list it as stored"
    return Receipt(uid, False, status, reason)


def _value(item: dict[str, Any], tag: str) -> Any:
    return item.get(tag, {}).get("Value", [None])[0]


def credentials(destination: Destination) -> dict[str, str]:
    """The header that shows who we are; none without a password file."""
    if destination.password_file is None:
        return {}
    secret = destination.password_file.read_text(encoding="utf-8").strip()
    if not destination.user:
        return {"Authorization": f"Bearer {secret}"}
    pair = base64.b64encode(f"{destination.user}:{secret}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def connection_to(destination: Destination, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
    """A connection to a web server, with TLS where the URL says so."""
    if scheme == "https":
        context = client_context(destination.tls) if destination.tls else ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=destination.timeout_s, context=context)
    return http.client.HTTPConnection(host, port, timeout=destination.timeout_s)
