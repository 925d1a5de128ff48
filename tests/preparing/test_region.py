"""A region and its way back, in all 48 orientations."""

from __future__ import annotations

import numpy as np
import pytest

from hounsfield.errors import InputError
from hounsfield.preparing.region import region_around
from hounsfield.volume import Geometry, LabelMap, Volume, all_orientations


@pytest.mark.parametrize("code", all_orientations())
def test_the_box_holds_the_same_patient_space_in_every_orientation(code: str) -> None:
    geometry, _, _ = Geometry.from_parts((30, 40, 50), (2.0, 1.0, 0.5), (-10, -20, -30)).reoriented(code)
    point = tuple(geometry.index_to_mm([n // 2 for n in geometry.shape]).tolist())
    region = region_around(geometry, point, (8.0, 12.0, 20.0))
    volume = Volume(np.arange(np.prod(geometry.shape)).reshape(geometry.shape), geometry)
    part = region.of(volume)
    assert part.geometry.contains_mm(point)
    span = np.abs(part.geometry.direction) @ np.asarray(part.geometry.extent_mm)
    assert span == pytest.approx((8, 12, 20), abs=2.0)
    index = np.rint(geometry.mm_to_index(part.geometry.index_to_mm((0, 0, 0)))).astype(int)
    assert part.array[0, 0, 0] == volume.array[tuple(index)]
    back = region.put_back(LabelMap(np.ones(part.shape, np.uint8), part.geometry), geometry)
    assert back.array.sum() == part.array.size
    assert back.array[tuple(index)] == 1


def test_the_box_is_cut_at_the_border_and_a_point_outside_is_refused() -> None:
    geometry = Geometry.from_parts((10, 10, 10))
    assert region_around(geometry, (0, 0, 0), (6, 6, 6)).box == (slice(0, 4),) * 3
    with pytest.raises(InputError, match="outside the scan"):
        region_around(geometry, (50, 0, 0), (6, 6, 6))
