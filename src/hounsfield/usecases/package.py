"""Build, verify, install, pack and check model packages."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hounsfield.errors import OutputExists, PackageError, PackageInvalid, PackageNotFound
from hounsfield.packages import Manifest, ModelPackage, build, install, pack, parse_manifest, verify
from hounsfield.packages.archive import unpack
from hounsfield.packages.building import staged
from hounsfield.packages.inventory import DIGESTS, MANIFEST, SIGNATURE, take_inventory
from hounsfield.usecases.events import Note, OnEvent, silent


@dataclass(frozen=True)
class BuildRequest:
    """A folder laid out like a package, without digests, and where the package goes.

    Parameters
    ----------
    source
        Folder with ``manifest.toml``, ``card.md``, ``graphs/`` ...; read only.
    output
        The folder that will hold the package folder.
    private_key
        PEM file with an ed25519 key, to sign with.
    zip_too
        Also write ``<id>-<version>.zip`` beside it.
    """

    source: Path
    output: Path
    private_key: Path | None = None
    zip_too: bool = False


@dataclass(frozen=True)
class PackageResult:
    """A package that passed every check, and its zip file if one was asked for."""

    package: ModelPackage
    archive: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return {
            "reference": self.package.reference,
            "root": str(self.package.root),
            "digest": self.package.digest,
            "signed": self.package.signed,
            "precisions": list(self.package.precisions),
            "size_bytes": self.package.size_bytes,
            "files": dict(self.package.files),
            "archive": None if self.archive is None else str(self.archive),
        }


def build_package(request: BuildRequest, on_event: OnEvent = silent) -> PackageResult:
    """Build a package from a folder; see :func:`hounsfield.packages.build`.

    Raises
    ------
    PackageNotFound, PackageInvalid, PackageRefused, OutputExists, OutputError
        Nothing is left behind.
    """
    names = set(take_inventory(request.source)) - {MANIFEST, DIGESTS, SIGNATURE}
    manifest = _manifest_bytes(request.source / MANIFEST)
    archive = request.output / f"{parse_manifest(manifest, request.source / MANIFEST).reference}.zip"
    if request.zip_too and archive.exists():
        raise OutputExists(fact="something stands there already", remedy="move it away first", path=archive)
    files: dict[str, Path | bytes] = {name: request.source / name for name in names}
    package = build(request.output, manifest, files, private_key=request.private_key)
    on_event(Note(f"every check passed: {len(package.files)} files, {package.signed}"))
    return PackageResult(package, pack(package, archive) if request.zip_too else None)


@dataclass(frozen=True)
class VerifyRequest:
    """A package folder or zip file, and the public key that must have signed it, if any."""

    path: Path
    trusted_key: Path | None = None


def verify_package(request: VerifyRequest, on_event: OnEvent = silent) -> PackageResult:
    """Check everything about a package; nothing is installed.

    Raises
    ------
    PackageNotFound, PackageInvalid, PackageRefused, NotReadable
        The first thing found wrong.
    """
    return _with_folder(request.path, lambda root: PackageResult(verify(root, trusted_key=request.trusted_key)))


@dataclass(frozen=True)
class InstallRequest:
    """What to install; ``store`` None means the user's own."""

    path: Path
    trusted_key: Path | None = None
    store: Path | None = None


def install_package(request: InstallRequest, on_event: OnEvent = silent) -> PackageResult:
    """Verify and copy into the store; see :func:`hounsfield.packages.install`."""
    return PackageResult(install(request.path, store=request.store, trusted_key=request.trusted_key))


@dataclass(frozen=True)
class CheckRequest:
    """A ``manifest.toml`` by itself, while it is being written."""

    path: Path


@dataclass(frozen=True)
class CheckResult:
    """The manifest as it is understood."""

    manifest: Manifest

    def as_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return {"reference": self.manifest.reference, "manifest": self.manifest.model_dump(mode="json")}


def check_manifest(request: CheckRequest) -> CheckResult:
    """Check a manifest without a package.

    Raises
    ------
    PackageNotFound, PackageInvalid, PackageRefused
        With the key that is wrong, and what may be meant.
    """
    path = request.path / MANIFEST if request.path.is_dir() else request.path
    return CheckResult(parse_manifest(_manifest_bytes(path), path))


def _manifest_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(1024**2)
    except FileNotFoundError as error:
        raise PackageNotFound(fact="there is no such manifest", remedy="check the path", path=path) from error
    except OSError as error:
        fact = f"the manifest cannot be read ({error.strerror})"
        raise PackageInvalid(fact=fact, remedy="check the rights", path=path) from error


def _with_folder(path: Path, use: Callable[[Path], PackageResult]) -> PackageResult:
    """Use a package folder, or a zip file's content in a temporary one that is removed again."""
    if not path.is_file():
        return use(path)
    with tempfile.TemporaryDirectory(prefix="hounsfield-") as scratch, staged(Path(scratch), path.name) as stage:
        unpack(path, stage)
        try:
            result = use(stage)
        except PackageError as error:
            inside = stage if error.path is None else error.path
            raise type(error)(error.fact, error.remedy, path / inside.relative_to(stage)) from error.__cause__
        return replace(result, package=replace(result.package, root=path))
