"""Say what a package lacks to be trusted, and fill in the evidence that an evaluation made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hounsfield.errors import PackageInvalid
from hounsfield.packages import Manifest, ModelPackage, build, open_package, verify
from hounsfield.packages.evidence import Evidence, parse_evidence
from hounsfield.packages.inventory import CARD, DIGESTS, MANIFEST, SIGNATURE
from hounsfield.packages.trust import Lack, lacks

_NOT_YET = re.compile(r"^Not evaluated yet:.*$", re.MULTILINE)
_NO_CLAIM = re.compile(r"^- Not evaluated here: no accuracy is claimed for this package\.\n", re.MULTILINE)


@dataclass(frozen=True)
class TrustRequest:
    """An installed model, or a package folder."""

    package: str | Path


@dataclass(frozen=True)
class TrustResult:
    """What the package lacks; nothing if it can be trusted as far as papers go."""

    package: ModelPackage
    lacks: tuple[Lack, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return {
            "reference": self.package.reference,
            "digest": self.package.digest,
            "lacks": [dict(vars(one)) for one in self.lacks],
        }


def check_trust(request: TrustRequest) -> TrustResult:
    """Verify a package, and list what it lacks to be trusted.

    Raises
    ------
    PackageNotFound, PackageInvalid, PackageRefused
        If it is no sound package at all.
    """
    path = Path(request.package)
    package = verify(path) if path.is_dir() else open_package(request.package)
    return TrustResult(package, lacks(package))


@dataclass(frozen=True)
class FillRequest:
    """A package, an evidence file that ``hounsfield evaluate`` wrote for it, and where the new package goes."""

    package: str | Path
    evidence: Path
    output: Path


def fill_evidence(request: FillRequest) -> ModelPackage:
    """The same package with the evidence in it, under the next patch version; the old one stays as it is.

    Raises
    ------
    PackageInvalid
        If the evidence was made for other graphs.
    OutputExists, OutputError
        Nothing is left behind.
    """
    package = open_package(request.package)
    evidence = parse_evidence(_bytes(request.evidence), request.evidence)
    place = f"evidence/{evidence.precision}.json"
    manifest = package.manifest
    kept = [item for item in manifest.evidence if item.precision != evidence.precision]
    replaced = {item.file for item in manifest.evidence} - {item.file for item in kept}
    table = manifest.model_dump(mode="json", exclude_none=True)
    table["version"] = next_version(manifest.version)
    table["evidence"] = [
        *(item.model_dump(mode="json") for item in kept),
        {"precision": evidence.precision, "file": place},
    ]
    made = {MANIFEST, DIGESTS, SIGNATURE, CARD, *replaced}
    files: dict[str, Path | bytes] = {name: package.root / name for name in package.files if name not in made}
    files[place] = request.evidence
    files[CARD] = filled_card(package.card(), evidence).encode("utf-8")
    return build(request.output, Manifest.model_validate(table), files)


def next_version(version: str) -> str:
    """The next patch version: 1.2.3 to 1.2.4."""
    major, minor, patch = version.split(".")
    return f"{major}.{minor}.{int(patch) + 1}"


def filled_card(card: str, evidence: Evidence) -> str:
    """The card with the figures in place of the line that says there are none."""
    figures = f"{evidence.precision}: {evidence.summary()}. Data: {' '.join(evidence.data.name.split())}."
    told = _NO_CLAIM.sub("", card)
    if _NOT_YET.search(told):
        return _NOT_YET.sub(lambda _: figures, told, count=1)
    return told


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PackageInvalid(f"the evidence cannot be read ({error.strerror})", "check the path", path) from error
