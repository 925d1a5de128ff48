"""The inbox folder: a DICOM file put there is received like one from the network, then removed.

A file counts as finished when its size and time have not changed between two looks. One that is
not taken is moved to the folder ``refused``, with the reason beside it, and never touched again.
"""

from __future__ import annotations

import asyncio
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from hounsfield.network import dimse
from hounsfield.network.inbound import Inbound
from hounsfield.network.limits import NodeLimits
from hounsfield.network.part10 import data_set_start
from hounsfield.network.received import Answer, Received
from hounsfield.network.uids import is_uid
from hounsfield.reading.elements import Malformed
from hounsfield.reading.headers import read_header
from hounsfield.reading.limits import Limits
from hounsfield.usecases.node.keeping import Keeper
from hounsfield.usecases.node.opening import Node, log

LOOK_SECONDS: Final = 1.0
_HEADER_LIMITS: Final = Limits(header_bytes=16 * 2**20, elements=200_000)
_CHUNK: Final = 1 << 20

Seen = dict[Path, tuple[int, int]]


async def watch_inbox(node: Node, keeper: Keeper) -> None:
    """Receive what is put into the inbox, until cancelled."""
    from hounsfield.usecases.node.listening import limits_of

    limits, seen = limits_of(node), Seen()
    while True:
        ready, seen = await asyncio.to_thread(finished_files, node.inbox, seen)
        for path in ready:
            await _take(path, node, keeper, limits)
        await asyncio.sleep(LOOK_SECONDS)


def finished_files(folder: Path, seen: Seen) -> tuple[list[Path], Seen]:
    """Regular files that look as they looked last time, and how all look now."""
    now: Seen = {}
    for path in sorted(folder.rglob("*")):
        with suppress(OSError):
            facts = path.lstat()
            if stat.S_ISREG(facts.st_mode) and not path.name.startswith("."):
                now[path] = (facts.st_size, facts.st_mtime_ns)
    return [path for path, facts in now.items() if seen.get(path) == facts], now


async def _take(path: Path, node: Node, keeper: Keeper, limits: NodeLimits) -> None:
    received = await asyncio.to_thread(copy_in, path, node.files.incoming, limits)
    answer = received if isinstance(received, Answer) else await keeper.keep(received)
    if answer.status == dimse.SUCCESS:
        path.unlink(missing_ok=True)
    elif answer.status != dimse.OUT_OF_RESOURCES:  # with no space left it stays, and is tried again
        _set_aside(path, node.refused, answer)
    log("inbox", status=f"{answer.status:04X}", comment=answer.comment)


def copy_in(
    path: Path, incoming: Path, limits: NodeLimits, calling: str = "INBOX", host: str = "inbox"
) -> Received | Answer:
    """Copy the data set of a DICOM file into the incoming folder, under a head of our own.

    The preamble is not taken over: it may hold a program (PS3.10 7.5). So the file becomes the
    same, byte for byte, as if its data set had come over the network.
    """
    try:
        header, parsed = read_header(path, _HEADER_LIMITS)
        start = data_set_start(path)
    except (Malformed, OSError, RecursionError):
        return Answer(dimse.CANNOT_UNDERSTAND, "it is not DICOM, or damaged")
    names = (str(header.get("SOPClassUID", "")), str(header.get("SOPInstanceUID", "")), parsed.transfer_syntax_uid)
    if not all(map(is_uid, names)):
        return Answer(dimse.INVALID_INSTANCE, "a UID is missing or breaks the grammar of PS3.5 9.1")
    with Inbound(incoming, names, limits) as inbound, path.open("rb") as stream:
        stream.seek(start)
        while block := stream.read(_CHUNK):
            inbound.write(block)
        if inbound.problem:
            return Answer(inbound.problem, "no space left, or the instance is too large")
        digest = inbound.keep()
    return Received(inbound.path, digest, inbound.size_bytes, names[0], names[1], names[2], calling, host)


def _set_aside(path: Path, refused: Path, answer: Answer) -> None:
    """Move a file to the folder ``refused`` under a new name; its old one may say who it is about."""
    name = refused / f"{secrets.token_hex(8)}.dcm"
    with suppress(OSError):
        path.rename(name)
        name.with_suffix(".txt").write_text(f"{answer.status:04X} {answer.comment}\n", encoding="ascii")
        name.chmod(0o600)
