"""Geometric steps: each predicts its output geometry exactly and says how to go back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hounsfield.preparing.interpolation import (
    Interpolation,
    Taps,
    linear_taps,
    nearest,
    nearest_taps,
    reach,
    resample_axis,
    weights,
)
from hounsfield.volume import Geometry, Shape

Box = tuple[slice, slice, slice]
Kinds = tuple[Interpolation, Interpolation, Interpolation]
Spacing = tuple[float, float, float]


@runtime_checkable
class Step(Protocol):
    """A change of the grid that can be undone.

    Contract
    --------
    - ``geometry(g)`` is known without any voxel and equals the geometry of the result of
      ``apply`` to an array on ``g``, exactly.
    - ``apply`` takes (slices, rows, columns) on ``g`` and never changes its input; a step that
      moves nothing answers the same values bit for bit.
    - ``invert`` takes an array on ``geometry(g)`` back to the grid ``g``; labels by the nearest
      voxel. Voxels that the step had cropped away come back as 0.

    It is not a transform of patient space: what a voxel shows stays where it is in millimetres.
    """

    def geometry(self, source: Geometry) -> Geometry:
        """The grid of the result."""
        ...

    def apply(self, array: NDArray[Any], source: Geometry) -> NDArray[Any]:
        """The array on the new grid."""
        ...

    def invert(self, array: NDArray[Any], source: Geometry) -> NDArray[Any]:
        """An array of the new grid, back on the grid ``source``."""
        ...


@dataclass(frozen=True)
class Orient:
    """Turn the index axes along an orientation code such as ``"LPS"``; a view, no copy.

    Oblique volumes go to the nearest of the 48 orientations; no voxel is interpolated.
    """

    code: str

    def geometry(self, source: Geometry) -> Geometry:
        """The same voxels, axes reordered and flipped."""
        return source.reoriented(self.code)[0]

    def apply(self, array: NDArray[Any], source: Geometry) -> NDArray[Any]:
        """A view of (slices, rows, columns) with its axes along the code."""
        _, order, flips = source.reoriented(self.code)
        return _flip(array.transpose(order), flips)

    def invert(self, array: NDArray[Any], source: Geometry) -> NDArray[Any]:
        """A view with the axes of the source."""
        _, order, flips = source.reoriented(self.code)
        return _flip(array, flips).transpose(tuple(int(n) for n in np.argsort(order)))


def _flip(array: NDArray[Any], flips: tuple[bool, bool, bool]) -> NDArray[Any]:
    return array[tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)]


@dataclass(frozen=True)
class Resample:
    """Interpolate to a spacing (k, j, i) mm; the outer faces stay (see ``Geometry.resampled``).

    No smoothing before shrinking, as nnU-Net, MONAI and ITK do it. A spacing of 0 keeps the scan's own.

    Parameters
    ----------
    spacing_mm
        Of the network's grid.
    interpolation
        Of the image, on the way in; scores go back linearly.
    separate_above
        Where the scan's largest spacing, else the network's, is more than this many times its
        smallest, and one axis alone has it, that axis is taken from the nearest voxel, ties to the
        upper one (``determine_do_sep_z_and_axis`` of nnU-Net 2; back from the network, its
        spacing is asked first).
    """

    spacing_mm: tuple[float, float, float]
    interpolation: Interpolation = "linear"
    separate_above: float | None = None

    def geometry(self, source: Geometry) -> Geometry:
        """The grid with the nearest spacing that keeps the extent."""
        return source.resampled(self._wanted(source))

    def kinds(self, source: Geometry) -> Kinds:
        """How each axis of a scan on ``source`` is interpolated."""
        return self._kinds(source.spacing_mm, self._wanted(source), self.interpolation)

    def kinds_back(self, source: Geometry) -> Kinds:
        """How scores are interpolated back onto ``source``."""
        return self._kinds(self._wanted(source), source.spacing_mm, "linear")

    def taps_back(self, source: Geometry, *, nearest: bool = False) -> tuple[Taps | None, Taps | None, Taps | None]:
        """The neighbours of each voxel of ``source`` on the new grid; ``None`` for an axis of as many voxels."""
        shape, kinds = self.geometry(source).shape, self.kinds_back(source)
        found = [
            None if old == new else (linear_taps if kind == "linear" and not nearest else nearest_taps)(new, old)
            for old, new, kind in zip(source.shape, shape, kinds, strict=True)
        ]
        return found[0], found[1], found[2]

    def _wanted(self, source: Geometry) -> Spacing:
        k, j, i = (want or have for want, have in zip(self.spacing_mm, source.spacing_mm, strict=True))
        return k, j, i

    def _kinds(self, first: Spacing, second: Spacing, kind: Interpolation) -> Kinds:
        axis = None
        if self.separate_above is not None:
            coarse = [spacing for spacing in (first, second) if max(spacing) / min(spacing) > self.separate_above]
            axis = _only_largest(coarse[0]) if coarse else None
        k, j, i = ("nearest-up" if number == axis else kind for number in range(3))
        return k, j, i

    def apply(self, array: NDArray[Any], source: Geometry) -> NDArray[Any]:
        """(slices, rows, columns) float32, or the input itself if no axis changes."""
        target = self.geometry(source).shape
        every = (slice(0, target[0]), slice(0, target[1]), slice(0, target[2]))
        kinds = self.kinds(source)
        return resample_box(
            array, target, kinds, every, Bounds(array, slab_axis(kinds)) if "cubic-edge" in kinds else None
        )

    def invert(self, array: NDArray[Any], source: Geometry) -> NDArray[Any]:
        """Labels back on the source's grid by the nearest voxel."""
        for axis, (old, new) in enumerate(zip(array.shape, source.shape, strict=True)):
            if old != new:
                array = resample_nearest(array, axis, new)
        return array


def _only_largest(spacing: Spacing) -> int | None:
    """The axis that alone has the largest spacing, if there is one."""
    largest = [axis for axis in range(3) if spacing[axis] >= max(spacing) * (1 - 1e-6)]
    return largest[0] if len(largest) == 1 else None


def slab_axis(kinds: Kinds) -> int | None:
    """The axis whose slices are interpolated each for itself, if any."""
    return kinds.index("nearest-up") if "nearest-up" in kinds else None


class Bounds:
    """Lowest and highest value of an array, or of each of its slices along an axis; found when asked for.

    Parameters
    ----------
    array
        (k, j, i); read slice by slice.
    axis
        ``None`` for the whole array.
    """

    def __init__(self, array: Any, axis: int | None) -> None:
        self._array, self._axis = array, axis
        self._found: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def clip(self, part: NDArray[np.float32], first: int) -> None:
        """Clip in place; ``part`` holds the slices from ``first`` on along the axis."""
        if self._found is None:
            self._found = self._look()
        low, high = self._found
        if self._axis is None:
            np.clip(part, low[0], high[0], out=part)
            return
        shape = [-1 if axis == self._axis else 1 for axis in range(3)]
        here = slice(first, first + part.shape[self._axis])
        np.clip(part, low[here].reshape(shape), high[here].reshape(shape), out=part)

    def _look(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        size = 1 if self._axis is None else self._array.shape[self._axis]
        low, high = np.full(size, np.inf, np.float32), np.full(size, -np.inf, np.float32)
        for k in range(self._array.shape[0]):
            plane = np.asarray(self._array[k : k + 1, :, :], np.float32)[0]
            at: Any = slice(None) if self._axis is None else slice(k, k + 1) if self._axis == 0 else slice(None)
            over = {1: 1, 2: 0}.get(-1 if self._axis is None else self._axis)
            low[at] = np.minimum(low[at], plane.min(axis=over))
            high[at] = np.maximum(high[at], plane.max(axis=over))
        return low, high


def resample_nearest(array: NDArray[Any], axis: int, new: int) -> NDArray[Any]:
    """One axis to ``new`` voxels, each the nearest old one; any dtype."""
    return np.take(array, nearest(array.shape[axis], new), axis=axis)


def resample_box(
    array: NDArray[Any], target: Shape, kinds: Kinds | Interpolation, box: Box, bounds: Bounds | None = None
) -> NDArray[Any]:
    """The part ``box`` of an array resampled to the shape ``target``.

    Only the voxels that the box depends on are read, so a memory-mapped array stays on disk.
    Axes are taken in the order that shrinks the data first; an axis of nearest voxels last, after
    the slices were clipped to ``bounds``. One kind for all axes may be given by itself.
    """
    if isinstance(kinds, str):
        kinds = (kinds, kinds, kinds)
    ranges = [
        reach(old, new, kind, part.start, part.stop)
        for old, new, kind, part in zip(array.shape, target, kinds, box, strict=True)
    ]
    part = array[tuple(slice(*each) for each in ranges)]
    if array.shape == target:
        return part
    part = np.ascontiguousarray(part, dtype=np.float32)
    slab = slab_axis(kinds)
    axes = [axis for axis in range(3) if array.shape[axis] != target[axis] and axis != slab]
    for axis in sorted(axes, key=lambda axis: target[axis] / array.shape[axis]):
        matrix = weights(array.shape[axis], target[axis], kinds[axis])[box[axis], slice(*ranges[axis])]
        part = resample_axis(part, axis, matrix)
    if bounds is not None and axes:
        bounds.clip(part, 0 if slab is None else ranges[slab][0])
    if slab is not None and array.shape[slab] != target[slab]:
        chosen = nearest(array.shape[slab], target[slab], up=True)[box[slab]] - ranges[slab][0]
        part = np.take(part, chosen, axis=slab)
    return part


@dataclass(frozen=True)
class CropPad:
    """The box of ``shape`` whose first voxel is ``start``; what lies outside gets ``value``.

    Negative starts pad in front; a shape beyond the end pads behind.
    """

    start: tuple[int, int, int]
    shape: Shape
    value: float = 0.0

    @classmethod
    def at_least(cls, shape: Shape, least: Shape, value: float = 0.0) -> CropPad:
        """Pad evenly on both sides up to ``least``; an odd voxel goes behind (MONAI, nnU-Net)."""
        before = [max(0, want - have) // 2 for have, want in zip(shape, least, strict=True)]
        k, j, i = (max(have, want) for have, want in zip(shape, least, strict=True))
        return cls((-before[0], -before[1], -before[2]), (k, j, i), value)

    def geometry(self, source: Geometry) -> Geometry:
        """The box's grid."""
        return source.cropped(self.start, self.shape)

    def apply(self, array: NDArray[Any], source: Geometry) -> NDArray[Any]:
        """The box, of the input's dtype; a view where nothing is padded."""
        inner, outer = self._overlap(array.shape)
        if all(part.stop - part.start == n for part, n in zip(outer, self.shape, strict=True)):
            return array[inner]
        out = np.full(self.shape, self.value, array.dtype)
        out[outer] = array[inner]
        return out

    def invert(self, array: NDArray[Any], source: Geometry) -> NDArray[Any]:
        """The box put back; 0 where the step had cropped."""
        inner, outer = self._overlap(source.shape)
        if all(part.stop - part.start == n for part, n in zip(inner, source.shape, strict=True)):
            return array[outer]
        out = np.zeros(source.shape, array.dtype)
        out[inner] = array[outer]
        return out

    def _overlap(self, shape: tuple[int, ...]) -> tuple[Box, Box]:
        """Where the box meets the source: slices of the source, and of the box."""
        inner, outer = [], []
        for first, size, n in zip(self.start, self.shape, shape, strict=True):
            low, high = max(0, first), max(max(0, first), min(n, first + size))
            inner.append(slice(low, high))
            outer.append(slice(low - first, high - first))
        return (inner[0], inner[1], inner[2]), (outer[0], outer[1], outer[2])
