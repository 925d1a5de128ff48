"""FHIR as client: a transaction Bundle to a server's base URL (FHIR R4, http.html#transaction)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import urlsplit

from hounsfield.network.destinations import Destination, Parcel, Receipt
from hounsfield.network.stow import connection_to, credentials, one_by_one

_MOST_ANSWER_BYTES: Final = 4 * 2**20


def post(destination: Destination, parcels: Sequence[Parcel]) -> Iterator[Receipt]:
    """Post Bundles; redirections are not followed."""
    yield from one_by_one(destination, parcels, _post_one)


def _post_one(destination: Destination, one: Parcel) -> Receipt:
    where = urlsplit(destination.url)
    connection = connection_to(destination, where.scheme, where.hostname or "", where.port)
    kind = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"}
    try:
        connection.request("POST", where.path or "/", one.path.read_bytes(), {**kind, **credentials(destination)})
        answer = connection.getresponse()
        said = answer.read(_MOST_ANSWER_BYTES)
    finally:
        connection.close()
    if answer.status != 200:
        return Receipt(one.sop_instance_uid, False, answer.status, f"the server answered {answer.status}")
    return _judged(one, answer.status, said)


def _judged(one: Parcel, status: int, said: bytes) -> Receipt:
    """Delivered only if every entry of the answer says 200 or 201."""
    try:
        entries = json.loads(said)["entry"]
        outcomes = {str(entry["response"]["status"])[:3] for entry in entries}
    except (ValueError, KeyError, TypeError):
        return Receipt(one.sop_instance_uid, False, status, "the server's answer is no transaction response")
    if outcomes and outcomes <= {"200", "201"}:
        return Receipt(one.sop_instance_uid, True, status)
    return Receipt(one.sop_instance_uid, False, status, "the server did not take every resource")
