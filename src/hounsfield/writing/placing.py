"""Where the frames of a multi-frame result lie (PS3.3 C.7.6.16.2.1, .3, .4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hounsfield.volume import Geometry

if TYPE_CHECKING:
    from pydicom import Dataset


def place(geometry: Geometry, planes: int) -> tuple[Any, Any, list[Any]]:
    """Pixel measures, plane orientation, and the positions of the first ``planes`` slices, as highdicom's."""
    from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence

    k, j, i = geometry.spacing_mm
    direction = geometry.direction
    measures = PixelMeasuresSequence(pixel_spacing=(j, i), slice_thickness=k, spacing_between_slices=k)
    cosines = [*direction[:, 2].tolist(), *direction[:, 1].tolist()]
    orientation = PlaneOrientationSequence("PATIENT", cosines)
    points = [geometry.index_to_mm((plane, 0, 0)).tolist() for plane in range(planes)]
    return measures, orientation, [PlanePositionSequence("PATIENT", point) for point in points]


def fix_dimension_uid(dataset: Dataset, uid: str) -> None:
    """Give the frames' dimensions a UID that follows from the run; highdicom draws a random one."""
    dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID = uid
    for item in dataset.DimensionIndexSequence:
        item.DimensionOrganizationUID = uid
