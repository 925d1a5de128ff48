"""Where packages live: those shipped inside hounsfield, and the user's own store.

A package is verified completely when it is installed; its digest is then written beside it (the
receipt), so that opening it later needs only the hashes: every file is still compared. Without
a fitting receipt, and for a folder anywhere else, the complete check is made again. Shipped
packages are as trusted as the code beside them, and are hashed too.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hounsfield.errors import NotReadable, PackageError, PackageNotFound
from hounsfield.packages.archive import unpack
from hounsfield.packages.building import settle, staged, write_synced
from hounsfield.packages.inventory import MANIFEST, shown, take_inventory
from hounsfield.packages.package import ModelPackage
from hounsfield.packages.verifying import CHECKS_VERSION, open_verified, verify
from hounsfield.settings import load_settings

SHIPPED = Path(__file__).parent / "shipped"
_REFERENCE = re.compile(r"(?P<id>[a-z0-9]+(?:-[a-z0-9]+)*)-(?P<version>\d+\.\d+\.\d+)")
_RECEIPTS = ".receipts"


@dataclass(frozen=True)
class Installed:
    """A package that is there, or the reason why it cannot be used.

    Parameters
    ----------
    reference
        ``id-version``, its folder's name.
    root
        Its folder.
    source
        ``shipped`` or ``store``.
    package
        None if it cannot be used; then ``problem`` says why in one line.
    """

    reference: str
    root: Path
    source: str
    package: ModelPackage | None
    problem: str = ""


def installed(store: Path | None = None) -> tuple[Installed, ...]:
    """All packages shipped and in the store, sorted by id and version; broken ones with the reason.

    Parameters
    ----------
    store
        The folder of the user's packages; by default ``packages`` in the home folder.
    """
    return tuple(_opened(*found) for found in _candidates(_store(store)))


def open_package(path_or_reference: str | Path, *, store: Path | None = None) -> ModelPackage:
    """Open a package by ``id`` (its highest version), ``id-version``, or the path of its folder.

    A text with a ``/``, or a :class:`Path`, is always a path; any other text is looked up first
    among the installed packages.

    Raises
    ------
    PackageNotFound
        If nothing fits; the remedy names what is there.
    PackageInvalid, PackageRefused
        If it does not pass the checks.
    """
    text = str(path_or_reference)
    if isinstance(path_or_reference, Path) or "/" in text or "\\" in text:
        return _open_path(Path(path_or_reference))
    candidates = list(_candidates(_store(store)))
    fitting = [found for found in candidates if text in (found[0], _split(found[0])[0])]
    if fitting:
        return _open(*max(fitting, key=lambda found: (_split(found[0])[1], found[2] == "store")))
    if Path(text).is_dir():
        return _open_path(Path(text))
    names = ", ".join(sorted({found[0] for found in candidates})) or "none"
    raise PackageNotFound(
        fact=f"no package {shown(text)} is installed", remedy=f"give a folder, or one of those installed: {names}"
    )


def install(source: str | Path, *, store: Path | None = None, trusted_key: Path | None = None) -> ModelPackage:
    """Copy a package folder or ``.zip`` into the store, verify the copy, and only then name it.

    Installing what is installed already changes nothing.

    Parameters
    ----------
    source
        A package folder, or its zip file.
    store
        As for :func:`installed`.
    trusted_key
        A PEM public key that must have signed it.

    Raises
    ------
    PackageNotFound, NotReadable
        If there is nothing to install, or the zip file is damaged.
    PackageInvalid, PackageRefused
        If it does not pass the checks; nothing is left behind.
    OutputExists
        If other content with the same reference is installed.
    """
    origin, folder = Path(source), _store(store)
    if not origin.exists():
        raise PackageNotFound(fact="there is no such file or folder", remedy="check the path", path=origin)
    with staged(folder, "install") as stage:
        try:
            _fill(origin, stage)
            package = verify(stage, trusted_key=trusted_key)
        except (PackageError, NotReadable) as error:
            raise type(error)(error.fact, error.remedy, _named_after(error.path, stage, origin)) from error.__cause__
        settled = settle(package, folder / package.reference)
    _write_receipt(settled)
    return settled


def _fill(origin: Path, stage: Path) -> None:
    if origin.is_dir():
        for name in take_inventory(origin):
            write_synced(stage / name, origin / name)
    else:
        unpack(origin, stage)


def _named_after(path: Path | None, stage: Path, origin: Path) -> Path:
    if path is None or not path.is_relative_to(stage):
        return path or origin
    return origin / path.relative_to(stage)


def _store(store: Path | None) -> Path:
    return load_settings().packages if store is None else store


def _candidates(store: Path) -> Iterator[tuple[str, Path, str]]:
    """Folders named like a reference: (reference, folder, source), sorted."""
    found = [
        (entry.name, entry, source)
        for source, folder in (("shipped", SHIPPED), ("store", store))
        if folder.is_dir()
        for entry in folder.iterdir()
        if _REFERENCE.fullmatch(entry.name) and entry.is_dir() and not entry.is_symlink()
    ]
    yield from sorted(found, key=lambda item: (*_split(item[0]), item[2]))


def _split(reference: str) -> tuple[str, tuple[int, ...]]:
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        return reference, ()
    return match["id"], tuple(int(part) for part in match["version"].split("."))


def _opened(reference: str, root: Path, source: str) -> Installed:
    try:
        return Installed(reference, root, source, _open(reference, root, source))
    except PackageError as error:
        return Installed(reference, root, source, None, str(error))


def _open(reference: str, root: Path, source: str) -> ModelPackage:
    package = open_verified(root)
    if source != "shipped" and not _receipt_fits(package):
        package = verify(root)
        _write_receipt(package)
    if package.reference != reference:
        raise PackageNotFound(
            fact=f"the folder {reference} holds {package.reference}", remedy="install the package again", path=root
        )
    return package


def _open_path(path: Path) -> ModelPackage:
    if path.is_file():
        if path.name == MANIFEST:
            return verify(path.parent)
        raise PackageNotFound(
            fact="it is a file, not a package folder", remedy="install it: hounsfield package install FILE", path=path
        )
    return verify(path)


def _receipt_path(package: ModelPackage) -> Path:
    return package.root.parent / _RECEIPTS / f"{package.root.name}.json"


def _receipt_fits(package: ModelPackage) -> bool:
    try:
        receipt = json.loads(_receipt_path(package).read_bytes()[:4096])
    except (OSError, ValueError):
        return False
    return bool(receipt == {"digest": package.digest, "checks": CHECKS_VERSION})


def _write_receipt(package: ModelPackage) -> None:
    """Note that the content was verified; where that cannot be written, it is verified next time again."""
    path = _receipt_path(package)
    data = json.dumps({"digest": package.digest, "checks": CHECKS_VERSION}).encode("ascii")
    partial = path.with_suffix(".partial")
    try:
        partial.unlink(missing_ok=True)
        write_synced(partial, data)
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
