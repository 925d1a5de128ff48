"""One window of a scan, and whole images fitted to a window."""

from __future__ import annotations

import numpy as np
import pytest

from hounsfield.packages.manifest import InputSpec
from hounsfield.preparing import prepare
from hounsfield.preparing.cutting import window_at
from hounsfield.preparing.interpolation import weights
from hounsfield.volume import Geometry, Volume


def numbered(shape: tuple[int, int, int]) -> Volume:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return Volume(array, Geometry.from_parts(shape, (2.0, 1.0, 1.0), (5.0, 6.0, 7.0)))


def spec(**more: object) -> InputSpec:
    table = {"channels": [{"name": "ct", "modality": "CT"}], "window": {"shape": (2, 4, 4)}, **more}
    return InputSpec.model_validate(table)


def test_the_window_around_a_point_is_centred_on_it_and_padded_outside() -> None:
    volume = numbered((6, 9, 9))
    x, y, z = volume.geometry.index_to_mm((0.5, 0.5, 7.5)).tolist()
    values = window_at(prepare(volume, spec()), (2, 4, 4), (x, y, z), -1.0)[0]
    wanted = np.full((2, 4, 4), -1.0, np.float32)
    wanted[:, 1:, :3] = volume.array[0:2, 0:3, 6:9]
    np.testing.assert_array_equal(values, wanted)


def test_without_a_point_it_is_the_middle() -> None:
    volume = numbered((6, 9, 8))
    values = window_at(prepare(volume, spec()), (2, 5, 4), None, 0.0)[0]
    np.testing.assert_array_equal(values, volume.array[2:4, 2:7, 2:6])


def test_a_fitted_image_has_the_window_s_shape_and_keeps_its_mean() -> None:
    volume = numbered((1, 37, 50))
    fitted = prepare(volume, spec(window={"shape": (1, 8, 8)}, fit=True, interpolation="area"))
    assert fitted.shape == (1, 8, 8)
    assert fitted.array.mean() == pytest.approx(volume.array.mean(), rel=1e-6)


def test_area_weights_are_the_covered_parts() -> None:
    np.testing.assert_allclose(weights(5, 2, "area"), [[0.4, 0.4, 0.2, 0, 0], [0, 0, 0.2, 0.4, 0.4]])
    np.testing.assert_array_equal(weights(3, 6, "area"), weights(3, 6, "linear"))
