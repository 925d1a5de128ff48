"""What a scan of a folder tells: series, what kind each is, and what is wrong with it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from hounsfield.errors import AmbiguousInput, InputError, NothingToRead
from hounsfield.volume import Acquisition, Geometry

Severity = Literal["note", "warn", "repairable", "refuse"]


class SeriesKind(StrEnum):
    """What a series is, as far as reading is concerned."""

    VOLUME = "volume"
    DYNAMIC = "dynamic"
    PROJECTION = "projection"
    LOCALIZER = "localizer"
    COLOUR = "colour"
    SLIDE = "slide"
    DERIVED = "derived"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Issue:
    """One thing that is noteworthy or wrong with a series.

    Parameters
    ----------
    code
        Short stable name such as ``"gap"``, ``"duplicate"``, ``"gantry-tilt"``.
    severity
        ``"note"`` and ``"warn"`` let the series pass (a warning goes into its provenance),
        ``"repairable"`` needs ``repair=True``, ``"refuse"`` is final.
    message, remedy
        The fact and what to do, in plain words, without a full stop.
    """

    code: str
    severity: Severity
    message: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """The issue as data, for ``--json``."""
        return {"code": self.code, "severity": self.severity, "message": self.message, "remedy": self.remedy}


@dataclass(frozen=True)
class Skipped:
    """A file that gave no image, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Series:
    """One thing that can be loaded, or the reasons why not.

    Parameters
    ----------
    key
        Short stable id within one scan: ``"1"``, ``"2"`` ... in table order.
    source
        The file or folder it was found in.
    format
        ``"dicom"``, ``"nifti"``, ``"nrrd"`` or ``"mha"``.
    kind
        What it is.
    files
        The files it consists of.
    study_instance_uid, series_instance_uids
        DICOM identity; several series UIDs where each time point has its own.
    instances
        Number of SOP instances (files in other formats).
    geometry
        Grid of the volume as ``load`` would give it without repair; ``None`` if there is none.
    times_s
        Seconds of each time point after the first; empty unless ``kind`` is DYNAMIC.
    voxel_bytes
        Memory that each voxel takes once it is loaded, the mark of its padding included.
    plan
        What the format's own ``load`` needs; nobody else looks inside.
    """

    key: str
    source: Path
    format: str
    kind: SeriesKind
    modality: str | None = None
    description: str | None = None
    study_instance_uid: str | None = None
    series_instance_uids: tuple[str, ...] = ()
    instances: int = 0
    files: tuple[Path, ...] = ()
    geometry: Geometry | None = None
    times_s: tuple[float, ...] = ()
    issues: tuple[Issue, ...] = ()
    acquisition: Acquisition = field(default_factory=Acquisition)
    voxel_bytes: int = 2
    plan: Any = field(default=None, repr=False, compare=False)

    @property
    def is_loadable(self) -> bool:
        """Whether ``load`` gives a volume without repair."""
        return self._has_voxels and not any(issue.severity in ("repairable", "refuse") for issue in self.issues)

    @property
    def is_repairable(self) -> bool:
        """Whether ``load(repair=True)`` gives a volume where plain ``load`` refuses."""
        severities = {issue.severity for issue in self.issues}
        return self._has_voxels and "repairable" in severities and "refuse" not in severities

    @property
    def _has_voxels(self) -> bool:
        return self.kind in (SeriesKind.VOLUME, SeriesKind.DYNAMIC, SeriesKind.PROJECTION)

    @property
    def summary(self) -> str:
        """One line for a list: key, modality, kind, size, description."""
        size = "" if self.geometry is None else " x ".join(str(n) for n in self.geometry.shape)
        parts = (f"[{self.key}]", self.modality or "?", self.kind.value, size, self.description or "")
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Contents:
    """What is in a path: the series, and the files that gave none.

    Use it as a context manager: an archive is unpacked into a temporary folder that lives as
    long as the contents do, so load inside the ``with``.
    """

    source: Path
    series: tuple[Series, ...]
    skipped: tuple[Skipped, ...] = ()
    workspace: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False, compare=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary folder, if there is one; loaded volumes stay valid."""
        if self.workspace is not None:
            self.workspace.cleanup()

    def choose(self, key: str | None = None, *, repair: bool = False) -> Series:
        """The series named ``key`` (or by its series UID), or the only one that can be loaded.

        Raises
        ------
        NothingToRead
            If nothing can be loaded.
        AmbiguousInput
            If several could, or none has that key.
        """
        if key is not None:
            return self._named(key)
        fitting = [s for s in self.series if s.is_loadable or (repair and s.is_repairable)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            names = ", ".join(s.summary for s in fitting)
            raise AmbiguousInput(f"{len(fitting)} series can be read: {names}", "choose one by its key", self.source)
        refused = [s for s in self.series if s.is_repairable or any(i.severity == "refuse" for i in s.issues)]
        if len(refused) == 1:
            return refused[0]
        raise self._nothing()

    def _named(self, key: str) -> Series:
        for series in self.series:
            if key == series.key or key in series.series_instance_uids:
                return series
        names = ", ".join(s.summary for s in self.series) or "none"
        raise AmbiguousInput(f"no series has the key {key!r}; there are: {names}", "choose one of these", self.source)

    def _nothing(self) -> InputError:
        if self.series:
            found = ", ".join(s.summary for s in self.series)
            return NothingToRead(f"none of the series is a volume that can be read: {found}", "inspect it", self.source)
        if self.skipped:
            first = self.skipped[0]
            more = f" and {len(self.skipped) - 1} more" if len(self.skipped) > 1 else ""
            fact = f"no image was found; {first.path.name}{more} was skipped: {first.reason}"
            return NothingToRead(fact, "give a DICOM, NIfTI, NRRD or MHA scan", self.source)
        return NothingToRead("there is no file in it", "give a folder, file or archive with a scan", self.source)


def renumbered(series: tuple[Series, ...]) -> tuple[Series, ...]:
    """The same series with the keys ``"1"``, ``"2"`` ... in this order."""
    return tuple(replace(one, key=str(n)) for n, one in enumerate(series, start=1))
