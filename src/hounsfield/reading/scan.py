"""From a path to series, and from a series to voxels: the front door's three verbs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from hounsfield.errors import (
    GeometryRefused,
    InputError,
    LimitExceeded,
    NothingToRead,
    NotReadable,
    UnsupportedEncoding,
)
from hounsfield.reading.formats import FormatReader, archive_for, reader_named, readers
from hounsfield.reading.limits import Limits
from hounsfield.reading.series import Contents, Issue, Series, SeriesKind, Skipped, renumbered
from hounsfield.volume import TimeSeries, Volume

_ERRORS: dict[str, type[InputError]] = {
    "encoding": UnsupportedEncoding,
    "limit": LimitExceeded,
    "pixels": NotReadable,
    "header": NotReadable,
}
_NOT_A_VOLUME: dict[SeriesKind, str] = {
    SeriesKind.LOCALIZER: "it is a localizer, not a volume",
    SeriesKind.COLOUR: "it is a colour image, which no volume model reads",
    SeriesKind.SLIDE: "it is a whole-slide image",
    SeriesKind.DERIVED: "it is a derived object without voxels of its own (segmentation, report, presentation ...)",
    SeriesKind.UNREADABLE: "it cannot be read",
}


def scan(path: str | Path, *, limits: Limits | None = None) -> Contents:
    """Find every series in a folder, file or archive, reading headers only.

    Raises
    ------
    NothingToRead
        If the path does not exist or holds no file.
    LimitExceeded
        If there are more files, or an archive holds more, than ``limits`` allow.
    """
    limits = Limits() if limits is None else limits
    source = Path(path)
    if not source.exists():
        raise NothingToRead("there is no such file or folder", "check the path", source)
    archive = archive_for(source) if source.is_file() else None
    if archive is None:
        return _scan_files(source, source, limits, None)
    workspace = tempfile.TemporaryDirectory(prefix="hounsfield-")
    try:
        passed_over = archive.extract(source, Path(workspace.name), limits)
        contents = _scan_files(source, Path(workspace.name), limits, workspace)
        return replace(contents, skipped=contents.skipped + tuple(Skipped(source, what) for what in passed_over))
    except BaseException:
        workspace.cleanup()
        raise


def scan_files(files: Sequence[Path], *, source: Path, limits: Limits | None = None) -> Contents:
    """Find every series in the given files, as :func:`scan` does in a folder.

    Parameters
    ----------
    files
        Files that are no archives, for instance ``Series.files`` of an earlier scan.
    source
        What the user gave, for messages.
    """
    return _scan_list(source, sorted(files), Limits() if limits is None else limits, None)


def load(series: Series, *, repair: bool = False, limits: Limits | None = None) -> Volume | TimeSeries:
    """Read the voxels of a series.

    Parameters
    ----------
    repair
        Allow what changes voxels: resampling uneven, gapped or tilted slices to a uniform grid.
        Each repair is written into ``provenance.repairs``.

    Raises
    ------
    GeometryRefused
        If the slices form no volume, or would only after a repair that was not asked for.
    NotReadable, UnsupportedEncoding, LimitExceeded
        If the pixels are damaged, have no decoder here, or are too large.
    """
    refused = refusal(series, repair=repair)
    if refused is not None:
        raise refused
    return reader_named(series.format).load(series, repair, Limits() if limits is None else limits)


def read(path: str | Path, *, series: str | None = None, repair: bool = False, limits: Limits | None = None) -> Volume:
    """Read the one volume of a path (or the series with this key or UID).

    Raises
    ------
    AmbiguousInput
        If several series can be read; the message lists them.
    NothingToRead
        If none can.
    GeometryRefused
        If the only candidate is refused, or is a time series (load it and take a time point).
    """
    with scan(path, limits=limits) as contents:
        chosen = contents.choose(series, repair=repair)
        loaded = load(chosen, repair=repair, limits=limits)
    if isinstance(loaded, TimeSeries):
        raise GeometryRefused(
            f"series {chosen.key} is a time series of {len(loaded.times_s)} volumes",
            "scan and load it, and take one time point with .at(n)",
            chosen.source,
        )
    return loaded


def refusal(series: Series, *, repair: bool = False) -> InputError | None:
    """The error that `load` raises before it reads any voxel of this series, if it does."""
    blocking = [issue for issue in series.issues if issue.severity == "refuse"]
    if not blocking and not repair:
        blocking = [issue for issue in series.issues if issue.severity == "repairable"]
    if blocking:
        return _error(series, blocking[0], len(blocking) - 1)
    if series.kind in _NOT_A_VOLUME:
        return GeometryRefused(_NOT_A_VOLUME[series.kind], "choose another series", series.source)
    return None


def _error(series: Series, issue: Issue, others: int) -> InputError:
    more = f" (and {others} more)" if others else ""
    remedy = issue.remedy or "inspect the series"
    return _ERRORS.get(issue.code, GeometryRefused)(f"{issue.message}{more}", remedy, series.source)


def _scan_files(
    source: Path, root: Path, limits: Limits, workspace: tempfile.TemporaryDirectory[str] | None
) -> Contents:
    return _scan_list(source, _files(source, root, limits), limits, workspace)


def _scan_list(
    source: Path, files: Sequence[Path], limits: Limits, workspace: tempfile.TemporaryDirectory[str] | None
) -> Contents:
    claimed: dict[str, list[Path]] = {}
    skipped: list[Skipped] = []
    available = {reader.name: reader for reader in readers()}
    for path in files:
        reader = _claimant(path, available)
        if reader is None:
            skipped.append(Skipped(path, "not a format that is read here"))
        else:
            claimed.setdefault(reader.name, []).append(path)
    series: list[Series] = []
    for name in sorted(claimed):
        found = available[name].scan(claimed[name], source, limits)
        series += found.series
        skipped += found.skipped
    return Contents(source, renumbered(tuple(series)), tuple(skipped), workspace)


def _claimant(path: Path, available: dict[str, FormatReader]) -> FormatReader | None:
    return next((reader for reader in available.values() if reader.claims(path)), None)


def _files(source: Path, root: Path, limits: Limits) -> list[Path]:
    """Regular files of a folder and all below it, by name; links to folders are not followed."""
    if root.is_file():
        return [root]
    files: list[Path] = []
    for path in _walk(root):
        files.append(path)
        if len(files) > limits.files:
            raise LimitExceeded(f"there are more than {limits.files} files", "give a folder with fewer", source)
    return sorted(files)


def _walk(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.is_file():
                yield path
