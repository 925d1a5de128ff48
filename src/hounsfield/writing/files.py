"""Files that are either whole or not there: temporary name, fsync, rename."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hounsfield.errors import HounsfieldError, OutputError, OutputExists, ReadBackFailed


@dataclass(frozen=True)
class Written:
    """A file that was written, read back and compared.

    ``sop_class_uid`` and ``sop_instance_uid`` are ``None`` for files that are not DICOM.
    """

    path: Path
    kind: str
    sha256: str
    size_bytes: int
    sop_class_uid: str | None = None
    sop_instance_uid: str | None = None


@contextmanager
def whole_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Hand out a temporary name beside ``path``; on success fsync it and rename it.

    The temporary name keeps the suffixes of ``path``. Whatever goes wrong, nothing is left and
    what stood at ``path`` stays.

    Raises
    ------
    OutputExists
        If something stands at ``path`` and ``overwrite`` was not asked for.
    OutputError
        If the folder is missing, not writable or full.
    """
    if path.exists() and not overwrite:
        raise OutputExists("something stands there already", "choose another folder or ask to overwrite", path)
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        yield temporary
        _sync(temporary)
        _place(temporary, path, overwrite)
        _sync(path.parent)
    except OSError as error:
        raise _as_output_error(error, path) from error
    finally:
        with suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()


def _place(temporary: Path, path: Path, overwrite: bool) -> None:
    """Rename; without ``overwrite`` a file that appeared meanwhile is not replaced."""
    if overwrite:
        temporary.replace(path)
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise OutputExists(
            "something stands there already", "choose another folder or ask to overwrite", path
        ) from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        temporary.replace(path)  # a file system without hard links


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _as_output_error(error: OSError, path: Path) -> OutputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputError("the disk is full", "free some space or write elsewhere", path)
    if isinstance(error, FileNotFoundError):
        return OutputError("the folder does not exist", "create it first", path)
    reason = (error.strerror or type(error).__name__).lower()
    return OutputError(f"it could not be written ({reason})", "check the folder and its permissions", path)


def write_checked(
    path: Path, kind: str, write: Callable[[Path], None], check: Callable[[Path], None], *, overwrite: bool = False
) -> Written:
    """Write under a temporary name, read it back with ``check``, and only then give it its name.

    Raises
    ------
    ReadBackFailed
        If ``check`` finds a difference; nothing is left then.
    """
    with whole_file(path, overwrite=overwrite) as temporary:
        write(temporary)
        try:
            check(temporary)
        except HounsfieldError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the system failed, not the content (decoders raise OSError without a number)
            raise ReadBackFailed("what was written cannot be read", "report this; nothing was kept", path) from error
        digest, size = _digest(temporary)
    return Written(path, kind, digest, size)


def same(what: str, equal: bool, path: Path) -> None:
    """Raise ReadBackFailed naming ``what`` unless ``equal``."""
    if not equal:
        raise ReadBackFailed(f"{what} does not read back as it was written", "report this; nothing was kept", path)


def _digest(path: Path) -> tuple[str, int]:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest(), path.stat().st_size
