"""Build a package folder: all or nothing, the same bytes for the same content."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hounsfield.errors import OutputError, OutputExists, PackageError, PackageInvalid, PackageRefused
from hounsfield.packages import digests
from hounsfield.packages.inventory import DIGESTS, MANIFEST, SIGNATURE, place_of
from hounsfield.packages.manifest import Manifest
from hounsfield.packages.manifest_text import manifest_toml, parse_manifest
from hounsfield.packages.package import ModelPackage
from hounsfield.packages.signature import sign
from hounsfield.packages.verifying import verify

Source = Path | bytes


def build(
    folder: str | Path,
    manifest: Manifest | str | bytes,
    files: Mapping[str, Source],
    *,
    private_key: Path | None = None,
) -> ModelPackage:
    """Write ``folder/<id>-<version>``, verify it, and only then give it its name.

    Parameters
    ----------
    folder
        The folder that will hold the package folder; made if absent.
    manifest
        The manifest, or its TOML text.
    files
        Every other file by its path in the package (``graphs/fp32.onnx``, ``card.md`` ...): a file
        to copy, or the bytes. ``digests.json`` is made here.
    private_key
        A PEM file with an ed25519 key, to sign with.

    Raises
    ------
    PackageInvalid, PackageRefused
        If what was given does not make a package; nothing is left behind.
    OutputExists
        If another package with this name stands there. (The same package is simply returned.)
    OutputError
        If it cannot be written.
    """
    text = manifest_toml(manifest) if isinstance(manifest, Manifest) else manifest
    data = text.encode("utf-8") if isinstance(text, str) else text
    name = parse_manifest(data, Path(MANIFEST)).reference
    for given in files:
        place_of(given)
        if given in (MANIFEST, DIGESTS, SIGNATURE):
            raise PackageInvalid(fact=f"{given} is made by the build", remedy="leave it out of the files")
        _check_source(given, files[given])
    with staged(Path(folder), name) as stage:
        table: dict[str, str] = {}
        for path, source in sorted({**files, MANIFEST: data}.items()):
            write_synced(stage / path, source)
            table[path] = digests.sha256_of(stage, path)
        write_synced(stage / DIGESTS, digests.encode(table))
        if private_key is not None:
            write_synced(stage / SIGNATURE, sign(digests.encode(table), private_key))
        return settle(verify(stage), Path(folder) / name)


def _check_source(name: str, source: Source) -> None:
    most = place_of(name).most_bytes
    if isinstance(source, Path) and not source.is_file():
        raise PackageInvalid(fact=f"there is no such file for {name}", remedy="check the path", path=source)
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size > most:
        raise PackageRefused(fact=f"{name} would have {size} bytes, more than {most}", remedy="make it smaller")


@contextmanager
def staged(folder: Path, name: str) -> Iterator[Path]:
    """A temporary package folder beside its place, removed on leaving unless it was settled.

    Raises
    ------
    OutputError
        If the disk refuses; whatever was written is removed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".partial", dir=folder))
    except OSError as error:
        raise OutputError(
            fact=f"it cannot be written ({error.strerror})", remedy="choose another folder", path=folder
        ) from error
    try:
        yield stage
    except PackageError as error:
        if error.path is None or not error.path.is_relative_to(stage):
            raise
        place = folder / name / error.path.relative_to(stage)
        raise type(error)(error.fact, error.remedy, place) from error.__cause__
    except OSError as error:
        raise OutputError(
            fact=f"the package cannot be written ({error.strerror})",
            remedy="free space or check the rights",
            path=folder,
        ) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def settle(package: ModelPackage, target: Path) -> ModelPackage:
    """Give a staged, verified package its name; the same content already there is left as it is.

    Raises
    ------
    OutputExists
        If something else stands at ``target``.
    """
    if target.is_symlink() or target.exists():
        return _same_or_refuse(package, target)
    package.root.chmod(0o755)
    for folder in (*(entry for entry in package.root.iterdir() if entry.is_dir()), package.root):
        sync_folder(folder)
    try:
        package.root.rename(target)
    except OSError:
        if target.exists():
            return _same_or_refuse(package, target)
        raise
    sync_folder(target.parent)
    return replace(package, root=target)


def _same_or_refuse(package: ModelPackage, target: Path) -> ModelPackage:
    try:
        there = verify(target)
    except PackageError as error:
        raise OutputExists(
            fact="something else stands there already", remedy="move it away first", path=target
        ) from error
    if there.digest != package.digest:
        raise OutputExists(
            fact=f"another package with the reference {package.reference} stands there",
            remedy="raise the version, or remove the other one",
            path=target,
        )
    return there


def write_synced(path: Path, source: Source) -> None:
    """Write bytes, or a copy of a file, and force them to the disk; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as target:
        if isinstance(source, bytes):
            target.write(source)
        else:
            with source.open("rb") as origin:
                shutil.copyfileobj(origin, target, 4 * 1024**2)
        target.flush()
        os.fsync(target.fileno())
    path.chmod(0o644)


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
