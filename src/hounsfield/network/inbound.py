"""An instance on its way from the network to a file of the incoming folder."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from hounsfield.network.dimse import OUT_OF_RESOURCES, TOO_LARGE
from hounsfield.network.limits import NodeLimits
from hounsfield.network.part10 import file_head

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENFILE, errno.EMFILE)


class Inbound:
    """Writes fragments as they come; once something is wrong the rest is passed over.

    Use it as a context manager: unless :meth:`keep` was called the file is removed.

    Parameters
    ----------
    folder
        The incoming folder, on the file system where instances are kept.

    Attributes
    ----------
    problem
        The status to answer with instead of keeping the instance, or 0.
    """

    def __init__(self, folder: Path, names: tuple[str, str, str], limits: NodeLimits) -> None:
        self.path = folder / f"{secrets.token_hex(16)}.part"
        self.size_bytes = 0
        self.problem = 0
        self._limits = limits
        self._digest = hashlib.sha256()
        self._kept = False
        self._handle = -1
        try:
            space = os.statvfs(folder)
            if space.f_bavail * space.f_frsize < limits.reserve_bytes:
                self.problem = OUT_OF_RESOURCES
                return
            self._handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._failed(error)
        self.write(file_head(*names))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if not self._kept:
            with suppress(OSError):
                self.path.unlink()

    def write(self, fragment: bytes | memoryview) -> None:
        """Add one fragment."""
        self.size_bytes += len(fragment)
        if self.problem:
            return
        if self.size_bytes > self._limits.instance_bytes:
            self.problem = TOO_LARGE
            return
        self._digest.update(fragment)
        try:
            rest = memoryview(fragment)
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError as error:
            self._failed(error)

    @property
    def is_beyond_patience(self) -> bool:
        """Whether the peer goes on and on with what is too large anyway."""
        return self.size_bytes > 2 * self._limits.instance_bytes

    def keep(self) -> str:
        """Close the file and leave it where it is; the digest of all that was written."""
        self._close()
        self._kept = True
        return self._digest.hexdigest()

    def _failed(self, error: OSError) -> None:
        if error.errno not in _FULL:
            raise error
        self.problem = OUT_OF_RESOURCES

    def _close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
