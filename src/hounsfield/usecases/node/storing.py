"""Results on their way from a job's working folder to the node's: moved, on the disk, and listed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hounsfield.department.jobs import NewResult
from hounsfield.reading.headers import read_header
from hounsfield.reading.limits import Limits

#: Folder of de-identified images within a job's results.
IMAGES: Final = "images"


def store_results(output: Path, final: Path, series: Sequence[Mapping[str, Any]]) -> tuple[NewResult, ...]:
    """Move a run's output folder to its final place, fsync all of it, and list its files.

    Only after this may a row name them. De-identified images come first, then segmentations, then the
    reports that refer to them.
    """
    output.rename(final)
    for folder, _, names in os.walk(final):
        for name in names:
            _sync(Path(folder) / name)
        _sync(Path(folder))
    _sync(final.parent)
    listed = [
        _listed(kind, final / one["name"] / Path(path).name, final.parent)
        for one in series
        for kind, path in one["outputs"].items()
    ]
    images = [_listed("image", path, final.parent) for path in sorted((final / IMAGES).rglob("*.dcm"))]
    return (*images, *sorted(listed, key=lambda one: (not one.kind.startswith("seg"), one.kind != "sr")))


def _listed(kind: str, path: Path, root: Path) -> NewResult:
    digest, name = hashlib.sha256(path.read_bytes()).hexdigest(), str(path.relative_to(root))
    if path.suffix != ".dcm":
        return NewResult(kind, name, digest, path.stat().st_size)
    header, parsed = read_header(path, Limits())
    return NewResult(
        kind,
        name,
        digest,
        path.stat().st_size,
        str(header["SOPClassUID"]),
        str(header["SOPInstanceUID"]),
        parsed.transfer_syntax_uid,
    )


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
