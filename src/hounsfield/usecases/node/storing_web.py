"""STOW-RS without HTTP: parts of a multipart body, as they come, become received instances (PS3.18 10.5)."""

from __future__ import annotations

import asyncio
import os
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
_AT_ONCE: Final = 8
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
    """Receive every part into a file, keep it, and say what became of each, in their order.

    While parts are being kept the next one is received, so that one commit serves several.

    Raises
    ------
    BadBody
        If the body is cut or malformed; parts before that are kept, as the answer cannot say.
    """
    reader, kept, places = _Parts(body, boundary), list[asyncio.Task[Stored]](), asyncio.Semaphore(_AT_ONCE)

    async def keep(path: Path, full: bool) -> Stored:
        try:
            return await _keep(path, full, node, keeper, calling, host)
        finally:
            path.unlink(missing_ok=True)
            places.release()

    try:
        while await reader.next_part():
            if len(kept) >= _MOST_PARTS:
                raise BadBody(f"there are more than {_MOST_PARTS} parts")
            await places.acquire()
            path = node.files.incoming / f"{secrets.token_hex(16)}.part"
            full = await _receive(reader, path, limits_of(node).instance_bytes)
            kept.append(asyncio.create_task(keep(path, full)))
    finally:
        found = await asyncio.gather(*kept, return_exceptions=True)
    if not kept:
        raise BadBody("there is no part")
    return [_said(one) for one in found]


def _said(one: Stored | BaseException) -> Stored:
    if isinstance(one, BaseException):
        raise one
    return one


async def _receive(reader: _Parts, path: Path, most: int) -> bool:
    """Write one part to a file; whether the disk was full. The part is read to its end in any case."""
    size, file = 0, _opened(path)
    full = file is None
    try:
        async for block in reader.content():
            size += len(block)
            if size > most:
                raise BadBody("an instance is larger than allowed")
            full = full or not _wrote(file, block)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        if file is not None:
            os.close(file)
    return full


def _opened(path: Path) -> int | None:
    """A new file for writing; ``None`` when there is no room for it."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError:
        return None


def _wrote(file: int | None, block: bytes) -> bool:
    """Whether all of a block found room (write(2) writes a part of it when there is room for a part)."""
    try:
        return file is not None and os.write(file, block) == len(block)
    except OSError:
        return False


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
