"""Resampling: the same physical points as SimpleITK and SciPy, axis by axis, in blocks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from hounsfield.preparing import CropPad, Orient, Resample, Step
from hounsfield.preparing.interpolation import linear_taps, nearest, weights
from hounsfield.preparing.steps import resample_box
from hounsfield.volume import Geometry, all_orientations

SHAPE = (13, 21, 17)
SPACING = (2.5, 0.7, 1.1)


def turned() -> np.ndarray:
    """A rotation away from the patient axes, as columns k, j, i."""
    a, b = np.radians((17, -29))
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return (about_z @ about_x)[:, ::-1]


def scan(seed: int = 3) -> tuple[np.ndarray, Geometry]:
    array = np.random.default_rng(seed).normal(100, 40, SHAPE).astype(np.float32)
    return array, Geometry.from_parts(SHAPE, SPACING, (-31.0, 12.5, 80.0), turned(), "1.2.3")


def with_sitk(array: np.ndarray, source: Geometry, target: Geometry, how: int) -> np.ndarray:
    def image(a: np.ndarray, g: Geometry) -> sitk.Image:
        one = sitk.GetImageFromArray(a)
        one.SetSpacing(g.spacing_mm[::-1])
        one.SetOrigin(g.origin_mm)
        one.SetDirection(g.direction[:, ::-1].ravel().tolist())
        return one

    reference = image(np.zeros(target.shape, np.float32), target)
    return sitk.GetArrayFromImage(sitk.Resample(image(array, source), reference, sitk.Transform(), how, -1e6))


@pytest.mark.parametrize(("kind", "sitk_kind"), [("linear", sitk.sitkLinear), ("cubic", sitk.sitkBSpline3)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 1.9, 0.6), (4.0, 3.0, 3.0)])
def test_equals_simpleitk_in_millimetres(kind: str, sitk_kind: int, spacing: tuple[float, float, float]) -> None:
    array, geometry = scan()
    step = Resample(spacing, kind)  # type: ignore[arg-type]
    mine = step.apply(array, geometry)
    theirs = with_sitk(array, geometry, step.geometry(geometry), sitk_kind)
    assert mine.dtype == np.float32
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=2e-3)


@pytest.mark.parametrize(("kind", "order", "mode"), [("linear", 1, "nearest"), ("cubic", 3, "mirror")])
def test_equals_scipy(kind: str, order: int, mode: str) -> None:
    array, geometry = scan()
    step = Resample((1.3, 1.3, 1.3), kind)  # type: ignore[arg-type]
    target = step.geometry(geometry).shape
    axes = [(np.arange(n) + 0.5) * old / n - 0.5 for n, old in zip(target, SHAPE, strict=True)]
    at = np.meshgrid(*axes, indexing="ij")
    theirs = ndimage.map_coordinates(array.astype(np.float64), at, order=order, mode=mode)
    np.testing.assert_allclose(step.apply(array, geometry), theirs, rtol=0, atol=5e-4)


@pytest.mark.parametrize("kind", ["linear", "cubic"])
def test_a_box_equals_the_same_part_of_the_whole(kind: str) -> None:
    array, _ = scan()
    target = (29, 33, 12)
    whole = resample_box(array, target, kind, tuple(slice(0, n) for n in target))  # type: ignore[arg-type]
    box = (slice(4, 19), slice(0, 33), slice(11, 12))
    part = resample_box(array, target, kind, box)  # type: ignore[arg-type]
    np.testing.assert_allclose(part, whole[box], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("old", "new"), [(1, 4), (7, 1), (2, 9), (100, 67), (33, 64), (5, 5)])
@pytest.mark.parametrize("kind", ["linear", "cubic", "nearest"])
def test_weights_sum_to_one_and_same_size_is_exact(old: int, new: int, kind: str) -> None:
    matrix = weights(old, new, kind)  # type: ignore[arg-type]
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-8)
    if old == new:
        np.testing.assert_array_equal(matrix, np.eye(old))


@pytest.mark.parametrize(("old", "new"), [(10, 10), (10, 23), (23, 10), (1, 5), (5, 1)])
def test_ready_counts_voxels_whose_neighbours_are_known(old: int, new: int) -> None:
    taps = linear_taps(old, new)
    for known in range(old + 1):
        ready = taps.ready(known)
        assert (taps.high[:ready] < known).all()
        assert (taps.high[ready:] >= known).all()
    assert (np.diff(taps.low) >= 0).all()
    np.testing.assert_array_equal(nearest(old, old), np.arange(old))


def test_identity_resampling_is_bit_exact() -> None:
    array = np.random.default_rng(0).integers(-1024, 3000, SHAPE).astype(np.int16)
    geometry = Geometry.from_parts(SHAPE, SPACING)
    for kind in ("linear", "cubic"):
        step = Resample(SPACING, kind)  # type: ignore[arg-type]
        out = step.apply(array, geometry)
        assert out.dtype == np.int16
        np.testing.assert_array_equal(out, array)
        assert step.geometry(geometry).is_close(geometry, 1e-9)


@pytest.mark.parametrize("code", all_orientations())
def test_orient_keeps_every_voxel_at_its_millimetre(code: str) -> None:
    array, geometry = scan()
    step = Orient(code)
    moved, target = step.apply(array, geometry), step.geometry(geometry)
    assert moved.shape == target.shape
    assert target.orientation == code
    for index in itertools.product(*((0, n // 2, n - 1) for n in target.shape)):
        back = geometry.mm_to_index(target.index_to_mm(index))
        np.testing.assert_allclose(back, np.rint(back), atol=1e-9)
        assert moved[index] == array[tuple(np.rint(back).astype(int))]
    np.testing.assert_array_equal(step.invert(moved, geometry), array)


def test_crop_and_pad_predict_and_undo() -> None:
    array, geometry = scan()
    pad = CropPad.at_least(SHAPE, (20, 20, 20), -7.0)
    assert pad.start == (-3, 0, -1)
    assert pad.shape == (20, 21, 20)
    padded, target = pad.apply(array, geometry), pad.geometry(geometry)
    assert padded.shape == target.shape
    assert padded[0, 0, 0] == -7
    np.testing.assert_allclose(target.index_to_mm((3, 0, 1)), geometry.index_to_mm((0, 0, 0)), atol=1e-9)
    np.testing.assert_array_equal(pad.invert(padded, geometry), array)
    crop = CropPad((2, -1, 5), (4, 9, 30))
    cropped = crop.apply(array, geometry)
    assert cropped.shape == (4, 9, 30)
    np.testing.assert_array_equal(cropped[:, 1:, :12], array[2:6, :8, 5:])
    back = crop.invert(cropped, geometry)
    np.testing.assert_array_equal(back[2:6, :8, 5:], array[2:6, :8, 5:])
    assert np.count_nonzero(back) == 4 * 8 * 12


def test_every_step_keeps_the_contract() -> None:
    array, geometry = scan()
    for step in (Orient("PIR"), Resample((1, 1, 1)), Resample((3, 2, 0.5), "cubic"), CropPad((1, 1, 1), (5, 30, 5))):
        assert isinstance(step, Step)
        before = array.copy()
        out = step.apply(array, geometry)
        assert out.shape == step.geometry(geometry).shape
        np.testing.assert_array_equal(array, before)
        assert step.invert(out, geometry).shape == SHAPE
