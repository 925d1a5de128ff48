"""The voxels of a planned series: decoded on threads in a confined child, straight into one array."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import InputError, LimitExceeded, NotReadable
from hounsfield.reading import jail
from hounsfield.reading.elements import Malformed
from hounsfield.reading.frames.decode import decode_into, stored_dtype, warm_up
from hounsfield.reading.frames.locate import StoredFrames
from hounsfield.reading.instances import Frame, Instance
from hounsfield.reading.limits import Limits
from hounsfield.reading.pixels import Conversion, PixelPlan, converted, padding_range, result_bytes, result_dtype
from hounsfield.reading.repair import Repaired, repaired
from hounsfield.reading.series import Series, SeriesKind
from hounsfield.volume import Geometry, Provenance, SourceFrame, TimeSeries, Volume

_AGAIN: Final = "fetch the file again from its source"
_STARTED: Final = 1
_DONE: Final = 2
_TOLD: Final = ("monochrome1",)


def load_series(series: Series, repair: bool, limits: Limits) -> Volume | TimeSeries:
    """The voxels of a DICOM series that ``assembly`` made.

    Raises
    ------
    NotReadable
        If the pixels of a file are damaged; the error names the file.
    LimitExceeded
        If decoding takes more memory or time than allowed.
    GeometryRefused
        If a repair turns out to be impossible.
    """
    plan: PixelPlan = series.plan
    size = result_bytes(plan)
    if size > limits.volume_bytes:
        fact = f"it takes {size / 2**30:.1f} GiB decoded, more than the {limits.volume_bytes / 2**30:.1f} allowed"
        raise LimitExceeded(fact, "raise the limit if you trust the source", series.source)
    array, padding = _decoded(plan, series.source, limits)
    if series.kind is SeriesKind.DYNAMIC:
        return _time_series(series, plan, array)
    array, padding = array[0], None if padding is None else padding[0]
    if series.geometry is not None:
        return _volume(series, plan, array, padding, series.geometry)
    return _repaired_volume(series, plan, repaired(array, padding, plan.stacks[0]))


def _volume(
    series: Series, plan: PixelPlan, array: NDArray[Any], padding: NDArray[np.bool_] | None, geometry: Geometry
) -> Volume:
    return Volume(array, geometry, plan.quantity, padding, _provenance(series, plan.frames[0]))


def _repaired_volume(series: Series, plan: PixelPlan, result: Repaired) -> Volume:
    frames = tuple(plan.frames[0][k] for k in result.kept)
    provenance = _provenance(series, plan.frames[0], frames)
    left_out = [issue.message for issue in series.issues if issue.code == "damaged"]
    for fact in (*left_out, *result.facts):
        provenance = provenance.with_repair(fact)
    return Volume(result.array, result.geometry, plan.quantity, result.padding, provenance)


def _time_series(series: Series, plan: PixelPlan, array: NDArray[Any]) -> TimeSeries:
    geometry = series.geometry
    if geometry is None:
        raise NotReadable("the time points have no common grid", "inspect the series", series.source)
    provenance = tuple(_provenance(series, point) for point in plan.frames)
    return TimeSeries(array, geometry, series.times_s, plan.quantity, provenance)


def _provenance(series: Series, used: tuple[Frame, ...], frames: tuple[Frame, ...] | None = None) -> Provenance:
    """Origin of a volume made of the frames ``used``; ``frames`` where those of the slices differ."""
    shown = used if frames is None else frames
    uid = used[0].get("SeriesInstanceUID")
    return Provenance(
        source=series.source,
        format="dicom",
        study_instance_uid=series.study_instance_uid,
        series_instance_uid=str(uid) if uid else None,
        frames=tuple(_source_frame(frame) for frame in shown),
        source_files=tuple(dict.fromkeys(frame.instance.path for frame in used)),
        warnings=tuple(i.message for i in series.issues if i.severity == "warn" or i.code in _TOLD),
        acquisition=series.acquisition,
    )


def _source_frame(frame: Frame) -> SourceFrame:
    return SourceFrame(frame.instance.sop_class_uid, frame.instance.sop_instance_uid, frame.number, frame.instance.path)


@dataclass(frozen=True, eq=False)
class _Job:
    """One frame to decode, and where it goes."""

    frame: Frame
    conversion: Conversion
    padding: tuple[int, int] | None

    @property
    def index(self) -> int:
        """Number of the frame in its instance, from 0."""
        return (self.frame.number or 1) - 1


@dataclass(frozen=True, eq=False)
class _Bench:
    """What the decoding child shares with its parent."""

    jobs: tuple[_Job, ...]
    out: NDArray[Any]  # (jobs, rows, columns)
    mask: NDArray[np.bool_] | None
    progress: NDArray[np.uint8]  # (jobs,) 0, _STARTED or _DONE
    sources: dict[int, StoredFrames] = field(default_factory=dict)

    def source(self, instance: Instance) -> StoredFrames:
        """The stored frames of an instance, opened once."""
        return self.sources.setdefault(id(instance), StoredFrames(instance))


def _decoded(plan: PixelPlan, source: Path, limits: Limits) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """(times, slices, rows, columns) numbers, and the padding if there is any."""
    jobs = tuple(
        _Job(frame, conversion, padding_range(frame))
        for frames, conversions in zip(plan.frames, plan.conversions, strict=True)
        for frame, conversion in zip(frames, conversions, strict=True)
    )
    for uid in {job.frame.instance.format.transfer_syntax_uid for job in jobs}:
        warm_up(uid)
    stored = plan.first.instance.format
    shape = (len(jobs), stored.rows, stored.columns)
    mask = jail.shared_array(shape, np.bool_) if any(job.padding for job in jobs) else None
    for exact in (False, True):
        dtype = result_dtype(plan, exact=exact)
        bench = _Bench(jobs, jail.shared_array(shape, dtype), mask, jail.shared_array((len(jobs),), np.uint8))
        answer: Any = jail.run_one(partial(_decode_all, bench, limits), limits)
        if isinstance(answer, jail.Failure):
            _raise_failure(answer, bench, source, limits)
        if "fault" in answer:
            number, reason = answer["fault"]
            raise NotReadable(reason, _AGAIN, jobs[number].frame.instance.path)
        if answer["fits"]:
            break
    grid = (len(plan.frames), len(plan.frames[0]), *shape[1:])
    return bench.out.reshape(grid), mask.reshape(grid) if mask is not None and answer["padded"] else None


def _decode_all(bench: _Bench, limits: Limits) -> dict[str, Any]:
    """In the child: every frame on threads; the lowest faulty one if any is."""
    threads = limits.threads or len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(max_workers=max(1, min(threads, len(bench.jobs)))) as pool:
        results = list(pool.map(lambda n: _decode_one(bench, n), range(len(bench.jobs))))
    fault = next(((n, reason) for n, (reason, _, _) in enumerate(results) if reason), None)
    if fault is not None:
        return {"fault": fault}
    return {"fits": all(fits for _, fits, _ in results), "padded": any(padded for _, _, padded in results)}


def _decode_one(bench: _Bench, number: int) -> tuple[str, bool, bool]:
    """(fault, whether all numbers fit, whether there is padding) of one frame."""
    job, target = bench.jobs[number], bench.out[number]
    bench.progress[number] = _STARTED
    own = stored_dtype(job.frame.instance.format)
    in_place = own.itemsize == target.dtype.itemsize and (
        own == target.dtype or "f" not in own.kind + target.dtype.kind
    )
    stored = target.view(own) if in_place else np.empty(target.shape, dtype=own)
    try:
        decode_into(bench.source(job.frame.instance), job.index, stored)
    except Malformed as fault:
        return str(fault), True, False
    padded = False
    if job.padding is not None and bench.mask is not None:
        padded = _mark_padding(stored, job.padding, bench.mask[number])
    fits = converted(stored, job.conversion, target)
    bench.progress[number] = _DONE
    return "", fits, padded


def _mark_padding(stored: NDArray[Any], ends: tuple[int, int], mask: NDArray[np.bool_]) -> bool:
    info = np.iinfo(stored.dtype)
    if ends[1] < info.min or ends[0] > info.max:
        return False
    low, high = max(ends[0], info.min), min(ends[1], info.max)
    if low == high:
        np.equal(stored, low, out=mask)
    else:
        np.logical_and(stored >= low, stored <= high, out=mask)
    return bool(mask.any())


def _raise_failure(failure: jail.Failure, bench: _Bench, source: Path, limits: Limits) -> NoReturn:
    """A dead or stopped child, with the file that did it if one alone does it again."""
    suspects = [int(n) for n in np.flatnonzero(bench.progress == _STARTED)]
    path = source
    if failure.kind == "crash" and suspects:
        answers = jail.run_each(lambda n: _decode_one(bench, suspects[n])[1], len(suspects), limits)
        guilty = [n for n, answer in zip(suspects, answers, strict=True) if isinstance(answer, jail.Failure)]
        path = bench.jobs[guilty[0] if guilty else suspects[0]].frame.instance.path
    error: type[InputError] = LimitExceeded if failure.kind == "limit" else NotReadable
    remedy = "raise the limit if you trust the source" if failure.kind == "limit" else _AGAIN
    raise error(failure.reason, remedy, path)
