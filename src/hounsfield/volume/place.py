"""A point that somebody marked, in whatever way it was said, and where it lies in a scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hounsfield.errors import InputError
from hounsfield.volume.geometry import Geometry
from hounsfield.volume.provenance import SourceFrame

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Place:
    """One marked point: exactly one of ``lps_mm``, ``index``,
    ``sop_instance_uid`` and ``middle`` says where.

    Parameters
    ----------
    lps_mm
        (x, y, z) mm.
    frame_of_reference_uid
        Of ``lps_mm``, where the source of the point says it; then it must be the scan's.
    index
        (k, j, i) voxel of the scan, fractions allowed.
    sop_instance_uid, frame_number, column, row
        A pixel of a stored image: column and row from 0 at the centre of the first pixel.
    label
        What the source calls it.
    middle
        It is the middle of the scan.
    """

    lps_mm: Triple | None = None
    frame_of_reference_uid: str | None = None
    index: Triple | None = None
    sop_instance_uid: str | None = None
    frame_number: int | None = None
    column: float = 0.0
    row: float = 0.0
    label: str = ""
    middle: bool = False

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Place:
        """The place from ``dataclasses.asdict``."""
        triples = {name: data[name] for name in ("lps_mm", "index")}
        made = {name: None if v is None else (float(v[0]), float(v[1]), float(v[2])) for name, v in triples.items()}
        return cls(**{**data, **made})

    def resolve(self, geometry: Geometry, frames: tuple[SourceFrame, ...] = ()) -> Triple:
        """Its LPS mm in a scan.

        Parameters
        ----------
        geometry
            The scan's grid.
        frames
            The stored image behind each slice, for points on images.

        Raises
        ------
        InputError
            If it lies outside the scan, belongs to other images, or to another frame of reference.
        """
        point = self._point(geometry, frames)
        if not geometry.contains_mm(point):
            corners = geometry.index_to_mm([[-0.5] * 3, [n - 0.5 for n in geometry.shape]])
            low, high = (_shown(np.min(corners, 0)), _shown(np.max(corners, 0)))
            raise InputError(
                f"the point {self} lies outside the scan, which reaches from ({low}) to ({high}) mm",
                "give an LPS point inside it (x to Left, y to Posterior, z to Superior)",
            )
        return point

    def _point(self, geometry: Geometry, frames: tuple[SourceFrame, ...]) -> Triple:
        if self.middle:
            return geometry.centre_mm
        if self.lps_mm is not None:
            here = geometry.frame_of_reference_uid
            if self.frame_of_reference_uid and here and self.frame_of_reference_uid != here:
                raise InputError(
                    "the point was marked in another frame of reference than the scan's",
                    "choose the series that it was marked on",
                )
            return self.lps_mm
        if self.index is not None:
            return _triple(geometry.index_to_mm(self.index))
        slices = [k for k, frame in enumerate(frames) if self._is_on(frame)]
        if not slices:
            raise InputError(
                "the point was marked on an image that is not of this series", "choose the series that it was marked on"
            )
        return _triple(geometry.index_to_mm((slices[0], self.row, self.column)))

    def _is_on(self, frame: SourceFrame) -> bool:
        same = frame.sop_instance_uid == self.sop_instance_uid
        return same and (self.frame_number is None or frame.frame_number in (None, self.frame_number))

    def __str__(self) -> str:
        if self.lps_mm is not None:
            return f"({_shown(self.lps_mm)}) mm"
        if self.index is not None:
            return f"with the index (k, j, i) = ({_shown(self.index)})"
        return f"in column {self.column:g}, row {self.row:g} of an image"


def _triple(values: Any) -> Triple:
    x, y, z = np.asarray(values, dtype=np.float64).tolist()
    return (x, y, z)


def _shown(values: Any) -> str:
    return ", ".join(f"{value:.6g}" for value in values)
