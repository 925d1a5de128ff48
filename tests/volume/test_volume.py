"""Volumes refuse arrays that do not fit their geometry."""

from __future__ import annotations

import numpy as np
import pytest

from hounsfield.errors import GeometryRefused
from hounsfield.volume import Geometry, LabelMap, TimeSeries, Volume

GEOMETRY = Geometry.from_parts((2, 3, 4))


def test_shape_must_fit() -> None:
    with pytest.raises(GeometryRefused, match=r"\(2, 3, 5\) does not fit"):
        Volume(np.zeros((2, 3, 5)), GEOMETRY)
    with pytest.raises(GeometryRefused):
        Volume(np.zeros((2, 3, 4)), GEOMETRY, padding=np.zeros((2, 3, 5), bool))
    with pytest.raises(GeometryRefused):
        Volume(np.zeros((2, 3, 4)), GEOMETRY).with_array(np.zeros((1, 3, 4)))


def test_new_geometry_drops_the_old_padding() -> None:
    volume = Volume(np.zeros((2, 3, 4)), GEOMETRY, padding=np.ones((2, 3, 4), bool))
    assert volume.with_array(np.ones((2, 3, 4))).padding is not None
    assert volume.with_array(np.ones((1, 3, 4)), GEOMETRY.cropped((0, 0, 0), (1, 3, 4))).padding is None


def test_labels_are_unsigned() -> None:
    with pytest.raises(TypeError, match="unsigned"):
        LabelMap(np.zeros((2, 3, 4), np.int16), GEOMETRY)


def test_time_series_gives_volumes() -> None:
    series = TimeSeries(np.arange(48).reshape(2, 2, 3, 4), GEOMETRY, (0.0, 8.4))
    assert series.at(1).array[0, 0, 0] == 24
    with pytest.raises(GeometryRefused, match="1 times"):
        TimeSeries(np.zeros((2, 2, 3, 4)), GEOMETRY, (0.0,))
