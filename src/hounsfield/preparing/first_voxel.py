"""Resampling that keeps the centre of the first voxel and the exact spacing, as MONAI's ``Spacing`` does.

An axis of n voxels at s mm becomes one of ``round((n - 1) * s / t + 1)`` voxels at t mm (``compute_shape_offset`` of
MONAI 1.6, ``scale_extent = False``); voxel o of it lies at ``o * t / s`` on the old one. Beyond the last centre the
edge value is held. A spacing that is within 1e-3 mm of the wanted one is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.preparing.interpolation import Taps, resample_axis
from hounsfield.volume import Geometry, Shape

_TOLERANCE_MM = 1e-3


@dataclass(frozen=True)
class FromFirst:
    """Linear resampling to a spacing (k, j, i) mm with the first voxel's centre kept; 0 keeps the scan's own."""

    spacing_mm: tuple[float, float, float]

    def geometry(self, source: Geometry) -> Geometry:
        """The grid with exactly the spacing."""
        scales = self._scales(source)
        sizes = [round((n - 1) / scale + 1) for n, scale in zip(source.shape, scales, strict=True)]
        affine = source.affine.copy()
        affine[:3, :3] *= scales
        return Geometry((sizes[0], sizes[1], sizes[2]), affine, source.frame_of_reference_uid)

    def apply(self, array: NDArray[Any], source: Geometry) -> NDArray[Any]:
        """(slices, rows, columns) float32, or the input itself if no axis changes."""
        for axis, taps in enumerate(self.taps(source)):
            if len(taps.low) != source.shape[axis] or taps.fraction.any():
                array = resample_axis(array, axis, taps.matrix(source.shape[axis]))
        return array

    def taps(self, source: Geometry, *, nearest: bool = False) -> tuple[Taps, Taps, Taps]:
        """The neighbours of each new voxel on the source's grid."""
        shape, scales = self.geometry(source).shape, self._scales(source)
        there = nearest_at if nearest else linear_at
        found = [
            there(np.arange(n, dtype=np.float64) * np.float64(s), old)
            for n, s, old in zip(shape, scales, source.shape, strict=True)
        ]
        return found[0], found[1], found[2]

    def invert(self, array: NDArray[Any], source: Geometry) -> NDArray[Any]:
        """Labels back on the source's grid by the nearest voxel."""
        for axis, taps in enumerate(self.taps_back(source, nearest=True)):
            if taps is not None:
                array = np.take(array, taps.low, axis=axis)
        return array

    def taps_back(self, source: Geometry, *, nearest: bool) -> tuple[Taps | None, Taps | None, Taps | None]:
        """The neighbours of each voxel of ``source`` on the new grid; ``None`` for an axis that is the same."""
        shape: Shape = self.geometry(source).shape
        found = []
        for old, new, scale in zip(source.shape, shape, self._scales(source), strict=True):
            at = np.arange(old, dtype=np.float64) / np.float64(scale)
            found.append(None if scale == 1 else (nearest_at if nearest else linear_at)(at, new))
        return found[0], found[1], found[2]

    def _scales(self, source: Geometry) -> list[float]:
        """New voxels in units of the old ones."""
        pairs = zip(self.spacing_mm, source.spacing_mm, strict=True)
        return [1.0 if not want or abs(want - have) <= _TOLERANCE_MM else want / have for want, have in pairs]


def linear_at(at: NDArray[np.float64], size: int) -> Taps:
    """Linear interpolation at places of an axis of ``size`` voxels; the edge value beyond its ends."""
    at = np.clip(at, 0, size - 1)
    low = np.minimum(np.floor(at).astype(np.intp), size - 1)
    fraction = at - low
    return Taps(low, np.where(fraction > 0, np.minimum(low + 1, size - 1), low), fraction)


def nearest_at(at: NDArray[np.float64], size: int) -> Taps:
    """The nearest voxel at places of an axis, ties to the even one (``nearbyint``, as torch samples)."""
    index = np.clip(np.rint(at), 0, size - 1).astype(np.intp)
    return Taps(index, index, np.zeros(len(at)))
