"""Geometry against SimpleITK and nibabel, in all 48 orientations, oblique and anisotropic."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from hounsfield.errors import GeometryRefused
from hounsfield.volume import Geometry, all_orientations, parse_orientation

SHAPE = (4, 5, 6)


def oblique(seed: int = 3) -> Geometry:
    turn = Rotation.from_rotvec(np.random.default_rng(seed).normal(size=3)).as_matrix()
    return Geometry.from_parts(SHAPE, (3.0, 0.7, 1.1), (-20.0, 15.0, 99.0), turn)


def as_itk(geometry: Geometry) -> sitk.Image:
    """The same grid in SimpleITK, whose index order is (i, j, k) and whose world is LPS."""
    image = sitk.Image(*(int(n) for n in reversed(geometry.shape)), sitk.sitkUInt8)
    image.SetSpacing(tuple(reversed(geometry.spacing_mm)))
    image.SetOrigin(geometry.origin_mm)
    image.SetDirection(geometry.direction[:, ::-1].ravel().tolist())
    return image


@pytest.mark.parametrize("code", all_orientations())
def test_points_and_codes_agree_with_simpleitk_in_all_48_orientations(code: str) -> None:
    geometry, order, flips = Geometry.from_parts(SHAPE, (3.0, 0.7, 1.1), (-20.0, 15.0, 99.0)).reoriented(code)
    image = as_itk(geometry)
    assert geometry.orientation == code
    assert sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection()) == code
    k, j, i = (n - 1 for n in geometry.shape)
    there = image.TransformIndexToPhysicalPoint((i, j, k))
    assert geometry.index_to_mm((k, j, i)) == pytest.approx(there, abs=1e-9)
    original = Geometry.from_parts(SHAPE, (3.0, 0.7, 1.1), (-20.0, 15.0, 99.0))
    array = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    moved = np.flip(array.transpose(order), [axis for axis in range(3) if flips[axis]])
    for index in np.ndindex(*geometry.shape):
        before = np.rint(original.mm_to_index(geometry.index_to_mm(index))).astype(int)
        assert moved[index] == array[tuple(before)]


@pytest.mark.parametrize("code", all_orientations())
def test_ras_affine_agrees_with_nibabel(code: str) -> None:
    geometry, _, _ = oblique().reoriented(code)
    affine = geometry.affine_ras
    # Both letters name the direction in which an index grows, so the codes are equal.
    assert "".join(nibabel.aff2axcodes(affine)) == code
    i, j, k = 1, 2, 3
    x, y, z = nibabel.affines.apply_affine(affine, (i, j, k))
    assert geometry.index_to_mm((k, j, i)) == pytest.approx((-x, -y, z))
    back = Geometry.from_affine_ras((geometry.shape[2], geometry.shape[1], geometry.shape[0]), affine)
    assert back.is_close(geometry, 1e-9)


def test_obliquity_and_handedness() -> None:
    straight = Geometry.from_parts(SHAPE)
    assert straight.obliquity_degrees == pytest.approx(0)
    assert straight.is_right_handed
    assert not straight.reoriented("RPS")[0].is_right_handed
    turned = Geometry.from_parts(SHAPE, direction=Rotation.from_euler("x", 12, degrees=True).as_matrix()[:, ::-1])
    assert turned.obliquity_degrees == pytest.approx(12)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.integers(1, 40)] * 3),
    st.tuples(*[st.floats(0.2, 9)] * 3),
    st.tuples(*[st.floats(0.2, 9)] * 3),
)
def test_resampling_keeps_the_outer_faces(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], wanted: tuple[float, float, float]
) -> None:
    geometry = Geometry.from_parts(shape, spacing, (3, 4, 5), oblique().direction)
    grid = geometry.resampled(wanted)
    assert grid.extent_mm == pytest.approx(geometry.extent_mm)
    for corner in ((0, 0, 0), (1, 1, 1), (0, 1, 0)):
        face = [c * n - 0.5 for c, n in zip(corner, geometry.shape, strict=True)]
        same = [c * n - 0.5 for c, n in zip(corner, grid.shape, strict=True)]
        assert geometry.index_to_mm(face) == pytest.approx(grid.index_to_mm(same), abs=1e-6)


def test_cropping_and_padding_move_the_origin_only() -> None:
    geometry = oblique()
    box = geometry.cropped((-2, 1, 3), (8, 2, 2))
    assert box.index_to_mm((2, 0, 0)) == pytest.approx(geometry.index_to_mm((0, 1, 3)))
    assert box.spacing_mm == pytest.approx(geometry.spacing_mm)


def test_containment_counts_outer_half_voxels() -> None:
    geometry = oblique()
    assert geometry.contains_mm(geometry.index_to_mm((-0.49, 0, 0)))
    assert not geometry.contains_mm(geometry.index_to_mm((-0.51, 0, 0)))


@pytest.mark.parametrize(
    "affine",
    [
        np.full((4, 4), np.nan),
        np.zeros((4, 4)),
        np.diag([1.0, 1.0, 0.0, 1.0]),
        np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], float),
        np.diag([1.0, 1.0, 1.0, 2.0]),
        np.eye(3),
    ],
)
def test_degenerate_affines_are_refused(affine: np.ndarray) -> None:
    with pytest.raises(GeometryRefused):
        Geometry(SHAPE, affine)


@pytest.mark.parametrize("code", ["LLS", "LP", "LPSX", "XYZ", ""])
def test_wrong_codes_are_refused(code: str) -> None:
    with pytest.raises(GeometryRefused, match="orientation code"):
        parse_orientation(code)


def test_geometry_is_frozen() -> None:
    geometry = oblique()
    with pytest.raises(ValueError, match="read-only"):
        geometry.affine[0, 0] = 7
