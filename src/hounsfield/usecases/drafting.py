"""The new version of a package with one graph more: as it is judged, and as it is kept."""

from __future__ import annotations

from pathlib import Path

from hounsfield.compression.compress_report import Compression
from hounsfield.packages import Manifest, ModelPackage, build


def draft_package(package: ModelPackage, made: Compression, folder: Path) -> ModelPackage:
    """The new version without evidence for the new graph: what is judged."""
    return build(folder, manifest_with(package, made), files_with(package, made))


def manifest_with(package: ModelPackage, made: Compression, proven: bool = False) -> Manifest:
    """The old version's manifest with the new graph, and its evidence where it is ``proven``."""
    table = package.manifest.model_dump(mode="json", exclude_none=True)
    table["version"] = made.version
    spec = package.graph("fp32").model_dump(mode="json", exclude_none=True)
    table["graphs"].append({**spec, "precision": made.precision, "file": f"graphs/{made.precision}.onnx"})
    table["evidence"] = [item for item in table["evidence"] if item["precision"] != made.precision]
    if proven:
        table["evidence"].append({"precision": made.precision, "file": f"evidence/{made.precision}.json"})
    return Manifest.model_validate(table)


def files_with(package: ModelPackage, made: Compression) -> dict[str, Path | bytes]:
    """The old version's files but evidence that is replaced, and the new graph."""
    replaced = {item.file for item in package.manifest.evidence if item.precision == made.precision}
    kept = [name for name in package.files if name != "manifest.toml" and name not in replaced]
    return {**{name: package.root / name for name in kept}, f"graphs/{made.precision}.onnx": made.graph}
