"""Instances as files named by the digest of their content: written once, never changed."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hounsfield.errors import SettingsError


@dataclass(frozen=True)
class InstanceFiles:
    """The folder of the instances, and beside it that of what is being received."""

    root: Path

    @property
    def incoming(self) -> Path:
        """Where files grow before they are kept; on the same file system."""
        return self.root / "incoming"

    def prepare(self) -> None:
        """Make the folders, readable to their owner only.

        Raises
        ------
        SettingsError
            If they cannot be made.
        """
        try:
            self.incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
            for number in range(256):
                (self.root / "instances" / f"{number:02x}").mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            fact = f"the folder of the node cannot be made ({error.strerror})"
            raise SettingsError(fact, "choose another with --data", self.root) from error

    def path(self, sha256: str) -> Path:
        """Where the content with this digest is, or would be."""
        return self.root / "instances" / sha256[:2] / f"{sha256}.dcm"

    def place(self, part: Path, sha256: str) -> None:
        """Give a received file its name, and return when both are on the disk.

        A file that stands there already, from an earlier time that ended before the database
        knew of it, is used if its content is right, and replaced if it is torn.
        """
        final = self.path(sha256)
        try:
            os.link(part, final)
        except FileExistsError:
            if _digest(final) == sha256:
                os.utime(final)
            else:
                part.replace(final)
        _sync(final)
        _sync(final.parent)
        with suppress(FileNotFoundError):
            part.unlink()

    def stray(self, older_than_s: float) -> Iterator[Path]:
        """Files not touched for so long, in both folders: what no row names may be removed."""
        youngest = time.time() - older_than_s
        for folder in (self.incoming, self.root / "instances"):
            for entry in folder.rglob("*"):
                with suppress(FileNotFoundError):
                    if entry.is_file() and entry.stat().st_mtime < youngest:
                        yield entry


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
