"""Which model packages are here, and what one of them is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hounsfield.packages import Installed, ModelPackage, installed, open_package


@dataclass(frozen=True)
class ModelRow:
    """One line of the table of models.

    Parameters
    ----------
    evidence
        A summary per precision that has evidence; the others are unproven.
    problem
        Why the package cannot be used; empty if it can. Then the other facts are empty.
    """

    reference: str
    id: str
    version: str
    source: str
    title: str = ""
    task: str = ""
    precisions: tuple[str, ...] = ()
    size_bytes: int = 0
    evidence: tuple[tuple[str, str], ...] = ()
    signed: str = ""
    digest: str = ""
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return {
            **{key: getattr(self, key) for key in self.__dataclass_fields__},
            "precisions": list(self.precisions),
            "evidence": dict(self.evidence),
        }


@dataclass(frozen=True)
class ListRequest:
    """The store to list; None means the user's own."""

    store: Path | None = None


@dataclass(frozen=True)
class ListResult:
    """The packages found, sorted by id and version."""

    models: tuple[ModelRow, ...]


def list_models(request: ListRequest | None = None) -> ListResult:
    """List the packages shipped with hounsfield and those in the store, broken ones too."""
    store = None if request is None else request.store
    return ListResult(tuple(_row(found) for found in installed(store)))


@dataclass(frozen=True)
class ShowRequest:
    """A package by id, ``id-version`` or folder."""

    model: str | Path
    store: Path | None = None


@dataclass(frozen=True)
class ShowResult:
    """A package, its line of the table, and its card (Markdown)."""

    package: ModelPackage
    row: ModelRow
    card: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``: the line, the manifest, all evidence, the card."""
        package = self.package
        evidence = {name: package.evidence(name) for name in package.precisions}
        return {
            **self.row.as_dict(),
            "root": str(package.root),
            "manifest": package.manifest.model_dump(mode="json", exclude_none=True),
            "evidence_details": {
                name: item.model_dump(mode="json", exclude_none=True) for name, item in evidence.items() if item
            },
            "files": dict(package.files),
            "card": self.card,
        }


def show_model(request: ShowRequest) -> ShowResult:
    """Open one package and say all about it.

    Raises
    ------
    PackageNotFound, PackageInvalid, PackageRefused
        As :func:`hounsfield.packages.open_package`.
    """
    package = open_package(request.model, store=request.store)
    return ShowResult(package, package_row(package, "folder"), package.card())


def package_row(package: ModelPackage, source: str) -> ModelRow:
    """The table's line of a usable package."""
    found = ((name, package.evidence(name)) for name in package.precisions)
    return ModelRow(
        reference=package.reference,
        id=package.manifest.id,
        version=package.manifest.version,
        source=source,
        title=package.manifest.title,
        task=package.manifest.task,
        precisions=package.precisions,
        size_bytes=package.size_bytes,
        evidence=tuple((name, item.summary()) for name, item in found if item is not None),
        signed=package.signed,
        digest=package.digest,
    )


def _row(found: Installed) -> ModelRow:
    if found.package is not None:
        return package_row(found.package, found.source)
    name, _, version = found.reference.rpartition("-")
    return ModelRow(found.reference, name, version, found.source, problem=found.problem)
