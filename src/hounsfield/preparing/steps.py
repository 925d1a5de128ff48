"""Geometric steps: each predicts its output geometry exactly and says how to go back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hounsfield.preparing.interpolation import Interpolation, nearest, reach, resample_axis, weights
from hounsfield.volume import Geometry, Shape

Box = tuple[slice, slice, slice]


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

    No smoothing before shrinking, as nnU-Net, MONAI and ITK do it.
    """

    spacing_mm: tuple[float, float, float]
    interpolation: Interpolation = "linear"

    def geometry(self, source: Geometry) -> Geometry:
        """The grid with the nearest spacing that keeps the extent."""
        return source.resampled(self.spacing_mm)

    def apply(self, array: NDArray[Any], source: Geometry) -> NDArray[Any]:
        """(slices, rows, columns) float32, or the input itself if no axis changes."""
        target = self.geometry(source).shape
        return resample_box(array, target, self.interpolation, tuple(slice(0, n) for n in target))  # type: ignore[arg-type]

    def invert(self, array: NDArray[Any], source: Geometry) -> NDArray[Any]:
        """Labels back on the source's grid by the nearest voxel."""
        for axis, (old, new) in enumerate(zip(array.shape, source.shape, strict=True)):
            if old != new:
                array = resample_nearest(array, axis, new)
        return array


def resample_nearest(array: NDArray[Any], axis: int, new: int) -> NDArray[Any]:
    """One axis to ``new`` voxels, each the nearest old one; any dtype."""
    return np.take(array, nearest(array.shape[axis], new), axis=axis)


def resample_box(array: NDArray[Any], target: Shape, kind: Interpolation, box: Box) -> NDArray[Any]:
    """The part ``box`` of an array resampled to the shape ``target``.

    Only the voxels that the box depends on are read, so a memory-mapped array stays on disk.
    Axes are taken in the order that shrinks the data first.
    """
    ranges = [
        reach(old, new, kind, part.start, part.stop) for old, new, part in zip(array.shape, target, box, strict=True)
    ]
    part = array[tuple(slice(*each) for each in ranges)]
    if array.shape == target:
        return part
    part = np.ascontiguousarray(part, dtype=np.float32)
    axes = [axis for axis in range(3) if array.shape[axis] != target[axis]]
    for axis in sorted(axes, key=lambda axis: target[axis] / array.shape[axis]):
        matrix = weights(array.shape[axis], target[axis], kind)[box[axis], slice(*ranges[axis])]
        part = resample_axis(part, axis, matrix)
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
