"""Slices that form no uniform orthogonal volume, resampled to one; only ever on request."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import GeometryRefused
from hounsfield.reading.stacking import (
    ABSOLUTE_TOLERANCE_MM,
    Stack,
    frame_of_reference,
    normal_of,
    plane_affine,
    stack,
)
from hounsfield.volume import Geometry

_WHOLE: float = 1e-6


@dataclass(frozen=True, eq=False)
class Repaired:
    """A uniform volume.

    ``kept`` are the numbers of the source slices behind each slice, empty where slices were
    interpolated; ``facts`` say what was done.
    """

    array: NDArray[Any]
    padding: NDArray[np.bool_] | None
    geometry: Geometry
    kept: tuple[int, ...]
    facts: tuple[str, ...]


def repaired(array: NDArray[Any], padding: NDArray[np.bool_] | None, source: Stack) -> Repaired:
    """Make a uniform orthogonal volume of sorted slices.

    Equal copies at one position are dropped. If that is not enough, slices are interpolated
    linearly along their normal to the median spacing, after each has been put at its own place in
    the plane (which undoes gantry tilt). Voxels that no slice covers get the smallest value and
    are marked as padding.

    Parameters
    ----------
    array
        (slices, rows, columns) in the order of ``source``.

    Raises
    ------
    GeometryRefused
        If two slices at one position differ.
    """
    kept, facts = _without_duplicates(array, source)
    clean = stack([source.frames[k] for k in kept])
    part = array if len(kept) == len(array) else array[kept]
    mask = padding if padding is None or len(kept) == len(array) else padding[kept]
    if clean.geometry is not None:
        return Repaired(part, mask, clean.geometry, tuple(kept), tuple(facts))
    refused = [issue for issue in clean.issues if issue.severity == "refuse"]
    if refused:
        raise GeometryRefused(refused[0].message, refused[0].remedy)
    grid = _Grid.of(clean, array.shape[1], array.shape[2])
    values, outside = _resampled(part, mask, grid)
    reasons = "; ".join(issue.message for issue in clean.issues)
    facts.append(
        f"{len(kept)} slices resampled to {grid.count} of {grid.step_mm:.4f} mm by linear interpolation ({reasons})"
    )
    return Repaired(values, outside, grid.geometry(clean), (), tuple(facts))


def _without_duplicates(array: NDArray[Any], source: Stack) -> tuple[list[int], list[str]]:
    """Numbers of the slices to keep; a slice equal to its neighbour at the same place goes."""
    along = source.positions_mm @ normal_of(source.frames[0])
    kept = [0]
    for k in range(1, len(along)):
        if along[k] - along[kept[-1]] > ABSOLUTE_TOLERANCE_MM:
            kept.append(k)
        elif not np.array_equal(array[k], array[kept[-1]]):
            raise GeometryRefused(
                f"two different slices lie at one position ({along[k]:.2f} mm along the normal)",
                "separate them, or fetch the series again from its source",
            )
    dropped = len(along) - len(kept)
    return kept, [f"{dropped} slices equal to another at the same position left out"] if dropped else []


@dataclass(frozen=True, eq=False)
class _Grid:
    """The uniform grid: slice places along the normal, and each source slice's offset in it."""

    along_mm: NDArray[np.float64]
    count: int
    step_mm: float
    offsets: NDArray[np.float64]  # (slices, 2) rows and columns of source slices in the canvas
    rows: int
    columns: int
    first: tuple[int, int]  # rows and columns by which the canvas starts before the first slice

    @classmethod
    def of(cls, source: Stack, rows: int, columns: int) -> _Grid:
        frame = source.frames[0]
        normal = normal_of(frame)
        along = source.positions_mm @ normal
        along = along - along[0]
        count = max(2, round(float(along[-1] / np.median(np.diff(along)))) + 1)
        lateral = source.positions_mm - source.positions_mm[0] - along[:, None] * normal
        axes = np.reshape(np.asarray(frame.orientation, dtype=np.float64), (2, 3))
        spacing = np.asarray(frame.spacing_mm, dtype=np.float64)
        offsets = np.stack((lateral @ axes[1] / spacing[0], lateral @ axes[0] / spacing[1]), axis=1)
        low = np.floor(offsets.min(axis=0) + _WHOLE).astype(int)
        high = np.ceil(offsets.max(axis=0) - _WHOLE).astype(int)
        extra = high - low
        return cls(
            along,
            count,
            float(along[-1]) / (count - 1),
            offsets - low,
            rows + int(extra[0]),
            columns + int(extra[1]),
            (int(low[0]), int(low[1])),
        )

    def geometry(self, source: Stack) -> Geometry:
        """The grid in the patient."""
        frame = source.frames[0]
        affine = plane_affine(frame, source.positions_mm[0], normal_of(frame) * self.step_mm)
        affine[:3, 3] += affine[:3, 1] * self.first[0] + affine[:3, 2] * self.first[1]
        return Geometry((self.count, self.rows, self.columns), affine, frame_of_reference(frame))


def _resampled(
    array: NDArray[Any], padding: NDArray[np.bool_] | None, grid: _Grid
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    values = np.empty((grid.count, grid.rows, grid.columns), dtype=array.dtype)
    outside = np.zeros(values.shape, dtype=np.bool_)
    fill = array.min()
    for k in range(grid.count):
        place = k * grid.step_mm
        upper = min(max(int(np.searchsorted(grid.along_mm, place - _WHOLE)), 1), len(grid.along_mm) - 1)
        lower = upper - 1
        weight = (place - grid.along_mm[lower]) / (grid.along_mm[upper] - grid.along_mm[lower])
        pairs = [(n, w) for n, w in ((lower, 1.0 - weight), (upper, weight)) if w > _WHOLE]
        total = np.zeros((grid.rows, grid.columns), dtype=np.float64)
        for n, share in pairs:
            image, missing = _placed(array[n], None if padding is None else padding[n], grid, grid.offsets[n])
            total += share * image
            outside[k] |= missing
        values[k] = np.where(outside[k], fill, np.rint(total) if array.dtype.kind in "iu" else total)
    return values, outside if outside.any() else None


def _placed(
    image: NDArray[Any], padding: NDArray[np.bool_] | None, grid: _Grid, offset: Sequence[float] | NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """An image shifted by (rows, columns) >= 0 into the canvas, linearly, and where it says nothing."""
    whole = [math.floor(float(o) + _WHOLE) for o in offset]
    part = [max(0.0, float(o) - w) for o, w in zip(offset, whole, strict=True)]
    part = [0.0 if p < 10 * _WHOLE else p for p in part]
    canvas = np.zeros((grid.rows, grid.columns), dtype=np.float64)
    covered = np.zeros(canvas.shape, dtype=np.float64)
    known = np.ones(image.shape) if padding is None else (~padding).astype(np.float64)
    for dj, wj in ((0, 1.0 - part[0]), (1, part[0])):
        for di, wi in ((0, 1.0 - part[1]), (1, part[1])):
            if wj * wi == 0.0:
                continue
            j, i = whole[0] + dj, whole[1] + di
            box = (slice(j, j + image.shape[0]), slice(i, i + image.shape[1]))
            canvas[box] += wj * wi * image
            covered[box] += wj * wi * known
    return canvas, covered < 1.0 - 1e-4
