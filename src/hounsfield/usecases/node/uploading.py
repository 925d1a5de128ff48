"""Files that a person adds on the page: one DICOM file, or an archive of them, kept like any instance."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hounsfield.audit import AuditEvent
from hounsfield.department import instances, studies
from hounsfield.errors import InputError, OutputError
from hounsfield.network import dimse
from hounsfield.network.received import Received
from hounsfield.reading import Limits
from hounsfield.reading.formats import archive_for
from hounsfield.usecases.node.inbox import copy_in
from hounsfield.usecases.node.keeping import Keeper
from hounsfield.usecases.node.listening import limits_of
from hounsfield.usecases.node.opening import Node

MOST_BYTES: Final = 64 * 2**30
_MOST_REASONS: Final = 5
_PACKED: Final = {b"\xfd7zXZ\0": ".tar.xz", b"BZh": ".tar.bz2"}


@dataclass(frozen=True)
class Uploaded:
    """What became of the files of one upload, and to which studies those belong that were kept."""

    kept: int
    refused: int
    reasons: tuple[str, ...] = ()
    studies: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As data."""
        return {
            "kept": self.kept,
            "refused": self.refused,
            "reasons": list(self.reasons),
            "studies": list(self.studies),
        }


async def upload(node: Node, keeper: Keeper, body: AsyncIterator[bytes], who: str, host: str) -> Uploaded:
    """Keep one uploaded file, or every DICOM file of an archive.

    Raises
    ------
    OutputError
        If there is no room for it.
    InputError
        If it is an archive that is damaged, or holds more than is allowed.
    """
    path = node.files.incoming / f"{secrets.token_hex(16)}.part"
    try:
        await _receive(body, path)
        path = _named(path)
        return await _keep_all(path, node, keeper, who, host)
    finally:
        path.unlink(missing_ok=True)


def _named(path: Path) -> Path:
    """The file under a name that tells a packed tar, which has no other mark before it is unpacked."""
    with path.open("rb") as stream:
        head = stream.read(6)
    suffix = next((name for magic, name in _PACKED.items() if head.startswith(magic)), "")
    return path.rename(path.with_name(path.name + suffix)) if suffix else path


async def _receive(body: AsyncIterator[bytes], path: Path) -> None:
    size = 0
    try:
        with path.open("xb") as stream:
            async for block in body:
                size += len(block)
                if size > MOST_BYTES:
                    raise OutputError("the file is larger than 64 GiB", "send it from a scanner or PACS")
                stream.write(block)
    except OSError as error:
        raise OutputError("there is no room for the file", "free some space on the node") from error


async def _keep_all(path: Path, node: Node, keeper: Keeper, who: str, host: str) -> Uploaded:
    """Keep what the file is or holds; archives are unpacked where their content can do no harm."""
    from tempfile import TemporaryDirectory

    counts: Counter[str] = Counter()
    reasons: list[str] = []
    kept: list[str] = []
    with TemporaryDirectory(prefix=".upload-", dir=node.work) as folder:
        files = [path]
        archive = archive_for(path)
        if archive is not None:
            await asyncio.to_thread(archive.extract, path, Path(folder), Limits())
            files = sorted(one for one in Path(folder).rglob("*") if one.is_file())
            if not files:
                raise InputError("the archive holds no file", "add the DICOM files themselves")
        for one in files:
            uid, reason = await _keep(one, node, keeper, host)
            kept += [] if reason else [uid]
            counts["refused" if reason else "kept"] += 1
            if reason and reason not in reasons and len(reasons) < _MOST_REASONS:
                reasons.append(reason)
    with node.database.read() as connection:
        theirs = instances.studies_of(connection, kept)
    made = Uploaded(counts["kept"], counts["refused"], tuple(reasons), tuple(theirs))
    event = {"host": host, "kept": made.kept, "refused": made.refused}
    node.audit(AuditEvent("import", who, event, 4 if made.refused else 0))
    return made


async def _keep(path: Path, node: Node, keeper: Keeper, host: str) -> tuple[str, str]:
    """Keep one file: its SOP Instance UID, and why it was not kept or nothing."""
    received = await asyncio.to_thread(copy_in, path, node.files.incoming, limits_of(node), "UPLOAD", host)
    if not isinstance(received, Received):
        return "", received.comment or f"status {received.status:04X}"
    answer = await keeper.keep(received)
    good = answer.status == dimse.SUCCESS
    return received.sop_instance_uid, "" if good else answer.comment or f"status {answer.status:04X}"


def finish_upload(node: Node, study_uids: Sequence[str]) -> int:
    """Say that nothing more of these studies will be uploaded, so that nobody waits for it; how many there are."""
    found = 0
    with node.database.write() as connection:
        for uid in study_uids:
            rows = studies.listed(connection, study_uid=uid, most=1)
            found += bool(rows) and studies.expect(connection, uid, rows[0].revision)
    return found
