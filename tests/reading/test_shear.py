"""Sheared volumes: refused as they are, straightened on request, with every structure in its place."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from reading_grids import rotation

from hounsfield.errors import GeometryRefused, LimitExceeded
from hounsfield.reading import Limits, load, read, scan
from hounsfield.reading.shear import right_angled, straightened
from hounsfield.volume import Geometry, TimeSeries, Volume

SHAPE = (12, 30, 28)


def sheared(shear: float = 0.25) -> Geometry:
    """An oblique grid whose rows lean along its slices' normal."""
    straight = Geometry.from_parts(SHAPE, (3.0, 1.0, 1.2), (5, -7, 11), rotation((10, -20, 5)) @ np.eye(3)[:, ::-1])
    affine = straight.affine.copy()
    affine[:3, 0] += shear * 3.0 * straight.direction[:, 1]
    return Geometry(SHAPE, affine)


def ramp(geometry: Geometry) -> np.ndarray:
    """A linear function of place, which linear interpolation keeps exactly."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij"), axis=-1)
    return geometry.index_to_mm(index) @ (2.0, -3.0, 5.0) + 7.0


def test_a_linear_field_stays_in_its_place() -> None:
    source = sheared()
    result = straightened(Volume(ramp(source), source), Limits())
    assert isinstance(result, Volume)
    assert result.geometry.is_orthonormal
    assert result.padding is not None
    inside = ~result.padding
    assert inside.mean() > 0.6
    np.testing.assert_allclose(result.array[inside], ramp(result.geometry)[inside], atol=0.02)
    assert "straightened" in result.provenance.repairs[0]


def test_the_grid_covers_every_voxel() -> None:
    source = sheared(-0.4)
    grid = right_angled(source)
    corners = [(a, b, c) for a in (0, 11) for b in (0, 29) for c in (0, 27)]
    assert all(grid.contains_mm(source.index_to_mm(corner)) for corner in corners)
    np.testing.assert_allclose(grid.spacing_mm, source.spacing_mm)


def test_integers_stay_integers_and_time_points_go_along() -> None:
    source = sheared()
    array = np.stack([np.rint(ramp(source)).astype(np.int16)] * 2)
    result = straightened(TimeSeries(array, source, (0.0, 1.0)), Limits())
    assert isinstance(result, TimeSeries)
    assert result.array.dtype == np.int16
    assert result.array.shape == (2, *result.geometry.shape)


def test_the_repaired_grid_has_a_limit_too() -> None:
    source = sheared()
    with pytest.raises(LimitExceeded):
        straightened(Volume(ramp(source), source), Limits(volume_bytes=1000))


def test_a_sheared_file_is_refused_then_repaired(tmp_path: Path) -> None:
    source = sheared()
    image = nib.Nifti1Image(np.rint(ramp(source)).astype(np.int16).T, None)
    image.header.set_xyzt_units("mm")
    image.set_sform(source.affine_ras, 1)
    path = tmp_path / "scan.nii.gz"
    nib.save(image, path)
    with pytest.raises(GeometryRefused, match="shear"):
        read(path)
    with scan(path) as contents:
        assert contents.series[0].is_repairable
        repaired = load(contents.series[0], repair=True)
    assert repaired.geometry.is_orthonormal
    assert isinstance(repaired, Volume)
    assert len(repaired.provenance.repairs) == 1
