"""NIfTI against nibabel and SimpleITK: geometry, scaling, time, colours, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from reading_grids import GRIDS, SHAPE, as_sitk, assert_as_sitk_reads, every_grid, every_index, voxels

from hounsfield.errors import GeometryRefused, LimitExceeded, NotReadable, UnsupportedEncoding
from hounsfield.reading import Limits, SeriesKind, load, read, scan
from hounsfield.volume import Geometry, Quantity, TimeSeries, Volume


def nifti(array_ijk: np.ndarray, affine: np.ndarray, kind: type = nib.Nifti1Image) -> nib.Nifti1Image:
    image = kind(array_ijk, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    return image


def codes(path: Path) -> set[str]:
    with scan(path) as contents:
        return {issue.code for issue in contents.series[0].issues}


@every_grid
def test_what_simpleitk_wrote(grid: Geometry, tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    sitk.WriteImage(as_sitk(voxels(), grid), str(path))
    volume = read(path)
    assert_as_sitk_reads(volume, path)
    points = every_index(SHAPE)
    assert np.abs(volume.geometry.index_to_mm(points) - grid.index_to_mm(points)).max() < 1e-3


@every_grid
def test_what_nibabel_wrote(grid: Geometry, tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    kind = nib.Nifti2Image if grid.orientation.startswith("L") else nib.Nifti1Image
    nib.save(nifti(voxels().T, grid.affine_ras, kind), path)
    volume = read(path)
    theirs = nib.load(path)
    np.testing.assert_array_equal(volume.array, np.asarray(theirs.dataobj).T)
    indices = every_index(SHAPE)
    ras = nib.affines.apply_affine(theirs.affine, indices[:, ::-1])
    assert np.abs(volume.geometry.index_to_mm(indices) - ras * (-1, -1, 1)).max() < 1e-3


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("endian", ["<", ">"])
def test_every_dtype_in_both_byte_orders(dtype: str, endian: str, tmp_path: Path) -> None:
    array = voxels(dtype=dtype)
    header = nib.Nifti1Header(endianness=endian)
    header.set_data_dtype(dtype)
    image = nib.Nifti1Image(array.T, np.diag([-1.0, -1, 1, 1]), header)
    path = tmp_path / "scan.nii"
    nib.save(image, path)
    volume = read(path)
    assert volume.array.dtype == np.dtype(dtype)
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array, array)


def scaled(path: Path, dtype: str, slope: float, intercept: float) -> None:
    image = nifti(voxels(dtype=dtype).T, GRIDS["oblique"].affine_ras)
    image.to_filename(path)
    data = bytearray(path.read_bytes())  # nibabel would scale the voxels: set the fields behind its back
    data[112:116], data[116:120] = np.float32(slope).tobytes(), np.float32(intercept).tobytes()
    data[352:] = voxels(dtype=dtype).tobytes()
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept", "expected"),
    [
        ("i2", 1.0, 0.0, "i2"),
        ("u2", 1.0, -1024.0, "i4"),
        ("u1", 2.0, 0.0, "i2"),
        ("i2", 0.0, 5.0, "i2"),
        ("i2", 0.017, 3.5, "f8"),
        ("f4", 2.0, 1.0, "f8"),
    ],
)
def test_scaling_is_exactly_nibabels(dtype: str, slope: float, intercept: float, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    scaled(path, dtype, slope, intercept)
    volume = read(path)
    assert volume.array.dtype == np.dtype(expected)
    np.testing.assert_array_equal(volume.array, nib.load(path).get_fdata(dtype=np.float64).T)
    with scan(path) as contents:  # what a plan is told before anything is loaded
        assert contents.series[0].voxel_bytes == volume.array.itemsize


def test_the_sform_goes_before_the_qform_and_the_difference_is_told(tmp_path: Path) -> None:
    sform, qform = GRIDS["RAS"].affine_ras, GRIDS["LAS"].affine_ras
    image = nib.Nifti1Image(voxels().T, None)
    image.set_sform(sform, 2)
    image.set_qform(qform, 1)
    path = tmp_path / "scan.nii.gz"
    nib.save(image, path)
    volume = read(path)
    np.testing.assert_allclose(volume.geometry.affine_ras, nib.load(path).affine, atol=1e-6)
    assert "mirrored" in volume.provenance.warnings[0]


def test_the_qform_counts_where_there_is_no_sform(tmp_path: Path) -> None:
    image = nib.Nifti1Image(voxels().T, None)
    image.set_qform(GRIDS["oblique"].affine_ras, 1)
    image.set_sform(np.diag([9.0, 9, 9, 1]), 0)
    path = tmp_path / "scan.nii"
    nib.save(image, path)
    volume = read(path)
    np.testing.assert_allclose(volume.geometry.affine_ras, nib.load(path).affine, atol=1e-5)
    assert volume.provenance.warnings == ()


def test_equal_forms_are_no_issue(tmp_path: Path) -> None:
    nib.save(nifti(voxels().T, GRIDS["oblique"].affine_ras), tmp_path / "scan.nii")
    assert codes(tmp_path / "scan.nii") == set()


def test_without_any_orientation_it_is_refused(tmp_path: Path) -> None:
    image = nib.Nifti1Image(voxels().T, None)
    image.header["pixdim"][1:4] = 1
    nib.save(image, tmp_path / "scan.nii")
    with pytest.raises(GeometryRefused, match="left and right are unknown"):
        read(tmp_path / "scan.nii")


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1.0), ("meter", 1000.0), ("micron", 0.001)])
def test_lengths_become_millimetres(unit: str, factor: float, tmp_path: Path) -> None:
    image = nib.Nifti1Image(voxels().T, GRIDS["LPS"].affine_ras @ np.diag([1 / factor] * 3 + [1]))
    image.header.set_xyzt_units(unit, "sec")
    nib.save(image, tmp_path / "scan.nii")
    np.testing.assert_allclose(read(tmp_path / "scan.nii").geometry.spacing_mm, (2.5, 0.7, 0.9), rtol=1e-6)


@pytest.mark.parametrize(("unit", "step", "seconds"), [("sec", 2.5, 2.5), ("msec", 800.0, 0.8), ("usec", 5e5, 0.5)])
def test_a_fourth_axis_is_time(unit: str, step: float, seconds: float, tmp_path: Path) -> None:
    array = voxels((3, *SHAPE))
    image = nib.Nifti1Image(array.T, GRIDS["LAS"].affine_ras)
    image.header.set_xyzt_units("mm", unit)
    image.header["pixdim"][4] = step
    nib.save(image, tmp_path / "scan.nii.gz")
    with scan(tmp_path / "scan.nii.gz") as contents:
        series = contents.series[0]
        loaded = load(series)
    assert series.kind is SeriesKind.DYNAMIC
    assert isinstance(loaded, TimeSeries)
    np.testing.assert_array_equal(loaded.array, array)
    np.testing.assert_allclose(loaded.times_s, (0, seconds, 2 * seconds), rtol=1e-6)


def test_times_that_are_not_given_are_a_warning(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(voxels((3, *SHAPE)).T, GRIDS["LAS"].affine_ras), tmp_path / "scan.nii")
    assert "time-unit" in codes(tmp_path / "scan.nii")


def test_colours_are_refused_by_kind(tmp_path: Path) -> None:
    rgb = np.zeros((6, 5, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(rgb, np.eye(4)), tmp_path / "scan.nii")
    with scan(tmp_path / "scan.nii") as contents:
        assert contents.series[0].kind is SeriesKind.COLOUR
    with pytest.raises(GeometryRefused, match="colours"):
        read(tmp_path / "scan.nii")


@pytest.mark.parametrize("array", [np.zeros((6, 5, 4), np.complex64), np.zeros((6, 5, 4, 1, 3), np.float32)])
def test_complex_numbers_and_vectors_are_refused(array: np.ndarray, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "scan.nii")
    with pytest.raises(UnsupportedEncoding):
        read(tmp_path / "scan.nii")


def test_labels_say_so(tmp_path: Path) -> None:
    image = nifti(voxels(dtype="u1").T, GRIDS["LPS"].affine_ras)
    image.header.set_intent("label")
    nib.save(image, tmp_path / "labels.nii.gz")
    assert read(tmp_path / "labels.nii.gz").quantity is Quantity.LABEL


def patched(tmp_path: Path, place: int, value: np.generic) -> Path:
    path = tmp_path / "scan.nii"
    image = nib.Nifti1Image(voxels().T, None)
    image.set_sform(GRIDS["LPS"].affine_ras, 1)
    nib.save(image, path)
    data = bytearray(path.read_bytes())
    data[place : place + value.nbytes] = value.tobytes()
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_degenerate_spacing_is_refused(value: float, tmp_path: Path) -> None:
    path = patched(tmp_path, 280, np.array([value, 0, 0], dtype=np.float32))
    with pytest.raises(GeometryRefused) as caught:
        read(path)
    assert caught.value.path == path


def test_a_shear_is_refused(tmp_path: Path) -> None:
    affine = GRIDS["LPS"].affine_ras.copy()
    affine[0, 1] = 0.3
    image = nib.Nifti1Image(voxels().T, None)
    image.set_sform(affine, 1)
    nib.save(image, tmp_path / "scan.nii")
    with pytest.raises(GeometryRefused, match="shear"):
        read(tmp_path / "scan.nii")


@pytest.mark.parametrize("dims", [(32767, 32767, 32767), (6, 5, -4), (6, 5, 400)])
def test_dimensions_that_lie_are_refused_before_memory_is_taken(dims: tuple[int, ...], tmp_path: Path) -> None:
    path = patched(tmp_path, 42, np.array(dims, dtype=np.int16))
    with pytest.raises((LimitExceeded, NotReadable)) as caught:
        read(path, limits=Limits(volume_bytes=1 << 30))
    assert caught.value.path == path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.995])
def test_a_cut_file_is_not_readable(suffix: str, keep: float, tmp_path: Path) -> None:
    path = tmp_path / f"scan{suffix}"
    nib.save(nifti(voxels((40, 50, 60)).T, GRIDS["LPS"].affine_ras), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(NotReadable):
        read(path)


def test_a_changed_byte_in_gzip_is_found(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    nib.save(nifti(voxels((40, 50, 60)).T, GRIDS["LPS"].affine_ras), path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(NotReadable):
        read(path)


def test_a_gzip_bomb_is_inflated_no_further_than_declared(tmp_path: Path) -> None:
    plain = tmp_path / "plain.nii"
    nib.save(nifti(voxels().T, GRIDS["LPS"].affine_ras), plain)
    path = tmp_path / "scan.nii.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(plain.read_bytes())
        for _ in range(256):
            file.write(bytes(1 << 20))
    volume = read(path, limits=Limits(headroom_bytes=64 << 20))
    np.testing.assert_array_equal(volume.array, voxels())


def test_a_bomb_in_place_of_the_voxels_meets_the_limit(tmp_path: Path) -> None:
    head = patched(tmp_path, 42, np.array((1024, 1024, 600), dtype=np.int16)).read_bytes()[:352]
    path = tmp_path / "bomb.nii.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head)
        file.write(bytes(4 << 20))
    with pytest.raises(LimitExceeded, match="more than the limit"):
        read(path, limits=Limits(volume_bytes=512 << 20))


def test_not_finite_voxels_are_told(tmp_path: Path) -> None:
    array = voxels(dtype="f4")
    array[1, 2, 3] = np.nan
    nib.save(nifti(array.T, GRIDS["LPS"].affine_ras), tmp_path / "scan.nii")
    assert read(tmp_path / "scan.nii").provenance.warnings == ("1 voxels are not finite numbers",)


@pytest.mark.shared_data
def test_a_real_ct(shared_data: Path) -> None:
    path = shared_data / "ct-totalsegmentator-examples" / "example_ct_sm.nii.gz"
    volume = read(path)
    assert isinstance(volume, Volume)
    theirs = nib.load(path)
    np.testing.assert_array_equal(volume.array, np.asarray(theirs.dataobj).T)
    assert_as_sitk_reads(volume, path)
