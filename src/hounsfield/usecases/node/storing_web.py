"""STOW-RS without HTTP: parts of a multipart body, as they come, become received instances (PS3.18 10.5)."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hounsfield.network import dimse
from hounsfield.network.received import Answer, Received
from hounsfield.usecases.node.inbox import copy_in
from hounsfield.usecases.node.keeping import Keeper
from hounsfield.usecases.node.listening import limits_of
from hounsfield.usecases.node.opening import Node

_MOST_HEAD: Final = 8192
_MOST_PARTS: Final = 10_000
_BOUNDARY: Final = re.compile(r'boundary="?([A-Za-z0-9\'()+_,./:=? -]{1,70})"?', re.IGNORECASE)


class BadBody(ValueError):
    """The body is not what its content type says; the text is ours alone."""


@dataclass(frozen=True)
class Stored:
    """What became of one part."""

    sop_class_uid: str
    sop_instance_uid: str
    status: int


def boundary_of(content_type: str) -> bytes:
    """The boundary of a ``multipart/related`` body of DICOM files.

    Raises
    ------
    BadBody
        If it is something else.
    """
    lower, found = content_type.lower(), _BOUNDARY.search(content_type)
    if not lower.startswith("multipart/related") or "application/dicom" not in lower or found is None:
        raise BadBody('the content type is not multipart/related; type="application/dicom" with a boundary')
    return b"\r\n--" + found.group(1).rstrip().encode("ascii")


async def store_parts(
    body: AsyncIterator[bytes], boundary: bytes, node: Node, keeper: Keeper, calling: str, host: str
) -> list[Stored]:
    """Receive every part into a file, keep it, and say what became of each.

    Raises
    ------
    BadBody
        If the body is cut or malformed; parts before that are kept, as the answer cannot say.
    """
    reader, stored = _Parts(body, boundary), list[Stored]()
    while await reader.next_part():
        if len(stored) >= _MOST_PARTS:
            raise BadBody(f"there are more than {_MOST_PARTS} parts")
        path = node.files.incoming / f"{secrets.token_hex(16)}.part"
        try:
            full = await _receive(reader, path, limits_of(node).instance_bytes)
            stored.append(await _keep(path, full, node, keeper, calling, host))
        finally:
            path.unlink(missing_ok=True)
    if not stored:
        raise BadBody("there is no part")
    return stored


async def _receive(reader: _Parts, path: Path, most: int) -> bool:
    """Write one part to a file; whether there was room for it."""
    size, full = 0, False
    with path.open("xb") as stream:
        async for block in reader.content():
            size += len(block)
            if size > most:
                raise BadBody("an instance is larger than allowed")
            try:
                if not full:
                    stream.write(block)
            except OSError:
                full = True
    return full


async def _keep(path: Path, full: bool, node: Node, keeper: Keeper, calling: str, host: str) -> Stored:
    received: Received | Answer = Answer(dimse.OUT_OF_RESOURCES)
    if not full:
        received = await asyncio.to_thread(copy_in, path, node.files.incoming, limits_of(node), calling, host)
    if isinstance(received, Answer):
        return Stored("", "", received.status)
    answer = await keeper.keep(received)
    return Stored(received.sop_class_uid, received.sop_instance_uid, answer.status)


def as_dicom_json(stored: list[Stored]) -> dict[str, Any]:
    """The Store Instances Response (PS3.18 table 10.5.3-2) in the DICOM JSON model (annex F)."""
    done = [_reference(one) for one in stored if one.status == dimse.SUCCESS]
    failed = [_reference(one) for one in stored if one.status != dimse.SUCCESS]
    answer: dict[str, Any] = {}
    if done:
        answer["00081199"] = {"vr": "SQ", "Value": done}
    if failed:
        answer["00081198"] = {"vr": "SQ", "Value": failed}
    return answer


def _reference(one: Stored) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if one.sop_instance_uid:
        found["00081150"] = {"vr": "UI", "Value": [one.sop_class_uid]}
        found["00081155"] = {"vr": "UI", "Value": [one.sop_instance_uid]}
    if one.status != dimse.SUCCESS:
        found["00081197"] = {"vr": "US", "Value": [one.status]}
    return found


class _Parts:
    """Splits a body at its boundary without ever holding more than a block of it."""

    def __init__(self, body: AsyncIterator[bytes], boundary: bytes) -> None:
        self._body, self._boundary = body, boundary
        self._held, self._over = b"\r\n", False

    async def _more(self) -> bool:
        if self._over:
            return False
        try:
            self._held += await anext(self._body)
        except StopAsyncIteration:
            self._over = True
        return not self._over

    async def next_part(self) -> bool:
        """Go behind the next boundary and the head of its part; False at the end."""
        while self._boundary not in self._held or len(self._held.split(self._boundary, 1)[1]) < 2:
            if len(self._held) > _MOST_HEAD and self._boundary not in self._held:
                raise BadBody("there is no boundary where one belongs")
            if not await self._more():
                raise BadBody("the body has no end")
        self._held = self._held.split(self._boundary, 1)[1]
        if self._held.startswith(b"--"):
            return False
        while b"\r\n\r\n" not in self._held:
            if len(self._held) > _MOST_HEAD or not await self._more():
                raise BadBody("the head of a part has no end")
        self._held = self._held.split(b"\r\n\r\n", 1)[1]
        return True

    async def content(self) -> AsyncIterator[bytes]:
        """The bytes of the part, block by block, up to the boundary, which stays."""
        while True:
            before, found, _ = self._held.partition(self._boundary)
            if found:
                self._held = self._held[len(before) :]
                yield before
                return
            safe = max(0, len(self._held) - len(self._boundary))
            block, self._held = self._held[:safe], self._held[safe:]
            if block:
                yield block
            if not await self._more():
                raise BadBody("a part has no end")
