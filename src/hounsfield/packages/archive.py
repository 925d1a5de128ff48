"""A package as one ``.zip``: packed always the same, unpacked by an extractor that trusts nothing."""

from __future__ import annotations

import os
import re
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

from hounsfield.errors import NotReadable, OutputError, OutputExists, PackageInvalid, PackageRefused
from hounsfield.packages.inventory import DIGESTS, MOST_FILES, MOST_TOTAL_BYTES, SIGNATURE, opened, place_of, shown
from hounsfield.packages.package import ModelPackage

MOST_DIRECTORY_BYTES = 1024**2
MOST_RATIO = 200
_BLOCK = 1024**2
_DATE = (1980, 1, 1, 0, 0, 0)
_BAD = "do not use it: get the package again from its author"


def pack(package: ModelPackage, target: Path) -> Path:
    """Write a verified package as a zip file; equal packages give equal bytes.

    Raises
    ------
    OutputExists
        If ``target`` exists.
    OutputError
        If it cannot be written.
    """
    if target.exists():
        raise OutputExists(fact="something stands there already", remedy="choose another name", path=target)
    partial: Path | None = None
    names = sorted({*package.files, DIGESTS, *([SIGNATURE] if package.signature else [])})
    try:
        descriptor, partial_name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
        partial = Path(partial_name)
        with os.fdopen(descriptor, "w+b") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name in names:
                    _add(archive, package, name)
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(0o644)
        partial.rename(target)
    except OSError as error:
        raise OutputError(fact=f"it cannot be written ({error.strerror})", remedy="free space", path=target) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
    return target


def _add(archive: zipfile.ZipFile, package: ModelPackage, name: str) -> None:
    entry = zipfile.ZipInfo(f"{package.reference}/{name}", _DATE)
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    entry.create_system = 3
    with opened(package.root, name) as source:
        entry.file_size = source.seek(0, os.SEEK_END)
        source.seek(0)
        with archive.open(entry, "w", force_zip64=entry.file_size >= zipfile.ZIP64_LIMIT) as member:
            while block := source.read(_BLOCK):
                member.write(block)


def unpack(source: Path, stage: Path) -> None:
    """Extract a package's zip file into the empty folder ``stage``.

    Members are checked by name (closed list, one top folder or none), kind, count and declared size
    before anything is written; while reading, bytes are counted against the declared size.

    Raises
    ------
    NotReadable
        If it is no zip file, or is damaged.
    PackageRefused
        For paths out of the folder, links, encrypted, repeated or colliding members, other
        compression methods, or sizes that no package has.
    """
    try:
        with source.open("rb") as file:
            _check_directory(file, source)
            with zipfile.ZipFile(file) as archive:
                members = list(_members(archive.infolist(), source))
                for name, entry in members:
                    with archive.open(entry) as member:
                        _extract(member, stage / name, entry.file_size, source)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise NotReadable(fact="it is no zip file, or a damaged one", remedy=_BAD, path=source) from error
    except FileNotFoundError as error:
        raise NotReadable(fact="there is no such file", remedy="check the path", path=source) from error


def _check_directory(file: BinaryIO, source: Path) -> None:
    """Bound the central directory before :mod:`zipfile` builds it (APPNOTE 4.3.16)."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 65557))
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 22 > len(tail):
        raise NotReadable(fact="it is no zip file, or a damaged one", remedy=_BAD, path=source)
    if int.from_bytes(tail[at + 12 : at + 16], "little") > MOST_DIRECTORY_BYTES:
        raise PackageRefused(fact="the zip file lists more than a package can hold", remedy=_BAD, path=source)


def _members(entries: list[zipfile.ZipInfo], source: Path) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    """The files by their path in the package, in order, each checked by what the zip says of it."""
    if len(entries) > MOST_FILES:
        raise PackageRefused(fact=f"it has more than {MOST_FILES} members", remedy=_BAD, path=source)
    files = [entry for entry in entries if not entry.is_dir()]
    for entry in entries:
        _check_path(entry.filename, source)
        _check_member(entry, source)
    tops = {entry.filename.split("/")[0] for entry in files if "/" in entry.filename}
    inside = all("/" in entry.filename for entry in files) and len(tops) == 1 and not tops & {"graphs", "evidence"}
    prefix = f"{tops.pop()}/" if inside else ""
    seen: set[str] = set()
    for entry in files:
        name = entry.filename.removeprefix(prefix)
        if entry.file_size > _most_bytes(name, source):
            raise PackageRefused(fact=f"{shown(name)} is larger than allowed", remedy=_BAD, path=source)
        if name.casefold() in seen:
            raise PackageRefused(fact=f"{shown(name)} is in it twice", remedy=_BAD, path=source)
        seen.add(name.casefold())
        yield name, entry
    if sum(entry.file_size for entry in files) > MOST_TOTAL_BYTES:
        raise PackageRefused(fact="it is larger than a package may be", remedy=_BAD, path=source)


def _most_bytes(name: str, source: Path) -> int:
    try:
        return place_of(name).most_bytes
    except PackageRefused as error:
        raise PackageRefused(error.fact, error.remedy, source) from None


def _check_path(name: str, source: Path) -> None:
    parts = name.rstrip("/").split("/")
    if name.startswith("/") or "\\" in name or ":" in name or any(part in ("", ".", "..") for part in parts):
        raise PackageRefused(fact=f"the member {shown(name)} leads out of the folder", remedy=_BAD, path=source)
    if len(parts) > 3 or not re.fullmatch(r"[ -~]{1,250}", name):
        raise PackageRefused(fact=f"the member {shown(name)} has no place in a package", remedy=_BAD, path=source)


def _check_member(entry: zipfile.ZipInfo, source: Path) -> None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise PackageRefused(fact=f"the member {shown(entry.filename)} is a link or device", remedy=_BAD, path=source)
    if entry.flag_bits & 0x1:
        raise PackageRefused(fact=f"the member {shown(entry.filename)} is encrypted", remedy=_BAD, path=source)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise PackageRefused(fact="it is compressed in a way not read here", remedy="zip it with deflate", path=source)
    if entry.file_size > _BLOCK and entry.file_size > MOST_RATIO * max(1, entry.compress_size):
        raise PackageRefused(
            fact=f"the member {shown(entry.filename)} would grow more than {MOST_RATIO} times", remedy=_BAD, path=source
        )


def _extract(member: IO[bytes], target: Path, declared: int, source: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    count = 0
    with target.open("xb") as file:
        while block := member.read(_BLOCK):
            count += len(block)
            if count > declared:
                raise PackageInvalid(fact="a member is longer than the zip file says", remedy=_BAD, path=source)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    target.chmod(0o644)
