"""Instances as files named by the digest of their content: written once, never changed."""

from __future__ import annotations

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

        Its content is there before its name: what may stand under the name already, the same content
        or what was torn in an earlier time, is never replaced by less.
        """
        final = self.path(sha256)
        _sync(part)
        part.replace(final)
        _sync(final.parent)

    def stray(self, older_than_s: float) -> Iterator[Path]:
        """Files not touched for so long, in both folders: what no row names may be removed."""
        youngest = time.time() - older_than_s
        for folder in (self.incoming, self.root / "instances"):
            for entry in folder.rglob("*"):
                with suppress(FileNotFoundError):
                    if entry.is_file() and entry.stat().st_mtime < youngest:
                        yield entry


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
