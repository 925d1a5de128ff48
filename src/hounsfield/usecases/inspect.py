"""Say what is in a path: every study and series, its grid, what is wrong with it, and a picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hounsfield.errors import OutputExists
from hounsfield.reading import Limits, Series, SeriesKind, Skipped, load, scan
from hounsfield.reading.scan import refusal
from hounsfield.usecases.events import OnEvent, Progress, silent

Verdict = Literal["readable", "repairable", "refused"]


@dataclass(frozen=True)
class InspectRequest:
    """What to inspect.

    Parameters
    ----------
    path
        A folder, file or archive.
    picture
        PNG file to write a montage into; must not exist yet.
    series
        Key or series UID of the series to draw; by default the only one that can be read.
    repair
        Draw a series that can only be read after a repair.
    limits
        Bounds on reading.
    """

    path: Path
    picture: Path | None = None
    series: str | None = None
    repair: bool = False
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class InspectedSeries:
    """One series, and whether it can be read."""

    series: Series
    study: int
    verdict: Verdict

    @property
    def reason(self) -> str | None:
        """Why it is not readable as it is; ``None`` if it is."""
        refused = refusal(self.series)
        return None if refused is None else f"{refused.fact}; {refused.remedy}"

    def as_dict(self) -> dict[str, Any]:
        """The series as data."""
        one, grid = self.series, self.series.geometry
        return {
            "key": one.key,
            "study": self.study,
            "verdict": self.verdict,
            "reason": self.reason,
            "format": one.format,
            "kind": one.kind.value,
            "modality": one.modality,
            "description": one.description,
            "source": str(one.source),
            "study_instance_uid": one.study_instance_uid,
            "series_instance_uids": list(one.series_instance_uids),
            "instances": one.instances,
            "shape": None if grid is None else list(grid.shape),
            "spacing_mm": None if grid is None else list(grid.spacing_mm),
            "origin_mm": None if grid is None else list(grid.origin_mm),
            "orientation": None if grid is None else grid.orientation,
            "obliquity_degrees": None if grid is None else grid.obliquity_degrees,
            "affine_lps_mm": None if grid is None else grid.affine.tolist(),
            "times_s": list(one.times_s),
            "issues": [issue.as_dict() for issue in one.issues],
        }


@dataclass(frozen=True)
class InspectResult:
    """What was found; ``shape``, ``spacing_mm`` and ``affine_lps_mm`` are in the order (k, j, i)."""

    path: Path
    series: tuple[InspectedSeries, ...]
    skipped: tuple[Skipped, ...]
    picture: Path | None = None

    @property
    def any_readable(self) -> bool:
        """Whether at least one series can be read, if need be after a repair."""
        return any(one.verdict != "refused" for one in self.series)

    def as_dict(self) -> dict[str, Any]:
        """The result as data, for ``--json``."""
        return {
            "path": str(self.path),
            "series": [one.as_dict() for one in self.series],
            "skipped": [{"path": str(one.path), "reason": one.reason} for one in self.skipped],
            "picture": None if self.picture is None else str(self.picture),
        }


def inspect(request: InspectRequest, on_event: OnEvent = silent) -> InspectResult:
    """Scan a path, and draw one of its series if asked.

    Raises
    ------
    NothingToRead
        If there is no series in the path at all.
    OutputExists
        If the picture exists already.
    AmbiguousInput
        If a picture is wanted and several series can be read.
    InputError
        If the series to draw cannot be read.
    """
    if request.picture is not None and request.picture.exists():
        raise OutputExists("there is such a file already", "give another name, or remove it", request.picture)
    on_event(Progress("scan", 0, 1))
    with scan(request.path, limits=request.limits) as contents:
        if not contents.series:
            contents.choose()  # raises, and says what was skipped and why
        on_event(Progress("scan", 1, 1))
        picture = None
        if request.picture is not None:
            chosen = contents.choose(request.series, repair=request.repair)
            picture = _draw(chosen, request.picture, request, on_event)
        elif request.series is not None:
            contents.choose(request.series)
        return InspectResult(request.path, _inspected(contents.series), contents.skipped, picture)


def _draw(series: Series, path: Path, request: InspectRequest, on_event: OnEvent) -> Path:
    from hounsfield.reading.montage import write_montage

    on_event(Progress("picture", 0, 1))
    loaded = load(series, repair=request.repair, limits=request.limits)
    title = f"[{series.key}] {series.modality or series.format}"
    written = write_montage(loaded, path, title=title, oriented=series.kind is not SeriesKind.PROJECTION)
    on_event(Progress("picture", 1, 1))
    return written


def _inspected(series: tuple[Series, ...]) -> tuple[InspectedSeries, ...]:
    studies: dict[str, int] = {}
    for one in series:
        studies.setdefault(_study(one), len(studies) + 1)
    return tuple(InspectedSeries(one, studies[_study(one)], _verdict(one)) for one in series)


def _study(series: Series) -> str:
    return series.study_instance_uid or ""


def _verdict(series: Series) -> Verdict:
    if series.is_loadable:
        return "readable"
    return "repairable" if series.is_repairable else "refused"
