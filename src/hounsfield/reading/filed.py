"""NIfTI, NRRD and MetaImage as series: one file is one series.

Headers and voxels are read in a forked child with limits; the voxels come back in shared
memory of the size that the header declared and the limits allow.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import InputError
from hounsfield.reading.formats import FormatReader, Found
from hounsfield.reading.jail import Failure, run_each, run_one, shared_array
from hounsfield.reading.limits import Limits
from hounsfield.reading.refusals import answer_or_raise, refusal_issue, refusal_of, refusal_or
from hounsfield.reading.series import Issue, Series, SeriesKind
from hounsfield.reading.shear import straightened
from hounsfield.reading.stored import StoredVolume, check_size, read_array
from hounsfield.volume import Acquisition, Provenance, Quantity, TimeSeries, Volume

ReadHeader = Callable[[Path, Limits], StoredVolume]
_HEAD_BYTES: Final = 544


def file_reader(
    name: str, suffixes: tuple[str, ...], recognises: Callable[[bytes], bool], read_header: ReadHeader
) -> FormatReader:
    """The reader of a format whose files are one series each.

    Parameters
    ----------
    suffixes
        Files of these names are claimed even if damaged, so that they are refused by name.
    recognises
        Whether a file with these first (gunzipped) bytes is of the format.
    read_header
        What a file says of its voxels.
    """
    return FormatReader(
        name, partial(_claims, suffixes, recognises), partial(_scan, name, read_header), partial(_load, name)
    )


def _claims(suffixes: tuple[str, ...], recognises: Callable[[bytes], bool], path: Path) -> bool:
    lower = path.name.lower()
    if lower.startswith("._"):  # the resource fork of a file on a foreign disk
        return False
    return lower.endswith(suffixes) or recognises(_head(path))


def _head(path: Path) -> bytes:
    """The first bytes, after gunzipping if they are zipped; empty if they cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            if head[:2] != b"\x1f\x8b":
                return head
            file.seek(0)
            with gzip.GzipFile(fileobj=file, mode="rb") as inflated:
                return inflated.read(_HEAD_BYTES)
    except (OSError, EOFError, zlib.error):
        return b""


def _scan(name: str, read_header: ReadHeader, files: Sequence[Path], source: Path, limits: Limits) -> Found:
    import nibabel  # noqa: F401  (so that the children need not)

    answers = run_each(lambda n: refusal_or(partial(_header, read_header, files[n], limits)), len(files), limits)
    return Found(tuple(_series(name, path, source, answer) for path, answer in zip(files, answers, strict=True)))


def _header(read_header: ReadHeader, path: Path, limits: Limits) -> dict[str, Any]:
    stored = read_header(path, limits)
    problem = None
    try:
        if not stored.colour:
            check_size(stored, limits.volume_bytes)
    except InputError as error:
        problem = refusal_of(error)
    return {"stored": stored.as_dict(), "refusal": problem}


def _series(name: str, path: Path, source: Path, answer: dict[str, Any] | Failure) -> Series:
    shown = path if source == path or source in path.parents else source
    problem = refusal_issue(answer)
    if isinstance(answer, Failure) or "stored" not in answer:
        issues = () if problem is None else (problem,)
        return Series("", shown, name, SeriesKind.UNREADABLE, instances=1, files=(path,), issues=issues)
    stored = StoredVolume.from_dict(answer["stored"])
    return Series(
        key="",
        source=shown,
        format=name,
        kind=_kind(stored),
        modality=stored.modality,
        instances=1,
        files=tuple(dict.fromkeys((path, stored.data_path))),
        geometry=stored.geometry,
        times_s=stored.times_s,
        issues=stored.issues + _more_issues(stored) + (() if problem is None else (problem,)),
        acquisition=Acquisition(modality=stored.modality),
        voxel_bytes=stored.result_dtype.itemsize,
        plan=stored,
    )


def _kind(stored: StoredVolume) -> SeriesKind:
    if stored.colour:
        return SeriesKind.COLOUR
    return SeriesKind.DYNAMIC if stored.times_s else SeriesKind.VOLUME


def _more_issues(stored: StoredVolume) -> tuple[Issue, ...]:
    issues: tuple[Issue, ...] = ()
    if stored.colour:
        message, remedy = "its voxels are colours, no measurements", "give the scan it was made from"
        issues += (Issue("colour", "refuse", message, remedy),)
    if not stored.geometry.is_orthonormal:
        message = "its axes are not at right angles (the affine has a shear)"
        issues += (Issue("sheared", "repairable", message, "allow the repair, which resamples it"),)
    if stored.quantity is Quantity.LABEL:
        issues += (Issue("labels", "note", "it says that it holds labels, not a scan"),)
    return issues


def _load(name: str, series: Series, repair: bool, limits: Limits) -> Volume | TimeSeries:
    """The voxels of a series that `_scan` made, read in a child."""
    stored: StoredVolume = series.plan
    check_size(stored, limits.volume_bytes)
    array = shared_array(stored.result_shape, stored.result_dtype)
    extra = 0 if stored.is_direct else stored.stored_bytes
    room = replace(limits, headroom_bytes=limits.headroom_bytes + extra)
    answer = run_one(partial(refusal_or, partial(_fill, stored, limits, array)), room)
    value = _value(name, series, stored, array, int(answer_or_raise(answer, series.source)["not_finite"]))
    return value if stored.geometry.is_orthonormal else straightened(value, limits)


def _fill(stored: StoredVolume, limits: Limits, array: NDArray[Any]) -> dict[str, Any]:
    read_array(stored, limits.volume_bytes, array)
    broken = 0 if array.dtype.kind in "iu" else sum(int((~np.isfinite(part)).sum()) for part in array)
    return {"not_finite": broken}


def _value(name: str, series: Series, stored: StoredVolume, array: NDArray[Any], broken: int) -> Volume | TimeSeries:
    warnings = [issue.message for issue in series.issues if issue.severity == "warn"]
    if broken:
        warnings.append(f"{broken:,} voxels are not finite numbers")
    origin = Provenance(
        source=series.source,
        format=name,
        source_files=series.files,
        warnings=tuple(warnings),
        acquisition=series.acquisition,
    )
    if stored.times_s:
        origins = (origin,) * len(stored.times_s)
        return TimeSeries(array, stored.geometry, stored.times_s, stored.quantity, origins)
    return Volume(array, stored.geometry, stored.quantity, None, origin)
