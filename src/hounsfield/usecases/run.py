"""Let a model read one or many scans and write its answers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hounsfield.errors import NothingToRead, OutputExists
from hounsfield.packages import ModelPackage, open_package
from hounsfield.reading import Contents, Series
from hounsfield.reading import scan as scan_path
from hounsfield.usecases.events import OnEvent, Progress, silent
from hounsfield.usecases.job import Choices, SeriesResult
from hounsfield.usecases.sessions import Sessions
from hounsfield.usecases.stages import finished_error, infer_stage, load_stage, write_stage


@dataclass(frozen=True)
class RunRequest:
    """What to run on what.

    Parameters
    ----------
    model
        Id, ``id-version`` or folder of a model package.
    input
        Folder, file, zip or tar with one or many scans.
    output
        Folder for the results: new or empty.
    series
        Key or UID of the only series to read; ``None`` reads all that can be read.
    """

    model: str | Path
    input: Path
    output: Path
    series: str | None = None
    choices: Choices = field(default_factory=Choices)


@dataclass(frozen=True)
class RunResult:
    """What became of every series, in the order they were found."""

    package: str
    package_digest: str
    series: tuple[SeriesResult, ...]
    skipped_files: int = 0

    @property
    def outputs(self) -> Mapping[str, Mapping[str, Path]]:
        """Files by kind, for each series folder that was written."""
        return {one.name: one.outputs for one in self.series if one.outputs}

    @property
    def succeeded(self) -> bool:
        """Whether nothing failed and at least one series was read."""
        statuses = {one.status for one in self.series}
        return "failed" not in statuses and bool(statuses & {"done", "skipped"})

    def as_dict(self) -> dict[str, Any]:
        """The outcome as data."""
        return {
            "package": self.package,
            "package_digest": self.package_digest,
            "succeeded": self.succeeded,
            "skipped_files": self.skipped_files,
            "series": [one.as_dict() for one in self.series],
        }


def run(
    model: str | Path,
    scan: str | Path,
    output: str | Path,
    *,
    series: str | None = None,
    choices: Choices | None = None,
    on_event: OnEvent = silent,
) -> RunResult:
    """Run a model on a scan: the short form of :func:`run_model`.

    Parameters
    ----------
    model, scan, output, series
        As in :class:`RunRequest`.
    choices
        As in :class:`hounsfield.usecases.job.Choices`; by default fp32, everything proven.
    """
    return run_model(RunRequest(model, Path(scan), Path(output), series, choices or Choices()), on_event)


def run_model(request: RunRequest, on_event: OnEvent = silent) -> RunResult:
    """Read every series of the input that the package may read, and write the answers.

    What goes wrong with one series never stops the others: it is in the result.

    Raises
    ------
    PackageError
        If the package cannot be used.
    NothingToRead, OutputExists
        If there is no scan, or the output folder is not empty.
    """
    package = open_package(request.model)
    _demand_empty(request.output)
    with scan_path(request.input) as contents:
        wanted = _wanted(contents, request)
        sessions = Sessions()
        results = []
        try:
            for number, series in enumerate(wanted):
                on_event(Progress("series", number, len(wanted)))
                results.append(_read_one(series, package, request, sessions, on_event))
            on_event(Progress("series", len(wanted), len(wanted)))
        finally:
            sessions.close()
        result = RunResult(package.reference, package.digest, tuple(results), len(contents.skipped))
    _write_summary(result, request.output)
    return result


def _read_one(
    series: Series, package: ModelPackage, request: RunRequest, sessions: Sessions, on_event: OnEvent
) -> SeriesResult:
    name = result_name(series)
    try:
        loaded = load_stage(series, package, request.choices)
        labelled = infer_stage(loaded, package, request.choices, sessions, on_event)
        return write_stage(name, series, loaded, labelled, package, request.choices, request.output)
    except Exception as error:
        return SeriesResult.not_done(name, series.summary, finished_error(error, on_event))


def _wanted(contents: Contents, request: RunRequest) -> tuple[Series, ...]:
    """The series to read: the one asked for, else all that have voxels, refused ones included."""
    if request.series is not None:
        return (contents.choose(request.series),)
    wanted = tuple(s for s in contents.series if s.is_loadable or s.is_repairable or _is_refused_volume(s))
    if not wanted:
        contents.choose(repair=request.choices.repair)
        raise NothingToRead("no series is a volume", "inspect it", request.input)
    return wanted


def _is_refused_volume(series: Series) -> bool:
    return series.kind in ("volume", "dynamic", "unreadable") and any(i.severity == "refuse" for i in series.issues)


def result_name(series: Series) -> str:
    """A folder name for the results: a hash for DICOM, the file's own plain name and a hash else."""
    identity = "/".join(series.series_instance_uids) or "/".join(str(path) for path in series.files)
    key = hashlib.sha256(f"{identity}#{_stack(series)}".encode()).hexdigest()[:10]
    if series.format == "dicom":
        return f"series-{key}"
    stem = re.sub(r"(\.nii|\.seg)?\.[A-Za-z0-9]+$", "", series.source.name)
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', stem)[:40] or 'scan'}-{key[:6]}"


def _stack(series: Series) -> str:
    """What tells apart several volumes of one DICOM series: its grid."""
    if series.geometry is None:
        return series.kind.value
    return f"{series.geometry.shape}{series.geometry.affine.round(4).tolist()}"


def _demand_empty(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(_visible(output))):
        raise OutputExists("the output folder is not empty", "choose another folder", output)


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not path.name.startswith("."))


def _write_summary(result: RunResult, output: Path) -> None:
    """``summary.json`` beside the series folders; nothing when nothing was written."""
    from hounsfield.writing.files import whole_file

    if not result.outputs:
        return
    with whole_file(output / "summary.json") as temporary:
        temporary.write_text(json.dumps(result.as_dict(), indent=1), encoding="utf-8")
