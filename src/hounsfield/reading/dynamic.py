"""Time points: within one series, and over several series that each hold one."""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hounsfield.reading.grouping import distinct_places, partition
from hounsfield.reading.instances import Frame
from hounsfield.reading.stacking import Stack, places

FEWEST_SERIES: Final = 3
_LONGEST_PAUSE: Final = 4.0  # of the median interval, within one dynamic run over several series
_NUMBERS: Final = re.compile(r"[0-9]+([.,][0-9]+)?\s*(s|sec|ms|min)?\b|[0-9]+", re.IGNORECASE)

_CLOCKS: Final[tuple[Callable[[Frame], Any], ...]] = (
    lambda frame: frame.number_of("TemporalPositionIndex"),
    lambda frame: frame.number_of("TemporalPositionIdentifier"),
    lambda frame: frame.number_of("NominalCardiacTriggerDelayTime"),
    lambda frame: frame.number_of("TriggerTime"),
    lambda frame: frame.acquired_s,
    lambda frame: frame.number_of("FrameReferenceTime"),
    lambda frame: frame.number_of("AcquisitionNumber"),
)


def time_points(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames that repeat positions, apart by time; one list where they do not, or time does not tell.

    A clock is believed where no time point repeats a position and the usual time point covers at
    least half of the positions; without one, the k-th acquisition at each position makes time
    point k if every position has as many.
    """
    distinct = distinct_places(frames)
    if distinct in (1, len(frames)):
        return [list(frames)]
    for clock in _CLOCKS:
        parts = [part for part in partition(frames, clock) if clock(part[0]) is not None]
        if len(parts) < 2 or sum(len(part) for part in parts) < len(frames):
            continue
        covers = sorted(len(part) for part in parts)
        if all(len(part) == distinct_places(part) for part in parts) and covers[len(covers) // 2] * 2 >= distinct:
            return sorted(parts, key=lambda part: clock(part[0]))
    return _by_rank(frames, distinct)


def _by_rank(frames: Sequence[Frame], distinct: int) -> list[list[Frame]]:
    repeats = len(frames) // distinct
    if repeats < 2 or repeats * distinct != len(frames) or any(f.acquired_s is None for f in frames):
        return [list(frames)]
    along = places(frames)
    order = sorted(range(len(frames)), key=lambda n: (round(float(along[n]), 2), frames[n].acquired_s or 0.0))
    points: list[list[Frame]] = [[frames[order[k * repeats + t]] for k in range(distinct)] for t in range(repeats)]
    clean = all(distinct_places(point) == distinct for point in points)
    grows = all(
        (points[t][k].acquired_s or 0.0) < (points[t + 1][k].acquired_s or 0.0)
        for t in range(repeats - 1)
        for k in range(distinct)
    )
    return points if clean and grows else [list(frames)]


def times_s(points: Sequence[Sequence[Frame]]) -> tuple[float, ...] | None:
    """Seconds of each time point after the first; ``None`` if no clock grows from each to the next."""
    clocks: tuple[Callable[[Frame], float | None], ...] = (
        lambda frame: frame.acquired_s,
        lambda frame: _milliseconds(frame, "FrameReferenceTime"),
        lambda frame: _milliseconds(frame, "NominalCardiacTriggerDelayTime"),
        lambda frame: _milliseconds(frame, "TriggerTime"),
    )
    for clock in clocks:
        moments = [[clock(frame) for frame in point] for point in points]
        if any(moment is None for point in moments for moment in point):
            continue
        middle = [statistics.median(m for m in point if m is not None) for point in moments]
        if all(later > earlier for earlier, later in itertools.pairwise(middle)):
            return tuple(round(m - middle[0], 6) for m in middle)
    return _from_duration(points)


def _milliseconds(frame: Frame, keyword: str) -> float | None:
    value = frame.number_of(keyword)
    return None if value is None else value / 1000.0


def _from_duration(points: Sequence[Sequence[Frame]]) -> tuple[float, ...] | None:
    duration = _milliseconds(points[0][0], "ActualFrameDuration")
    return tuple(n * duration for n in range(len(points))) if duration and duration > 0 else None


@dataclass(frozen=True, eq=False)
class Run:
    """Stacks of one dynamic run in the order of time, or a lone one; why it is alone, where others look like it."""

    stacks: tuple[Stack, ...]
    apart: str = ""


def merged(stacks: Sequence[Stack]) -> list[Run]:
    """Stacks of single time points apart into dynamic runs (three or more) and lone ones.

    Stacks belong to one run if study, frame of reference, grid, sequence parameters and the
    description without its numbers are the same, their times differ, and no pause is much longer
    than the others.
    """
    runs: dict[Any, list[Stack]] = {}
    for n, one in enumerate(stacks):
        frame = one.frames[0]
        alone = one.geometry is None or frame.acquired_s is None or frame.get("Modality") not in ("MR", "CT", "PT")
        runs.setdefault(("alone", n) if alone else _protocol(one), []).append(one)
    result: list[Run] = []
    for run in runs.values():
        ordered = tuple(sorted(run, key=lambda one: one.frames[0].acquired_s or 0.0))
        why = _why_no_run(ordered)
        result += [Run(ordered)] if why is None else [Run((one,), why) for one in run]
    return result


def _protocol(one: Stack) -> tuple[Any, ...]:
    frame = one.frames[0]
    grid = () if one.geometry is None else (one.geometry.shape, *(round(v, 2) for v in one.geometry.affine.flat))
    parameters = [frame.number_of(k) for k in ("RepetitionTime", "EchoTime", "FlipAngle", "InversionTime", "KVP")]
    texts = [frame.get(k) for k in ("StudyInstanceUID", "FrameOfReferenceUID", "Modality", "SequenceName")]
    description = _NUMBERS.sub("#", str(frame.get("SeriesDescription", "")))
    return (*grid, *parameters, *texts, description, frame.image_type, tuple(frame.get("ConvolutionKernel", ())))


def _why_no_run(run: Sequence[Stack]) -> str | None:
    """``None`` for a run; else why volumes of one protocol are none, empty where there are too few to ask."""
    if len(run) < FEWEST_SERIES:
        return ""
    times = times_s([one.frames for one in run])
    if times is None or not math.isfinite(times[-1]):
        return f"{len(run)} volumes of one protocol make no sequence: their times do not grow from each to the next"
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    longest, usual = max(pauses), statistics.median(pauses)
    if longest <= _LONGEST_PAUSE * usual:
        return None
    return (
        f"{len(run)} volumes of one protocol make no sequence: after time point {pauses.index(longest) + 1} "
        f"nothing was acquired for {longest:.4g} s, where {usual:.4g} s are usual"
    )
