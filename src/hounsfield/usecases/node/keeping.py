"""Keeping an instance for good: check it, fsync its file, commit its row, and only then say success.

Every way in (C-STORE, STOW-RS, the inbox folder) ends here. What is said is durable: the file is
on the disk under the digest of its content, its folder is, and the database is.
"""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from hounsfield.department import instances
from hounsfield.department.committing import GroupCommit
from hounsfield.department.database import Database
from hounsfield.department.files import InstanceFiles
from hounsfield.department.instances import NewInstance, Standing
from hounsfield.network import dimse
from hounsfield.network.received import Answer, Received
from hounsfield.network.uids import is_uid
from hounsfield.reading.elements import Malformed
from hounsfield.reading.headers import read_header
from hounsfield.reading.limits import Limits

_THREADS: Final = 8
_HEADER_LIMITS: Final = Limits(header_bytes=16 * 2**20, elements=200_000)
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_FULL: Final = Answer(dimse.OUT_OF_RESOURCES, "no space left")


class NotAcceptable(Exception):
    """An instance that must not be kept, with the status that says why."""

    def __init__(self, status: int, comment: str) -> None:
        super().__init__(status, comment)
        self.answer = Answer(status, comment)


def check(received: Received) -> NewInstance:
    """What the row of an instance says, from its own header; nothing of a person is among it.

    Raises
    ------
    NotAcceptable
        If the bytes are damaged, a UID is missing or malformed, or the data set is not the
        instance that the sender announced.
    """
    try:
        header, parsed = read_header(received.path, _HEADER_LIMITS)
    except (Malformed, RecursionError, MemoryError) as error:
        raise NotAcceptable(dimse.CANNOT_UNDERSTAND, _safe(str(error))) from None
    if parsed.length is not None and parsed.inflated_from is None and parsed.length > parsed.available:
        raise NotAcceptable(dimse.CANNOT_UNDERSTAND, "the pixel data end before their length")
    if parsed.transfer_syntax_uid != received.transfer_syntax_uid:
        raise NotAcceptable(dimse.CANNOT_UNDERSTAND, "the data set brings file meta information of its own")
    said = (header.get("SOPClassUID"), header.get("SOPInstanceUID"))
    if said != (received.sop_class_uid, received.sop_instance_uid):
        raise NotAcceptable(dimse.DOES_NOT_MATCH_CLASS, "the data set is not the instance of the command")
    uids = [str(header.get(name, "")) for name in ("StudyInstanceUID", "SeriesInstanceUID")]
    if not all(map(is_uid, uids)):
        raise NotAcceptable(dimse.DOES_NOT_MATCH_CLASS, "the study or series UID is missing or malformed")
    return NewInstance(
        sop_instance_uid=received.sop_instance_uid,
        sha256=received.sha256,
        size_bytes=received.size_bytes,
        sop_class_uid=received.sop_class_uid,
        study_uid=uids[0],
        series_uid=uids[1],
        modality=str(header.get("Modality", ""))[:16],
        transfer_syntax_uid=received.transfer_syntax_uid,
        calling_ae=received.calling_ae,
        host=received.host,
    )


def _safe(text: str) -> str:
    """Our own sentences hold tags and numbers only; a comment is at most 64 characters."""
    return text.encode("ascii", "replace").decode("ascii")[:64]


@dataclass
class Keeper:
    """Keeps instances from many senders at once.

    Attributes
    ----------
    counts
        How many instances ended in which standing, or were refused with which status.
    """

    database: Database
    files: InstanceFiles
    on_new: Callable[[], None] = lambda: None
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="keep")
        self._commits: GroupCommit[NewInstance, Standing] = GroupCommit(self._commit)

    async def keep(self, received: Received) -> Answer:
        """Keep one instance; the answer to a C-STORE. Never raises."""
        outcome: Future[Standing] = Future()
        try:
            self._commits.announce()
            self._pool.submit(self._place, received, outcome)
            standing = await asyncio.wrap_future(outcome)
        except NotAcceptable as refused:
            self.counts[f"refused-{refused.answer.status:04x}"] += 1
            return refused.answer
        except (OSError, SQLAlchemyError) as error:
            self.counts["refused-a700"] += 1
            known = isinstance(error, OSError) and error.errno in _NO_SPACE
            return _FULL if known else Answer(dimse.OUT_OF_RESOURCES, "the storage failed")
        finally:
            with suppress(OSError):
                received.path.unlink()
        self.counts[standing] += 1
        if standing == "new":
            self.on_new()
        return Answer(dimse.SUCCESS)

    def keep_now(self, received: Received) -> Answer:
        """As :meth:`keep`, for a caller without an event loop."""
        return asyncio.run(self.keep(received))

    def close(self) -> None:
        """Finish what is under way."""
        self._commits.close()
        self._pool.shutdown()

    def _place(self, received: Received, outcome: Future[Standing]) -> None:
        """Put the file where it stays and hand its row on; whoever waits is woken once, at the end."""
        try:
            checked = check(received)
            self.files.place(received.path, received.sha256)
        except Exception as error:
            self._commits.withdraw()
            if not outcome.cancelled():
                outcome.set_exception(error)
            return
        self._commits.submit(checked, outcome)

    def _commit(self, batch: Sequence[NewInstance]) -> list[Standing]:
        with self.database.write(alone=True) as connection:
            for one in batch:  # a sweep may have taken what was placed long before
                self.files.path(one.sha256).stat()
            return instances.register(connection, batch)
