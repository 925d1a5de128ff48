"""What an ``Accept`` header, or the parameter of the same name, asks for (PS3.18 8.7.4 and 8.7.5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from fastapi import Request

_MOST: Final = 64


@dataclass(frozen=True)
class Accepted:
    """One media type that the caller takes; ``transfer_syntax`` is empty where it says none."""

    kind: str
    multipart: bool
    transfer_syntax: str
    quality: float


def accepted(request: Request) -> tuple[Accepted, ...]:
    """The media types in order of preference; ``*/*`` if the caller does not say."""
    said = request.query_params.get("accept", "") or request.headers.get("accept", "") or "*/*"
    found = [_parse(part) for part in list(_split(said, ","))[:_MOST] if part.strip()]
    return tuple(sorted(found, key=lambda one: -one.quality))


def _parse(text: str) -> Accepted:
    kind, *parameters = (part.strip() for part in _split(text, ";"))
    told = {}
    for one in parameters:
        name, _, value = one.partition("=")
        told[name.strip().lower()] = value.strip().strip('"')
    multipart = kind.lower() == "multipart/related"
    wanted = told.get("type", "*/*") if multipart else kind
    try:
        quality = float(told.get("q", "1"))
    except ValueError:
        quality = 0.0
    return Accepted(wanted.lower(), multipart, told.get("transfer-syntax", ""), quality)


def _split(text: str, at: str) -> Iterator[str]:
    """Split outside of quotation marks."""
    quoted, start = False, 0
    for number, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif character == at and not quoted:
            yield text[start:number]
            start = number + 1
    yield text[start:]
