"""Activations on disk: temporary files without a name, so that nothing is left even after kill -9.

Reads and writes go through ``pread``/``pwrite`` instead of a memory map: the pages then belong
to the system's cache, which it takes back when memory is short, and a full disk is an error
instead of a bus error.
"""

from __future__ import annotations

import errno
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import OutputError
from hounsfield.planning import format_bytes

_MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})


class Spill:
    """A folder for temporary activations; a context manager that closes all of them.

    Parameters
    ----------
    folder
        Where the files are made; the system's temporary folder by default.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = Path(tempfile.gettempdir()) if folder is None else folder
        self.bytes_now = 0
        self.peak_bytes = 0
        self.written_bytes = 0
        self._open: list[SpilledArray] = []

    def __enter__(self) -> Spill:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for array in list(self._open):
            array.close()

    def create(self, shape: tuple[int, int, int, int], dtype: np.dtype[Any]) -> SpilledArray:
        """A new array (channels, k, j, i), its space reserved at once.

        Raises
        ------
        OutputError
            If the folder cannot be written or its disk has too little space.
        """
        size = math.prod(shape) * dtype.itemsize
        try:
            handle = _nameless_file(self.folder)
        except OSError as error:
            raise self._failed(error, size) from error
        try:
            _reserve(handle, size)
        except OSError as error:
            os.close(handle)
            raise self._failed(error, size) from error
        array = SpilledArray(self, handle, shape, dtype)
        self._open.append(array)
        self.bytes_now += size
        self.peak_bytes = max(self.peak_bytes, self.bytes_now)
        return array

    def forget(self, array: SpilledArray) -> None:
        """Called by an array that was closed."""
        self._open.remove(array)
        self.bytes_now -= array.nbytes

    def _failed(self, error: OSError, size: int) -> OutputError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            fact = f"the disk of the temporary folder is full: {format_bytes(size)} more are needed"
            return OutputError(fact, "free space there, or name another folder for temporary files", self.folder)
        return OutputError(
            f"the temporary folder cannot be used ({error.strerror or error})",
            "name another folder for temporary files",
            self.folder,
        )


class SpilledArray:
    """An array (channels, k, j, i) in a nameless file, read and written in slabs along k."""

    def __init__(self, spill: Spill, handle: int, shape: tuple[int, int, int, int], dtype: np.dtype[Any]) -> None:
        self._spill = spill
        self._handle: int | None = handle
        self.shape = shape
        self.dtype = dtype
        self.nbytes = math.prod(shape) * dtype.itemsize

    def write(self, channels: slice, start: int, block: NDArray[Any]) -> None:
        """Store ``block`` (channels, slices, j, i) from slice ``start`` on.

        Raises
        ------
        OutputError
            If the disk is full or fails.
        """
        for offset, channel in zip(self._offsets(channels, start), block, strict=True):
            data = _bytes_of(np.ascontiguousarray(channel))
            while len(data):
                try:
                    written = os.pwrite(self._file(), data, offset)
                except OSError as error:
                    raise self._spill._failed(error, len(data)) from error
                self._spill.written_bytes += written
                offset, data = offset + written, data[written:]

    def read(self, start: int, stop: int, into: NDArray[Any]) -> None:
        """Read slices [start, stop) of all channels into ``into`` (channels, slices, j, i), contiguous.

        Raises
        ------
        OutputError
            If the disk fails.
        """
        wanted = into[:, : stop - start]
        for offset, channel in zip(self._offsets(slice(0, self.shape[0]), start), wanted, strict=True):
            data = _bytes_of(channel)
            while len(data):
                try:
                    count = os.preadv(self._file(), [data], offset)
                except OSError as error:
                    raise self._spill._failed(error, len(data)) from error
                if count == 0:
                    raise OutputError(
                        "a temporary file is shorter than what was written to it",
                        "check the disk of the temporary folder",
                        self._spill.folder,
                    )
                offset, data = offset + count, data[count:]

    def close(self) -> None:
        """Give the space back."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
            self._spill.forget(self)

    def _file(self) -> int:
        if self._handle is None:
            raise ValueError("the spilled array is closed")
        return self._handle

    def _offsets(self, channels: slice, start: int) -> Sequence[int]:
        _, k, j, i = self.shape
        row = j * i * self.dtype.itemsize
        return [(channel * k + start) * row for channel in range(*channels.indices(self.shape[0]))]


def _bytes_of(array: NDArray[Any]) -> memoryview:
    """The bytes of a contiguous array, without a copy; types that Python does not know included."""
    plain: Any = array.view(np.uint8).reshape(-1)
    return memoryview(plain)


def _nameless_file(folder: Path) -> int:
    flag = getattr(os, "O_TMPFILE", None)
    if flag is not None:
        try:
            return os.open(folder, flag | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT) or not folder.is_dir():
                raise
    handle, name = tempfile.mkstemp(dir=folder, prefix="hounsfield-")
    Path(name).unlink()
    return handle


def _reserve(handle: int, size: int) -> None:
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        os.ftruncate(handle, size)


def lies_in_memory(folder: Path, mounts: Path = Path("/proc/mounts")) -> bool:
    """Whether files of ``folder`` take memory instead of disk (tmpfs), as ``/tmp`` sometimes does."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    at = folder.resolve()
    best, kind = -1, ""
    for words in (line.split() for line in lines):
        if len(words) >= 3:
            point = Path(words[1].replace("\\040", " "))
            if (point == at or point in at.parents) and len(point.parts) >= best:
                best, kind = len(point.parts), words[2]
    return kind in _MEMORY_FILE_SYSTEMS
