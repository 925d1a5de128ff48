"""What the viewer shows of a study: its series as NIfTI volumes, made once and kept for a while.

The copies hold pixels and geometry, nothing else of the study. They lie in the node's folder
``cache``, which may be emptied at any time.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hounsfield.department import instances
from hounsfield.department.instances import StoredInstance
from hounsfield.errors import GeometryRefused, SettingsError
from hounsfield.reading import Series, SeriesKind, load, scan_files
from hounsfield.reading.scan import refusal
from hounsfield.usecases.node.describing import plain
from hounsfield.usecases.node.opening import Node
from hounsfield.usecases.stages import result_name
from hounsfield.writing.files import whole_file

if TYPE_CHECKING:
    from hounsfield.volume import Volume

CACHE_BYTES: Final = 8 * 2**30
_MOST_STUDIES: Final = 16
_LOADING: Final = threading.BoundedSemaphore(2)


@dataclass(frozen=True)
class ViewSeries:
    """One series as the viewer lists it.

    Parameters
    ----------
    name
        The name under which results of the series are kept.
    problem
        Why it cannot be shown; empty if it can.
    repaired
        It can be shown only after its slices were resampled to a uniform grid.
    frame
        UID of the frame of reference, empty where there is none: series of one frame share their millimetres.
    shape, spacing_mm
        (slices, rows, columns); empty where there is no grid.
    """

    name: str
    modality: str
    description: str
    kind: str
    instances: int
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    notes: tuple[str, ...]
    problem: str
    repaired: bool
    times: int
    frame: str

    def as_dict(self) -> dict[str, Any]:
        """As data."""
        return vars(self)


@dataclass
class StudyImages:
    """The images of a node for the viewer; remembers the series of studies that were looked at."""

    node: Node

    def __post_init__(self) -> None:
        self._known: OrderedDict[tuple[str, int], tuple[Series, ...]] = OrderedDict()
        self._lock = threading.Lock()
        self.folder.mkdir(exist_ok=True, mode=0o700)

    @property
    def folder(self) -> Path:
        """Where the copies lie."""
        return self.node.root / "cache"

    def listed(self, study_uid: str) -> tuple[ViewSeries, ...]:
        """Every series of a study.

        Raises
        ------
        SettingsError
            If there is no such study.
        """
        return tuple(_view(one) for one in self._series(study_uid))

    def series(self, study_uid: str, name: str) -> Series:
        """One series.

        Raises
        ------
        SettingsError
            If there is no such study or series.
        """
        for one in self._series(study_uid):
            if result_name(one) == name:
                return one
        raise SettingsError("the study has no such series", "open the study again")

    def volume(self, study_uid: str, name: str, time: int = 0) -> Path:
        """A NIfTI file of a series, or of one time point of it.

        Raises
        ------
        SettingsError
            If there is no such study or series.
        InputError
            If it cannot be shown as a volume.
        """
        series = self.series(study_uid, name)
        identity = "/".join(sorted(path.name for path in series.files))
        key = hashlib.sha256(f"{identity}#{name}#{time}".encode()).hexdigest()
        path = self.folder / f"{key}.nii"
        with _LOADING:
            if not path.is_file():
                self._make_room()
                write_volume(_loaded(series, time), path)
        path.touch()
        return path

    def _series(self, study_uid: str) -> tuple[Series, ...]:
        with self.node.database.read() as connection:
            kept = instances.of_study(connection, study_uid)
        if not kept:
            raise SettingsError("there is no such study", "open the worklist")
        key = (study_uid, len(kept))
        with self._lock:
            if key not in self._known:
                self._known[key] = self._scanned(kept)
            self._known.move_to_end(key)
            while len(self._known) > _MOST_STUDIES:
                self._known.popitem(last=False)
            return self._known[key]

    def _scanned(self, kept: list[StoredInstance]) -> tuple[Series, ...]:
        files = [self.node.files.path(one.sha256) for one in kept]
        with scan_files(files, source=self.node.root / "instances") as contents:
            return contents.series

    def _make_room(self) -> None:
        """Remove the copies that were not looked at for longest, until the rest is small enough."""
        copies = sorted(self.folder.glob("*.nii"), key=lambda path: path.stat().st_mtime, reverse=True)
        total = 0
        for path in copies:
            total += path.stat().st_size
            if total > CACHE_BYTES:
                path.unlink(missing_ok=True)


def _loaded(series: Series, time: int) -> Volume:
    from hounsfield.volume import TimeSeries

    found = load(series, repair=not series.is_loadable)
    if isinstance(found, TimeSeries):
        if not 0 <= time < len(found.times_s):
            raise GeometryRefused(f"it has {len(found.times_s)} time points", "choose one of them")
        return found.at(time)
    return found


def _view(series: Series) -> ViewSeries:
    shown = series.is_loadable or series.is_repairable
    refused = None if shown else refusal(series, repair=True)
    problem = "" if shown else refused.fact if refused is not None else "it has no voxels of its own"
    geometry = series.geometry
    return ViewSeries(
        name=result_name(series),
        modality=series.modality or "",
        description=plain(series.description or ""),
        kind="projection" if series.kind is SeriesKind.PROJECTION else str(series.kind.value),
        instances=series.instances,
        shape=() if geometry is None else geometry.shape,
        spacing_mm=() if geometry is None else tuple(round(one, 4) for one in geometry.spacing_mm),
        notes=tuple(issue.message for issue in series.issues),
        problem=problem,
        repaired=series.is_repairable,
        times=len(series.times_s),
        frame="" if geometry is None else geometry.frame_of_reference_uid or "",
    )


def write_volume(volume: Volume, path: Path) -> None:
    """Write a volume as NIfTI-1 (i, j, k) with its RAS affine: int16 where that holds every value, else float32.

    Raises
    ------
    OutputError
        If there is no room.
    """
    import nibabel
    import numpy as np

    array = volume.array
    low, high = float(array.min()), float(array.max())
    whole = np.issubdtype(array.dtype, np.integer) or bool(np.array_equal(array, np.rint(array)))
    narrow = whole and low >= -32768 and high <= 32767
    stored = array.astype(np.int16 if narrow else np.float32, copy=False).transpose(2, 1, 0)
    image: Any = nibabel.Nifti1Image(stored, volume.geometry.affine_ras)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(volume.geometry.affine_ras, code=1)
    image.set_qform(volume.geometry.affine_ras if volume.geometry.is_orthonormal else None, code=1)
    if not volume.geometry.is_orthonormal:
        image.header["qform_code"] = 0
    with whole_file(path, overwrite=True) as temporary:
        image.to_filename(temporary)
