"""Where slices lie: sorting, the affine, and every way in which slices are no volume."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_phantoms import AXIAL, OBLIQUE, OBLIQUE_COLUMN, OBLIQUE_ROW, corners, enhanced, noise, save, write_series
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from hounsfield.errors import AmbiguousInput, GeometryRefused
from hounsfield.reading import Contents, SeriesKind, load, read, scan
from hounsfield.volume import Geometry, TimeSeries, Volume

TILT = (0.0, 1.2, 2.5)  # LPS step of slices that are sheared by 25.6 degrees


def codes(contents: Contents, at: int = 0) -> dict[str, str]:
    return {issue.code: issue.severity for issue in contents.series[at].issues}


def sitk_geometry(image: sitk.Image) -> Geometry:
    """The same grid as SimpleITK sees it."""
    direction = np.reshape(image.GetDirection(), (3, 3))
    affine = np.eye(4)
    affine[:3, :3] = (direction * np.asarray(image.GetSpacing()))[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    i, j, k = image.GetSize()
    return Geometry((k, j, i), affine)


@pytest.mark.parametrize(
    ("orientation", "spacing"),
    [
        (AXIAL, (2.5, 0.75, 0.5)),
        (((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)), (1.0, 3.0, 0.2)),
        (((-1.0, 0.0, 0.0), (0.0, 0.0, -1.0)), (0.7, 1.1, 1.3)),
        (OBLIQUE, (4.0, 0.31, 0.87)),
    ],
    ids=["axial", "sagittal", "coronal", "oblique"],
)
def test_shuffled_slices_lie_where_an_independent_reader_puts_them(
    orientation: tuple[tuple[float, ...], tuple[float, ...]], spacing: tuple[float, float, float], tmp_path: Path
) -> None:
    truth = corners((7, 12, 9))
    paths = write_series(tmp_path, truth, orientation=orientation, spacing=spacing)
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.array, truth)
    assert volume.geometry.spacing_mm == pytest.approx(spacing)
    assert volume.geometry.origin_mm == pytest.approx((-10.0, 20.0, -30.0))
    assert volume.geometry.is_right_handed
    assert volume.geometry.frame_of_reference_uid
    reference = sitk.ReadImage([str(path) for path in paths])
    assert volume.geometry.is_close(sitk_geometry(reference), 1e-3)
    assert [frame.path for frame in volume.provenance.frames] == paths


def test_slices_written_against_the_normal_are_sorted_along_it(tmp_path: Path) -> None:
    truth = corners((5, 6, 7))
    write_series(tmp_path, truth, step=(0.0, 0.0, -2.0))
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.array, truth[::-1])
    assert volume.geometry.origin_mm == pytest.approx((-10.0, 20.0, -38.0))


def test_an_affine_puts_a_voxel_where_the_oblique_axes_say(tmp_path: Path) -> None:
    write_series(tmp_path, corners((5, 6, 7)), orientation=OBLIQUE, spacing=(4.0, 0.31, 0.87))
    geometry = read(tmp_path).geometry
    expected = np.array([-10, 20, -30]) + 3 * 4.0 * np.cross(OBLIQUE_ROW, OBLIQUE_COLUMN)
    expected = expected + 2 * 0.31 * OBLIQUE_COLUMN + 5 * 0.87 * OBLIQUE_ROW
    np.testing.assert_allclose(geometry.index_to_mm((3, 2, 5)), expected, atol=1e-9)


def test_a_missing_slice_is_a_gap_that_repair_fills(tmp_path: Path) -> None:
    k = np.arange(8)[:, None, None]
    truth = np.broadcast_to(100 * k, (8, 6, 6)).astype(np.int16)
    write_series(tmp_path, truth, leave_out=[4])
    with scan(tmp_path) as contents:
        assert codes(contents) == {"gap": "repairable"}
        assert "1 slice is missing" in contents.series[0].issues[0].message
        with pytest.raises(GeometryRefused, match="1 slice is missing"):
            load(contents.series[0])
        volume = load(contents.series[0], repair=True)
    assert isinstance(volume, Volume)
    np.testing.assert_array_equal(volume.array, truth)
    assert "linear interpolation" in volume.provenance.repairs[0]
    assert volume.provenance.frames == ()


def test_a_long_gap_is_beyond_repair(tmp_path: Path) -> None:
    write_series(tmp_path, corners((12, 4, 4)), leave_out=[4, 5, 6, 7])
    with pytest.raises(GeometryRefused, match="4 slices are missing"):
        read(tmp_path, repair=True)


def test_uneven_spacing_is_named_and_resampled_to_the_true_ramp(tmp_path: Path) -> None:
    places = np.array([0.0, 1.0, 2.0, 3.4, 4.4, 5.0, 6.0])
    ramp = np.broadcast_to(np.rint(1000 * places)[:, None, None], (7, 5, 5)).astype(np.int16)

    def place(k: int, ds: Dataset) -> None:
        ds.ImagePositionPatient = [0, 0, float(places[k])]

    write_series(tmp_path, ramp, edit=place)
    with pytest.raises(GeometryRefused, match=r"uneven, from 0\.600 to 1\.400 mm"):
        read(tmp_path)
    volume = read(tmp_path, repair=True)
    assert volume.geometry.spacing_mm[0] == pytest.approx(1.0)
    np.testing.assert_allclose(volume.array[:, 2, 2], np.arange(7) * 1000, atol=1)


def test_small_jitter_of_positions_is_let_pass(tmp_path: Path) -> None:
    jitter = np.random.default_rng(2).uniform(-0.004, 0.004, size=20)

    def place(k: int, ds: Dataset) -> None:
        ds.ImagePositionPatient = [0, 0, f"{k * 1.25 + jitter[k]:.5f}"]

    write_series(tmp_path, corners((20, 4, 4)), edit=place)
    assert read(tmp_path).geometry.spacing_mm[0] == pytest.approx(1.25, abs=1e-3)


def test_drift_that_adds_up_is_uneven_although_each_step_is_close(tmp_path: Path) -> None:
    places = np.concatenate((np.arange(60) * 1.0, 59 + np.arange(1, 61) * 1.008))

    def place(k: int, ds: Dataset) -> None:
        ds.ImagePositionPatient = [0, 0, f"{places[k]:.5f}"]

    write_series(tmp_path, corners((120, 4, 4)), edit=place)
    with pytest.raises(GeometryRefused, match=r"drifts from 1\.000 to 1\.008 mm"):
        read(tmp_path)


def _ball(shape: tuple[int, int, int], centre_mm: tuple[float, ...], affine: NDArray[np.float64]) -> NDArray[np.int16]:
    """1000 - distance from a point in mm: smooth, and different at every place in the patient."""
    index = np.stack([*np.indices(shape), np.ones(shape)], axis=-1)
    place = (index @ affine.T)[..., :3]
    return np.rint(1000 - 10 * np.linalg.norm(place - centre_mm, axis=-1)).astype(np.int16)


def test_gantry_tilt_is_refused_and_repair_puts_every_voxel_at_its_place(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.array([TILT, (0.0, 0.75, 0.0), (0.5, 0.0, 0.0)]).T
    affine[:3, 3] = (-10.0, 20.0, -30.0)
    centre = (-4.0, 31.0, -18.0)
    tilted = _ball((10, 24, 24), centre, affine)
    write_series(tmp_path, tilted, step=TILT)
    with pytest.raises(GeometryRefused, match=r"sheared by 25\.6 degrees"):
        read(tmp_path)
    volume = read(tmp_path, repair=True)
    assert volume.geometry.is_orthonormal
    assert volume.geometry.shape[1] > 24
    assert volume.padding is not None
    expected = _ball(volume.geometry.shape, centre, np.asarray(volume.geometry.affine))
    error = np.abs(volume.array.astype(int) - expected)[~volume.padding]
    assert error.max() <= 3
    assert 0.2 < volume.padding.mean() < 0.5
    assert "gantry tilt" in volume.provenance.repairs[0]


def test_slices_shifted_against_each_other_are_named(tmp_path: Path) -> None:
    def place(k: int, ds: Dataset) -> None:
        ds.ImagePositionPatient = [1.5 if k in (2, 5) else 0, 0, 2 * k]

    write_series(tmp_path, corners((8, 6, 6)), edit=place)
    with pytest.raises(GeometryRefused, match=r"shifted against each other by up to 1\.50 mm"):
        read(tmp_path)
    assert read(tmp_path, repair=True).shape == (8, 6, 9)


def test_a_copied_file_is_left_out_and_said(tmp_path: Path) -> None:
    truth = corners((5, 6, 7))
    paths = write_series(tmp_path, truth)
    shutil.copy(paths[2], tmp_path / "copy of a slice")
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.array, truth)
    assert "1 further copy" in volume.provenance.warnings[0]


def test_equal_slices_at_one_position_need_repair(tmp_path: Path) -> None:
    truth = corners((5, 6, 7))
    write_series(tmp_path, np.concatenate((truth, truth[2:3])), edit=_second_at(5, 2))
    with pytest.raises(GeometryRefused, match="1 slices lie at the position of another"):
        read(tmp_path)
    volume = read(tmp_path, repair=True)
    np.testing.assert_array_equal(volume.array, truth)
    assert len(volume.provenance.frames) == 5
    assert "left out" in volume.provenance.repairs[0]


def test_different_slices_at_one_position_are_beyond_repair(tmp_path: Path) -> None:
    truth = corners((5, 6, 7))
    write_series(tmp_path, np.concatenate((truth, truth[3:4])), edit=_second_at(5, 2))
    with pytest.raises(GeometryRefused, match="two different slices lie at one position"):
        read(tmp_path, repair=True)


def _second_at(extra: int, place: int):  # type: ignore[no-untyped-def]
    def edit(k: int, ds: Dataset) -> None:
        if k == extra:
            ds.ImagePositionPatient = [-10, 20, -30 + 2.5 * place]

    return edit


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_slices(count: int, tmp_path: Path) -> None:
    write_series(tmp_path, corners((count, 6, 7)))
    with pytest.raises(GeometryRefused, match="cannot make a volume"):
        read(tmp_path)


def test_slices_at_one_position_are_not_a_volume(tmp_path: Path) -> None:
    def place(k: int, ds: Dataset) -> None:
        ds.ImagePositionPatient = [0, 0, 5]
        ds.AcquisitionTime = f"1000{k:02d}"

    write_series(tmp_path, corners((6, 6, 7)), edit=place)
    with pytest.raises(GeometryRefused, match="all 6 slices lie at one position"):
        read(tmp_path)


def test_mixed_orientations_are_kept_apart(tmp_path: Path) -> None:
    def turn(k: int, ds: Dataset) -> None:
        if k >= 4:
            ds.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
            ds.ImagePositionPatient = [k, 0, 0]

    write_series(tmp_path, corners((9, 6, 6)), edit=turn)
    with scan(tmp_path) as contents:
        assert sorted(series.geometry.shape[0] for series in contents.series if series.geometry) == [4, 5]
        assert codes(contents)["mixed-orientation"] == "warn"
    with pytest.raises(AmbiguousInput, match="2 series can be read"):
        read(tmp_path)


def test_a_localizer_beside_a_volume_is_not_part_of_it(tmp_path: Path) -> None:
    def scout(k: int, ds: Dataset) -> None:
        if k == 0:
            ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    truth = corners((6, 6, 7))
    write_series(tmp_path, truth, edit=scout)
    with scan(tmp_path) as contents:
        assert sorted(series.kind for series in contents.series) == [SeriesKind.LOCALIZER, SeriesKind.VOLUME]
    np.testing.assert_array_equal(read(tmp_path).array, truth[1:])


def test_echoes_and_phases_become_volumes_of_their_own(tmp_path: Path) -> None:
    truth = corners((12, 6, 7))

    def echo(k: int, ds: Dataset) -> None:
        ds.Modality = "MR"
        ds.ImagePositionPatient = [0, 0, 2 * (k // 4)]
        ds.EchoTime = (4.9, 9.8)[k % 2]
        ds.ImageType = ["ORIGINAL", "PRIMARY", ("M", "P")[k // 2 % 2]]

    write_series(tmp_path, truth, edit=echo)
    with scan(tmp_path) as contents:
        assert len(contents.series) == 4
        for series in contents.series:
            assert {issue.code for issue in series.issues} == {"mixture"}
            volume = load(series)
            assert isinstance(volume, Volume)
            phase = int("\\P," in f"{series.description},")
            late = int("echo time 9.8" in (series.description or ""))
            np.testing.assert_array_equal(volume.array, truth[2 * phase + late :: 4])


@pytest.mark.parametrize("clock", ["TemporalPositionIdentifier", "AcquisitionTime", "rank"])
def test_time_points_in_one_series_become_a_time_series(clock: str, tmp_path: Path) -> None:
    truth = corners((15, 6, 7))

    def tick(k: int, ds: Dataset) -> None:
        time, place = k // 5, k % 5
        ds.Modality = "MR"
        ds.ImagePositionPatient = [0, 0, 2 * place]
        moment = 8.5 * time + (0.1 * place if clock == "rank" else 0)
        ds.AcquisitionTime = f"1201{moment:06.3f}"
        if clock == "TemporalPositionIdentifier":
            ds.TemporalPositionIdentifier = time + 1

    write_series(tmp_path, truth, edit=tick)
    with scan(tmp_path) as contents:
        assert [series.kind for series in contents.series] == [SeriesKind.DYNAMIC]
        series = load(contents.series[0])
    assert isinstance(series, TimeSeries)
    np.testing.assert_array_equal(series.array, truth.reshape(3, 5, 6, 7))
    assert series.times_s == pytest.approx((0.0, 8.5, 17.0), abs=1e-4)


def test_a_time_point_that_lacks_a_slice_is_refused(tmp_path: Path) -> None:
    def tick(k: int, ds: Dataset) -> None:
        ds.ImagePositionPatient = [0, 0, 2 * (k % 5)]
        ds.TemporalPositionIdentifier = k // 5 + 1
        ds.AcquisitionTime = f"1201{8 * (k // 5):02d}"

    write_series(tmp_path, corners((15, 6, 7)), edit=tick, leave_out=[9])
    with pytest.raises(GeometryRefused, match="from 4 to 5 slices"):
        read(tmp_path, repair=True)


def test_enhanced_multi_frame_with_shuffled_frames(tmp_path: Path) -> None:
    truth = corners((6, 8, 9))
    save(enhanced(truth, orientation=OBLIQUE, order=[3, 0, 5, 1, 4, 2]), tmp_path / "e.dcm")
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.array, truth)
    assert [frame.frame_number for frame in volume.provenance.frames] == [2, 4, 6, 1, 5, 3]
    np.testing.assert_allclose(volume.geometry.affine[:3, 0], 2.5 * np.cross(OBLIQUE_ROW, OBLIQUE_COLUMN), atol=1e-9)


def test_enhanced_multi_frame_with_rescale_of_each_frame_and_two_stacks(tmp_path: Path) -> None:
    truth = noise((8, 8, 9), 0, 1000, np.uint16)

    def describe(k: int, group: Dataset) -> None:
        content, values = Dataset(), Dataset()
        content.StackID = str(1 + k // 4)
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = str(0.5 + k), "-7", "US"
        group.FrameContentSequence = [content]
        group.PixelValueTransformationSequence = [values]

    save(enhanced(truth, describe=describe), tmp_path / "e.dcm")
    with scan(tmp_path) as contents:
        assert len(contents.series) == 2
        for n, series in enumerate(contents.series):
            volume = load(series)
            slopes = (0.5 + np.arange(4 * n, 4 * n + 4))[:, None, None]
            np.testing.assert_allclose(volume.array, truth[4 * n : 4 * n + 4] * slopes - 7, rtol=1e-6)


def test_enhanced_multi_frame_with_time_points(tmp_path: Path) -> None:
    truth = corners((12, 5, 5))

    def describe(k: int, group: Dataset) -> None:
        content = Dataset()
        content.TemporalPositionIndex = 1 + k // 4
        content.FrameAcquisitionDateTime = f"20240229120{k // 4}00.5"
        group.FrameContentSequence = [content]

    save(enhanced(truth, describe=describe, places=[k % 4 for k in range(12)]), tmp_path / "e.dcm")
    with scan(tmp_path) as contents:
        series = load(contents.choose())
    assert isinstance(series, TimeSeries)
    np.testing.assert_array_equal(series.array, truth.reshape(3, 4, 5, 5))
    assert series.times_s == (0.0, 60.0, 120.0)
