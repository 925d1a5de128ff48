"""Unpacking zip and tar archives of scans, safely.

Nothing of an archive reaches the disk but the bytes of its regular files. Each is written below
a folder of our own, in a numbered folder for each folder of the archive, under the hash of its
name: so no name in an archive can point anywhere, and only a suffix from a closed list is kept.
Links and devices are passed over, and an archive in an archive is not opened. The number of
files, their bytes in sum and the ratio of compression are bounded while reading, whatever the
archive says of itself.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, cast

from hounsfield.errors import InputError, LimitExceeded, NotReadable, UnsupportedEncoding
from hounsfield.reading.formats import ArchiveReader
from hounsfield.reading.jail import run_one
from hounsfield.reading.limits import MIB, Limits
from hounsfield.reading.refusals import answer_or_raise, refusal_or
from hounsfield.reading.stored import unpacked_name

_CHUNK: Final = 1 << 20
_RATIO_SLACK: Final = 64 * MIB  # small archives of plain phantoms shrink more than any ratio allows
_BLOCK: Final = 512
_NESTED: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".7z", ".rar")
_TAR_SUFFIXES: Final = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
_DAMAGED: Final = (EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile)


@dataclass
class _Quota:
    """What one archive may still unpack."""

    path: Path
    limits: Limits
    packed: int
    files: int = 0
    unpacked: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)

    def take_file(self) -> None:
        """Count one more entry."""
        self.files += 1
        if self.files > self.limits.files:
            raise LimitExceeded(
                f"the archive holds more than {self.limits.files:,} entries", "unpack it and give a part", self.path
            )

    def take_bytes(self, count: int) -> None:
        """Count bytes that were (or will be) unpacked."""
        self.unpacked += count
        if self.unpacked > self.limits.archive_bytes:
            raise LimitExceeded(
                f"it unpacks to more than {self.limits.archive_bytes / MIB:,.0f} MiB",
                "unpack it yourself and give a part",
                self.path,
            )
        if self.unpacked > self.limits.archive_ratio * self.packed + _RATIO_SLACK:
            raise LimitExceeded(
                f"it unpacks to more than {self.limits.archive_ratio} times its size, as archives do that are "
                "made to exhaust a machine",
                "if you trust it, unpack it yourself and give the folder",
                self.path,
            )


@dataclass
class _Shelf:
    """The folder that is filled."""

    folder: Path
    folders: dict[str, Path] = field(default_factory=dict)

    def place(self, name: str) -> Path | None:
        """Where to write the file of this name; ``None`` if the name was seen already."""
        parent, _, plain = name.replace("\\", "/").rpartition("/")
        if parent not in self.folders:
            self.folders[parent] = self.folder / f"{len(self.folders) + 1:06d}"
            self.folders[parent].mkdir(mode=0o700)
        path = self.folders[parent] / unpacked_name(plain)
        return None if path.exists() else path


def extract_archive(path: Path, folder: Path, limits: Limits) -> tuple[str, ...]:
    """Write the regular files of a zip or tar archive below ``folder``.

    Returns
    -------
    What was passed over, in plain words.

    Raises
    ------
    LimitExceeded
        If it holds more entries or bytes, or is packed more tightly, than ``limits`` allow.
    NotReadable
        If it is damaged or cut.
    UnsupportedEncoding
        If it is encrypted or packed by a method that is not read here.
    """
    quota = _Quota(path, limits, path.stat().st_size)
    shelf = _Shelf(folder)
    try:
        if _is_zip(path):
            _extract_zip(path, shelf, quota)
        else:
            _extract_tar(path, shelf, quota)
    except InputError:
        raise
    except _DAMAGED as error:
        raise NotReadable("the archive is damaged or cut", "copy it again from its source", path) from error
    except (NotImplementedError, RuntimeError) as error:
        raise UnsupportedEncoding(
            "the archive is packed by a method that is not read here", "pack it as zip or tar.gz", path
        ) from error
    except OSError as error:
        raise _disk_error(path, error) from error
    return tuple(f"{count} x {what}" for what, count in sorted(quota.passed_over.items()))


def _disk_error(path: Path, error: OSError) -> InputError:
    if error.errno:
        return LimitExceeded(
            f"it cannot be unpacked into the temporary folder ({error.strerror})", "free space, or set TMPDIR", path
        )
    return NotReadable("the archive is damaged or cut", "copy it again from its source", path)


def _extract_zip(path: Path, shelf: _Shelf, quota: _Quota) -> None:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            quota.take_file()
            mode = info.external_attr >> 16
            if info.is_dir() or not _is_wanted(info.filename, mode & 0o170000 in (0, 0o100000), quota):
                continue
            if info.flag_bits & 0x1:
                raise UnsupportedEncoding("the archive is encrypted", "unpack it and give the folder", path)
            with archive.open(info) as source:
                _write(source, info.filename, shelf, quota)


def _extract_tar(path: Path, shelf: _Shelf, quota: _Quota) -> None:
    end = 0
    with path.open("rb") as file, _inflated(file) as source:
        counted = _Counted(source, quota)
        with tarfile.open(fileobj=cast(IO[bytes], counted), mode="r|") as archive:
            for member in archive:
                quota.take_file()
                end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                if not member.isdir() and _is_wanted(member.name, member.isreg(), quota):
                    opened = archive.extractfile(member)
                    if opened is not None:
                        with opened:
                            _write(opened, member.name, shelf, quota, counted=True)
                archive.members = []  # type: ignore[attr-defined]  # tarfile would keep every header
        while counted.read(_CHUNK):
            pass
    if counted.total < end + _BLOCK:
        raise NotReadable("the archive has no end, so files are missing", "copy it again from its source", quota.path)


def _is_wanted(name: str, regular: bool, quota: _Quota) -> bool:
    """Whether an entry is unpacked; what is not is counted."""
    plain = name.replace("\\", "/").rpartition("/")[2].lower()
    if not regular:
        quota.passed_over["link or device in the archive"] += 1
        return False
    if plain.endswith(_NESTED):
        quota.passed_over["archive inside the archive, not opened"] += 1
        return False
    # what macOS adds to archives: resource forks that look like the files they belong to
    return not plain.startswith("._") and plain != ".ds_store"


def _write(source: IO[bytes], name: str, shelf: _Shelf, quota: _Quota, counted: bool = False) -> None:
    target = shelf.place(name)
    if target is None:
        quota.passed_over["second file of the same name"] += 1
        return
    with target.open("xb") as file:
        for chunk in iter(lambda: source.read(_CHUNK), b""):
            if not counted:
                quota.take_bytes(len(chunk))
            file.write(chunk)


class _Counted:
    """A stream of which every byte counts, read by tarfile or passed over."""

    def __init__(self, source: IO[bytes], quota: _Quota) -> None:
        self._source = source
        self._quota = quota
        self.total = 0

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; empty at the end."""
        data = self._source.read(size)
        self.total += len(data)
        self._quota.take_bytes(len(data))
        return data


def _inflated(file: IO[bytes]) -> Any:
    """The stream behind gzip, xz or bzip2, by its first bytes; or the file itself."""
    head = file.read(6)
    file.seek(0)
    if head[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=file, mode="rb")
    if head == b"\xfd7zXZ\0":
        return lzma.LZMAFile(file, "rb")
    if head[:3] == b"BZh":
        return bz2.BZ2File(file, "rb")
    return file


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(132)
    return head[:4] in (b"PK\x03\x04", b"PK\x05\x06") and head[128:132] != b"DICM"


def _is_tar(path: Path) -> bool:
    """Whether the name says tar, or the first (gunzipped) block is a tar header."""
    if path.name.lower().endswith(_TAR_SUFFIXES):
        return True
    try:
        with path.open("rb") as file:
            block = file.read(_BLOCK)
            if block[:2] == b"\x1f\x8b":
                file.seek(0)
                with gzip.GzipFile(fileobj=file, mode="rb") as source:
                    block = source.read(_BLOCK)
    except (*_DAMAGED, OSError):
        return False
    return block[257:262] == b"ustar" and block[128:132] != b"DICM"


def _extract_in_child(path: Path, folder: Path, limits: Limits) -> tuple[str, ...]:
    answer = run_one(lambda: refusal_or(lambda: {"passed_over": extract_archive(path, folder, limits)}), limits)
    return tuple(answer_or_raise(answer, path)["passed_over"])


READERS: Final = (
    ArchiveReader("zip", _is_zip, _extract_in_child),
    ArchiveReader("tar", _is_tar, _extract_in_child),
)
