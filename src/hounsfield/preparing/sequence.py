"""A dynamic scan as a network of sequences sees it: in time as the package says, then each volume as any scan."""

from __future__ import annotations

import itertools
import statistics
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import GeometryRefused, InputError
from hounsfield.packages.answers import TimesSpec
from hounsfield.packages.manifest import InputSpec
from hounsfield.preparing.contrast import GradientEcho
from hounsfield.preparing.prepare import prepare
from hounsfield.preparing.prepared import Prepared
from hounsfield.volume import Acquisition, TimeSeries, Volume

_LATE = 0.5  # of the usual pause: so much earlier than the last wanted time may a sequence end


@dataclass(frozen=True, eq=False)
class PreparedSequence:
    """What the network reads.

    Parameters
    ----------
    values
        (times, k, j, i) float32 network values on the grid of ``prepared``.
    before
        (k, j, i) float32 mean of the first time points, as the scan has it (all of them without a baseline).
    prepared
        The first time point: the grid, and the way back to the scan's own.
    warnings
        What was assumed.
    """

    values: NDArray[np.float32]
    before: NDArray[np.float32]
    prepared: Prepared
    warnings: tuple[str, ...]


def prepare_sequence(series: TimeSeries, spec: InputSpec) -> PreparedSequence:
    """Time points as ``[input.times]`` says, the signal it names, and the geometry of ``[input]``.

    Raises
    ------
    InputError
        If the sequence is shorter than the package reads, or a pause is too long.
    GeometryRefused
        If its grid cannot be used.
    """
    times = spec.times or TimesSpec(count=len(series.times_s))
    chosen = _in_time(series, times)
    first = chosen[: times.baseline or times.count].mean(axis=0)
    shown, warnings = _signal(chosen, first, series, times)
    parts = [_prepared(array, series, spec) for array in (*shown, first)]
    *points, before = parts
    values = np.stack([_array(one)[0] for one in points])
    plain = spec.model_copy(update={"intensity": ()})
    unscaled = _array(_prepared(first, series, plain))[0]
    return PreparedSequence(np.ascontiguousarray(values, np.float32), unscaled, before, warnings)


def _in_time(series: TimeSeries, times: TimesSpec) -> NDArray[np.float32]:
    """(count, slices, rows, columns) float32: every so many seconds, or every so many time points."""
    there = series.times_s
    pauses = [later - earlier for earlier, later in itertools.pairwise(there)]
    if times.longest_pause_s is not None and pauses and max(pauses) > times.longest_pause_s:
        place = pauses.index(max(pauses)) + 1
        raise InputError(
            f"after time point {place} nothing was acquired for {max(pauses):.4g} s, "
            f"the model wants at most {times.longest_pause_s:g} s (usual here: {statistics.median(pauses):.4g} s)",
            "give the whole sequence: a time point may be missing",
        )
    if times.step_s is None:
        if len(there) < times.count:
            raise InputError(
                f"the sequence has {len(there)} time points, the model reads {times.count} phases",
                "give the whole sequence, or another model",
            )
        return np.asarray(
            series.array[[round(n) for n in np.linspace(0, len(there) - 1, times.count)]], dtype=np.float32
        )
    wanted = np.arange(times.count) * times.step_s
    if not pauses or wanted[-1] > there[-1] + _LATE * statistics.median(pauses):
        raise InputError(
            f"the sequence lasts {there[-1]:.4g} s, the model reads {wanted[-1]:.4g} s", "give a longer sequence"
        )
    after = np.clip(np.searchsorted(there, wanted, side="right"), 1, len(there) - 1)
    share = np.clip((wanted - np.take(there, after - 1)) / (np.take(there, after) - np.take(there, after - 1)), 0, 1)
    out = np.empty((times.count, *series.geometry.shape), np.float32)
    for n, (late, part) in enumerate(zip(after.tolist(), share.tolist(), strict=True)):
        out[n] = (1 - part) * series.array[late - 1] + part * series.array[late]
    return out


def _signal(
    chosen: NDArray[np.float32], first: NDArray[np.float32], series: TimeSeries, times: TimesSpec
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """The values, their relative change, or the concentration of contrast medium."""
    if times.signal == "values":
        return chosen, ()
    seen = first > 0
    relative = np.ones_like(chosen)
    np.divide(chosen, first, out=relative, where=np.broadcast_to(seen, chosen.shape))
    if times.signal == "relative":
        return relative - 1, ()
    echo, assumed = _echo(series, times)
    return np.asarray(echo.concentration(relative), np.float32), assumed


def _echo(series: TimeSeries, times: TimesSpec) -> tuple[GradientEcho, tuple[str, ...]]:
    """The sequence as the scan states it, else as the package assumes it; and what was assumed."""
    scan = series.provenance[0].acquisition if series.provenance else Acquisition()
    warnings = [f"T1 before contrast was taken as {times.t1_ms:g} ms everywhere"]
    told = []
    for value, assumed, what, unit in (
        (scan.repetition_time_ms, times.repetition_time_ms, "repetition time", " ms"),
        (scan.flip_angle_degrees, times.flip_angle_degrees, "flip angle", "°"),
    ):
        known = assumed if value is None else value
        if known is None:
            raise InputError(
                f"the scan does not state its {what}, so its signal gives no concentration", "give the DICOM series"
            )
        if value is None:
            warnings.append(f"the scan does not state its {what}: {known:g}{unit} was taken")
        told.append(known)
    return GradientEcho(told[0], told[1], times.t1_ms, times.relaxivity), tuple(warnings)


def _prepared(array: NDArray[np.float32], series: TimeSeries, spec: InputSpec) -> Prepared:
    return prepare(Volume(array, series.geometry, series.quantity), spec)


def _array(prepared: Prepared) -> NDArray[np.float32]:
    k, j, i = prepared.shape
    return prepared.read((slice(0, k), slice(0, j), slice(0, i)))


def as_series(volumes: list[Volume], name: str) -> TimeSeries:
    """Single volumes, in order, as a sequence one second apart (where nobody says when they were taken).

    Raises
    ------
    GeometryRefused
        If they do not lie on one grid.
    """
    first = volumes[0]
    if any(not one.geometry.is_close(first.geometry, 0.05) for one in volumes):
        raise GeometryRefused(f"{name}: the phases do not lie on one grid", "register and resample them")
    return TimeSeries(
        np.stack([one.array for one in volumes]),
        first.geometry,
        tuple(float(n) for n in range(len(volumes))),
        first.quantity,
        tuple(one.provenance for one in volumes),
    )
