"""Verify a package folder, completely (``verify``) or by its digests (``open_verified``).

Order: names and kinds of files, digests, content, manifest, then each file by its own format.
Nothing is executed, nothing is written, and no engine sees a file before all of it is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hounsfield.errors import PackageInvalid
from hounsfield.packages import digests
from hounsfield.packages.content import refuse_active_text, refuse_programs
from hounsfield.packages.evidence import GateProof, check_binding, parse_evidence
from hounsfield.packages.inventory import CARD, DIGESTS, MANIFEST, SIGNATURE, WEIGHTS, read_small, take_inventory
from hounsfield.packages.manifest_text import parse_manifest
from hounsfield.packages.onnx_file import check_graph
from hounsfield.packages.package import ModelPackage
from hounsfield.packages.safetensors_file import check_safetensors
from hounsfield.packages.signature import check_signature

#: Raised whenever the checks become stricter, so that installed packages are checked again.
CHECKS_VERSION = 1


def verify(path: str | Path, *, trusted_key: Path | None = None) -> ModelPackage:
    """Check everything about a package folder.

    Parameters
    ----------
    path
        The package folder.
    trusted_key
        A PEM public key; the package must be signed by it.

    Raises
    ------
    PackageNotFound
        If there is no such folder.
    PackageInvalid
        If the manifest, the digests or a file does not follow the format.
    PackageRefused
        If it holds what a package must never hold.
    """
    root = Path(path)
    sizes = take_inventory(root)
    for name in sizes:
        refuse_programs(root, name)
    package = _by_digests(root, sizes, trusted_key)
    _check_card(root, package.files)
    used = _check_graphs(package)
    _check_evidence(package, used)
    if WEIGHTS in package.files:
        if package.manifest.architecture is None:
            raise PackageInvalid(
                fact=f"it has {WEIGHTS} but no [architecture]", remedy="name the architecture", path=root / MANIFEST
            )
        check_safetensors(root, WEIGHTS)
    _refuse_unused(package, used)
    return package


def open_verified(path: Path, *, trusted_key: Path | None = None) -> ModelPackage:
    """Check names, digests, signature and manifest of a package whose content was verified before."""
    return _by_digests(path, take_inventory(path), trusted_key)


def _by_digests(root: Path, sizes: Mapping[str, int], trusted_key: Path | None) -> ModelPackage:
    if MANIFEST not in sizes:
        raise PackageInvalid(fact=f"it has no {MANIFEST}", remedy="check that this is a package", path=root)
    listed, digest = digests.check(root, sizes)
    signature = check_signature(root, trusted_key) if SIGNATURE in sizes else None
    if signature is None and trusted_key is not None:
        raise PackageInvalid(fact="it is unsigned", remedy="get a signed one, or leave the key out", path=root)
    manifest = parse_manifest(read_small(root, MANIFEST), root / MANIFEST)
    return ModelPackage(root, manifest, digest, listed, sum(sizes.values()), signature)


def _check_card(root: Path, listed: Mapping[str, str]) -> None:
    if CARD not in listed:
        raise PackageInvalid(fact=f"it has no {CARD}", remedy="write the model card", path=root)
    data = read_small(root, CARD)
    if not data.strip():
        raise PackageInvalid(fact="the model card is empty", remedy="write it", path=root / CARD)
    refuse_active_text(root, CARD, data)


def _check_graphs(package: ModelPackage) -> dict[str, dict[str, str]]:
    """Check each graph; answer the sha256 of each graph's files, by precision."""
    used: dict[str, dict[str, str]] = {}
    for spec in package.manifest.graphs:
        if spec.file not in package.files or not spec.file.startswith("graphs/"):
            raise PackageInvalid(
                fact=f"the graph {spec.file!r} is not in the package's graphs folder",
                remedy="correct file in [[graphs]]",
                path=package.root / MANIFEST,
            )
        external = check_graph(package.root, spec, package.manifest, package.files)
        files = {name: package.files[name] for name in sorted({spec.file, *external})}
        used[spec.precision] = {**used.get(spec.precision, {}), **files}
    return used


def _check_evidence(package: ModelPackage, used: Mapping[str, Mapping[str, str]]) -> None:
    numbers = {segment.number for segment in package.manifest.output.segments}
    for item in package.manifest.evidence:
        path = package.root / item.file
        if item.file not in package.files or not item.file.startswith("evidence/"):
            raise PackageInvalid(
                fact=f"the evidence {item.file!r} is not in the package's evidence folder",
                remedy="correct file in [[evidence]]",
                path=package.root / MANIFEST,
            )
        evidence = parse_evidence(read_small(package.root, item.file), path)
        if evidence.precision != item.precision:
            raise PackageInvalid(
                fact=f"it is for {evidence.precision}, the manifest says {item.precision}",
                remedy="correct [[evidence]]",
                path=path,
            )
        if not {score.segment for score in evidence.scores if score.segment is not None} <= numbers:
            raise PackageInvalid(fact="it scores a segment that the manifest lacks", remedy="correct it", path=path)
        check_binding(evidence, used[package.graph(item.precision).precision], path)
        if evidence.gate is not None:
            _check_gate(package, item.precision, evidence.gate, used, path)


def _check_gate(
    package: ModelPackage, precision: str, gate: GateProof, used: Mapping[str, Mapping[str, str]], path: Path
) -> None:
    """A verdict counts for the reference beside it; only a graph as it was trained may have it elsewhere."""
    if gate.against_package is not None and precision == "fp32":
        return
    reference = package.manifest.graph_for(gate.against)
    if reference is None or used[reference.precision] != gate.against_sha256:
        raise PackageInvalid(
            fact=f"its gate was judged against another {gate.against} graph than the one in the package",
            remedy="judge it again with hounsfield gate",
            path=path,
        )


def _refuse_unused(package: ModelPackage, used: Mapping[str, Mapping[str, str]]) -> None:
    wanted = {MANIFEST, CARD, WEIGHTS, DIGESTS, *(name for files in used.values() for name in files)}
    wanted |= {item.file for item in package.manifest.evidence}
    unused = sorted(set(package.files) - wanted)
    if unused:
        raise PackageInvalid(
            fact=f"nothing in the manifest or a graph uses {unused[0]!r}", remedy="remove the file", path=package.root
        )
