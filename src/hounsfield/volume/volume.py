"""A scan, or anything computed from one, in space: array + geometry + meaning + origin."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import GeometryRefused
from hounsfield.volume.geometry import Geometry, Shape
from hounsfield.volume.provenance import Provenance


class Quantity(StrEnum):
    """What the numbers of a volume mean."""

    HU = "HU"
    SUV_BW = "SUVbw"
    ARBITRARY = "arbitrary"
    ACTIVITY = "Bq/ml"
    LABEL = "label"
    PROBABILITY = "probability"


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3-D scan.

    Parameters
    ----------
    array
        (slices, rows, columns) in index order (k, j, i); any real dtype wide enough for the
        stored values, possibly memory-mapped. Treat it as read-only.
    geometry
        Where the array lies; its shape equals ``array.shape``.
    quantity
        What the numbers mean.
    padding
        (slices, rows, columns) bool, True where the scanner stored no measurement (pixel
        padding); ``None`` where there is none.
    """

    array: NDArray[Any]
    geometry: Geometry
    quantity: Quantity = Quantity.ARBITRARY
    padding: NDArray[np.bool_] | None = None
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        _same_shape(self.array.shape, self.geometry)
        if self.padding is not None:
            _same_shape(self.padding.shape, self.geometry)

    @property
    def shape(self) -> Shape:
        """(slices, rows, columns)."""
        return self.geometry.shape

    def with_array(
        self,
        array: NDArray[Any],
        geometry: Geometry | None = None,
        quantity: Quantity | None = None,
        padding: NDArray[np.bool_] | None = None,
    ) -> Volume:
        """The same scan with other voxels; a new shape needs its geometry and padding given."""
        if geometry is None and padding is None:
            padding = self.padding
        return replace(
            self,
            array=array,
            geometry=self.geometry if geometry is None else geometry,
            quantity=self.quantity if quantity is None else quantity,
            padding=padding,
        )


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Integer labels in space: 0 is background, segment numbers count from 1.

    Parameters
    ----------
    array
        (slices, rows, columns), an unsigned integer dtype.
    geometry
        Where the array lies.
    """

    array: NDArray[Any]
    geometry: Geometry

    def __post_init__(self) -> None:
        _same_shape(self.array.shape, self.geometry)
        if self.array.dtype.kind != "u":
            raise TypeError(f"a LabelMap holds unsigned integers, not {self.array.dtype}")


@dataclass(frozen=True, eq=False)
class TimeSeries:
    """A dynamic scan: one volume of the same grid per time point.

    Parameters
    ----------
    array
        (times, slices, rows, columns).
    geometry
        Where each time point lies; its shape equals ``array.shape[1:]``.
    times_s
        Seconds of each time point after the first, increasing.
    provenance
        One per time point.
    """

    array: NDArray[Any]
    geometry: Geometry
    times_s: tuple[float, ...]
    quantity: Quantity = Quantity.ARBITRARY
    provenance: tuple[Provenance, ...] = ()

    def __post_init__(self) -> None:
        _same_shape(self.array.shape[1:], self.geometry)
        if self.array.ndim != 4 or len(self.times_s) != self.array.shape[0]:
            raise GeometryRefused(
                f"{len(self.times_s)} times were given for an array of shape {self.array.shape}",
                "give one time per volume",
            )

    def at(self, index: int) -> Volume:
        """The volume of one time point, sharing the array."""
        provenance = self.provenance[index] if self.provenance else Provenance()
        return Volume(self.array[index], self.geometry, self.quantity, None, provenance)


def _same_shape(shape: tuple[int, ...], geometry: Geometry) -> None:
    if tuple(shape) != geometry.shape:
        raise GeometryRefused(
            f"an array of shape {tuple(shape)} does not fit a geometry of shape {geometry.shape}",
            "pass the geometry that belongs to the array",
        )
