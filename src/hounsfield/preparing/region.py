"""A box of a scan around a point, and the way back: for models that read only a region."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import InputError
from hounsfield.volume import Geometry, LabelMap, Volume

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Region:
    """An index box (k, j, i) of a scan, inside its grid."""

    box: Box

    def of(self, volume: Volume) -> Volume:
        """The part of the scan inside the box (views, no copies); frames follow the slices."""
        start = (self.box[0].start, self.box[1].start, self.box[2].start)
        shape = (
            self.box[0].stop - self.box[0].start,
            self.box[1].stop - self.box[1].start,
            self.box[2].stop - self.box[2].start,
        )
        frames = volume.provenance.frames
        provenance = replace(volume.provenance, frames=frames[self.box[0]] if frames else ())
        return replace(
            volume,
            array=volume.array[self.box],
            geometry=volume.geometry.cropped(start, shape),
            padding=None if volume.padding is None else volume.padding[self.box],
            provenance=provenance,
        )

    def put_back(self, labels: LabelMap, whole: Geometry) -> LabelMap:
        """The labels on the whole scan's grid, background outside the box."""
        array: NDArray[Any] = np.zeros(whole.shape, labels.array.dtype)
        array[self.box] = labels.array
        return LabelMap(array, whole)


def region_around(geometry: Geometry, centre_mm: tuple[float, float, float], size_mm: tuple[float, ...]) -> Region:
    """The box of about ``size_mm`` around an LPS point, cut at the borders of the scan.

    Parameters
    ----------
    size_mm
        Edge lengths along the patient axes (x, y, z), mm.

    Raises
    ------
    InputError
        If the point lies outside the scan.
    """
    if not geometry.contains_mm(centre_mm):
        point = ", ".join(f"{value:g}" for value in centre_mm)
        raise InputError(f"the point ({point}) mm lies outside the scan", "give an LPS point inside it")
    along = np.abs(geometry.direction).T @ np.asarray(size_mm, dtype=np.float64)
    half = along / np.asarray(geometry.spacing_mm) / 2
    middle = geometry.mm_to_index(centre_mm)
    low = np.maximum(np.rint(middle - half), 0).astype(int)
    high = np.minimum(np.rint(middle + half) + 1, geometry.shape).astype(int)
    k, j, i = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return Region((k, j, i))
