"""Real scans: the right volume, equal to what independent readers give, or the right refusal."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from scipy.ndimage import map_coordinates

from hounsfield.errors import GeometryRefused, HounsfieldError
from hounsfield.reading import SeriesKind, load, read, scan
from hounsfield.volume import Geometry, Quantity, TimeSeries, Volume

pytestmark = pytest.mark.shared_data

TRICKY = "dicom-tricky/dicom2nifti"


def sitk_series(folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def sitk_geometry(image: sitk.Image) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = (np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing()))[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    i, j, k = image.GetSize()
    return Geometry((k, j, i), affine)


def equal_to_sitk(volume: Volume, image: sitk.Image, tolerance: float = 0.0) -> None:
    """Same voxels at the same millimetres, whichever way SimpleITK counts the slices."""
    reference, other = sitk.GetArrayFromImage(image), sitk_geometry(image)
    if other.affine[:3, 0] @ volume.geometry.affine[:3, 0] < 0:
        reference = reference[::-1]
        affine = other.affine.copy()
        affine[:3, 3] += affine[:3, 0] * (other.shape[0] - 1)
        affine[:3, 0] *= -1
        other = Geometry(other.shape, affine)
    assert volume.geometry.is_close(other, 1e-3)
    difference = np.abs(volume.array.astype(np.float64) - reference.astype(np.float64)).max()
    assert difference <= tolerance


def test_chest_ct_equals_simpleitk_voxel_for_voxel(unpacked: Callable[[str], Path]) -> None:
    folder = unpacked("ct-chest-lidc-idri-0001/LIDC-IDRI-0001.tar.xz")
    volume = read(folder)
    image = sitk_series(next(path.parent for path in folder.rglob("*.dcm")))
    equal_to_sitk(volume, image)
    assert volume.shape == (133, 512, 512)
    assert volume.quantity is Quantity.HU
    assert volume.array.dtype == np.int16
    assert volume.geometry.spacing_mm == pytest.approx((2.5, 0.703125, 0.703125))
    uid = "1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192"
    assert volume.provenance.series_instance_uid == uid
    assert volume.provenance.acquisition.contrast_agent == "IV"
    for k in (0, 77, 132):
        frame = volume.provenance.frames[k]
        ds = pydicom.dcmread(frame.path)
        assert ds.SOPInstanceUID == frame.sop_instance_uid
        np.testing.assert_array_equal(ds.pixel_array.astype(int) + int(ds.RescaleIntercept), volume.array[k])
        np.testing.assert_allclose(volume.geometry.index_to_mm((k, 0, 0)), ds.ImagePositionPatient, atol=1e-3)


@pytest.mark.parametrize(
    ("folder", "shape", "spacing"),
    [
        ("generic/compressed", (4, 256, 256), (1.0, 1.0, 1.0)),
        ("generic/compressed_j2k", (4, 256, 256), (1.0, 1.0, 1.0)),
        ("generic/compressed_jpeg", (4, 256, 256), (1.0, 1.0, 1.0)),
        ("generic/compressed_jpegls", (4, 256, 256), (1.0, 1.0, 1.0)),
        ("generic/compressed_rle", (4, 256, 256), (1.0, 1.0, 1.0)),
        ("generic/anatomical/002_non_isotropic", (4, 28, 64), (0.5, 4.0, 6.39996)),
        ("ge", (4, 256, 256), (1.0, 1.0, 1.0)),
        ("hitachi", (4, 64, 64), (4.0, 2.34375, 2.34375)),
        ("hyperfine", (8, 138, 112), (5.0, 1.61, 1.59)),
        ("philips_enhanced", (8, 256, 256), (1.2, 1.0, 1.0)),
        ("siemens_multiframe", (8, 256, 256), (0.9, 0.9375, 0.9375)),
    ],
)
def test_tricky_series_that_are_volumes_equal_simpleitk(
    folder: str, shape: tuple[int, int, int], spacing: tuple[float, float, float], shared_data: Path
) -> None:
    path = shared_data / TRICKY / folder
    volume = read(path)
    assert volume.shape == shape
    assert volume.geometry.spacing_mm == pytest.approx(spacing, abs=1e-4)
    files = list(path.rglob("*.dcm"))
    image = sitk.ReadImage(str(files[0])) if len(files) == 1 else sitk_series(files[0].parent)
    if folder == "philips_enhanced":
        # ITK rounds the slope of each frame to that of the first; it is one here, as float64
        equal_to_sitk(volume, image, 1e-3)
    else:
        equal_to_sitk(volume, image, 1e-4)


def test_the_five_compressions_of_one_series_are_equal(shared_data: Path) -> None:
    names = ("compressed", "compressed_j2k", "compressed_jpeg", "compressed_jpegls", "compressed_rle")
    arrays = [read(shared_data / TRICKY / "generic" / name).array for name in names]
    for other in arrays[1:]:
        np.testing.assert_array_equal(arrays[0], other)
    assert arrays[0].max() > 200


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("failing/gantrytilting", r"sheared by 14\.0 degrees against their normal \(gantry tilt\)"),
        ("failing/notavolume", "all 4 slices lie at one position"),
        ("failing/slicecount", "2 slices cannot make a volume"),
        ("failing/sliceincrement", r"1 slice is missing \(spacing 5\.000 mm, a gap of 10\.000 mm"),
    ],
)
def test_tricky_series_that_are_refused_by_name(folder: str, words: str, shared_data: Path) -> None:
    path = shared_data / TRICKY / folder
    source = path / "001" if folder.endswith("slicecount") else path
    with pytest.raises(GeometryRefused, match=words):
        read(source, series="1")


def test_mixed_orientation_is_refused(shared_data: Path) -> None:
    with scan(shared_data / TRICKY / "failing/sliceorientation") as contents:
        assert len(contents.series) == 2
        for series in contents.series:
            assert {"mixed-orientation", "too-few-slices"} <= {issue.code for issue in series.issues}
            with pytest.raises(GeometryRefused):
                load(series, repair=True)
    with pytest.raises(HounsfieldError):
        read(shared_data / TRICKY / "failing/sliceorientation")


def test_colour_is_told_and_not_loaded(shared_data: Path) -> None:
    with scan(shared_data / TRICKY / "generic/rgb") as contents:
        assert [series.kind for series in contents.series] == [SeriesKind.COLOUR]
        with pytest.raises(GeometryRefused, match="colour"):
            load(contents.series[0])


def test_a_head_ct_with_tilt_and_uneven_slices_is_repaired_to_the_values_at_each_place(
    unpacked: Callable[[str], Path],
) -> None:
    folder = unpacked("dicom-tricky/ge-gantry-tilt-head-ct/series.tar.xz")
    with pytest.raises(GeometryRefused, match=r"uneven, from 1\.081 to 6\.999 mm"):
        read(folder)
    volume = read(folder, repair=True)
    assert volume.geometry.is_orthonormal
    assert len(volume.provenance.source_files) == 28
    assert volume.padding is not None
    rng = np.random.default_rng(0)
    inside = np.argwhere(~volume.padding)
    index = inside[rng.choice(len(inside), 200)]
    slices = [pydicom.dcmread(path) for path in folder.rglob("*") if path.is_file()]
    planes = [ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in slices]
    for voxel in index:
        expected = _interpolated(slices, planes, volume.geometry.index_to_mm(voxel))
        assert volume.array[tuple(voxel)] == pytest.approx(expected, abs=0.51)


def _interpolated(slices: list[pydicom.Dataset], planes: list[np.ndarray], point: np.ndarray) -> float:
    """HU at a place, from the two slices around it, each read in its own plane."""
    row, column = np.reshape(slices[0].ImageOrientationPatient, (2, 3)).astype(float)
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    along = np.array([np.dot(normal, point - np.asarray(ds.ImagePositionPatient, dtype=float)) for ds in slices])
    below, above = np.where(along >= -1e-6, along, np.inf).argmin(), np.where(along <= 1e-6, along, -np.inf).argmax()
    parts = []
    for n in (below, above):
        ds = slices[n]
        offset = point - np.asarray(ds.ImagePositionPatient, dtype=float)
        place = [[offset @ column / ds.PixelSpacing[0]], [offset @ row / ds.PixelSpacing[1]]]
        parts.append(float(map_coordinates(planes[n], place, order=1, mode="nearest")[0]))
    gap = along[below] - along[above]
    share = along[below] / gap if gap > 1e-6 else 0.0
    return (1 - share) * parts[0] + share * parts[1]


def test_pet_becomes_suv_by_the_series_clock(unpacked: Callable[[str], Path]) -> None:
    volume = read(unpacked("pet-qin-headneck/QIN-HEADNECK-01-0024_PET.tar.xz"))
    assert volume.quantity is Quantity.SUV_BW
    assert volume.shape == (299, 128, 128)
    assert volume.geometry.spacing_mm == pytest.approx((3.375, 3.538, 3.538), abs=1e-3)
    # The figures of the data's own description
    assert volume.array.max() == pytest.approx(19.5, abs=0.05)
    assert np.percentile(volume.array, 99.9) == pytest.approx(10.6, abs=0.05)
    assert volume.array[volume.array > 0.1].mean() == pytest.approx(0.86, abs=0.005)
    ds = pydicom.dcmread(volume.provenance.frames[150].path)
    minutes = (13 * 60 + 2 + 44 / 60) - (11 * 60 + 39)
    decayed = 381.47e6 * 2 ** (-minutes * 60 / 6586.2)
    expected = ds.pixel_array * float(ds.RescaleSlope) * 66.2e3 / decayed
    np.testing.assert_allclose(volume.array[150], expected, rtol=1e-3)


def test_a_dynamic_study_with_one_series_for_each_time_point(unpacked: Callable[[str], Path]) -> None:
    folder = unpacked("mr-dce/ProstateX-0218_dce.tar.xz")
    with scan(folder) as contents:
        dynamic = [series for series in contents.series if series.kind is SeriesKind.DYNAMIC]
        others = [series for series in contents.series if series.kind is not SeriesKind.DYNAMIC]
        assert len(dynamic) == 1
        assert [series.kind for series in others] == [SeriesKind.VOLUME] * 8
        assert len(dynamic[0].series_instance_uids) == 35
        series = load(dynamic[0])
        names = {path.parent.name for path in dynamic[0].files}
    assert isinstance(series, TimeSeries)
    assert series.array.shape == (35, 20, 160, 160)
    assert series.geometry.spacing_mm == pytest.approx((3.6, 1.625, 1.625))
    steps = np.diff(series.times_s)
    assert steps[1:] == pytest.approx(np.full(33, 8.466), abs=0.01)
    assert all("Twistdynamic" in name for name in names)
    base = series.array[:3].mean(axis=0)
    enhancement = np.where(base > 0, series.array[-1] / np.maximum(base, 1e-6) - 1, 0)
    # the data's description: 7.7 % of voxels enhance by more than 100 %
    assert (enhancement > 1).mean() == pytest.approx(0.077, abs=0.03)
    for t in (0, 17, 34):
        source = series.at(t).provenance.frames[0].path.parent
        image = sitk_series(source)
        equal_to_sitk(series.at(t), image)


@pytest.mark.parametrize("letter", "ABCDEF")
def test_chest_x_rays_are_projections(letter: str, shared_data: Path) -> None:
    path = shared_data / f"cxr/rsna-dicom/Patient{letter}.dcm"
    volume = read(path)
    ds = pydicom.dcmread(path)
    assert volume.shape == (1, 1024, 1024)
    assert volume.geometry.spacing_mm == pytest.approx((1.0, *ds.PixelSpacing))
    reference = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    # Two JPEG libraries may round the inverse cosine transform differently by one
    assert np.abs(volume.array.astype(int) - reference.reshape(volume.shape)).max() <= 1
    assert volume.provenance.acquisition.age_years is not None


def test_monochrome1_is_mirrored_so_that_bigger_is_brighter(shared_data: Path) -> None:
    path = shared_data / "dicom-seg-sr/highdicom/dx_image.dcm"
    volume = read(path)
    stored = pydicom.dcmread(path).pixel_array
    np.testing.assert_array_equal(volume.array[0], 255 - stored)
    assert any("MONOCHROME1" in warning for warning in volume.provenance.warnings)


def test_derived_objects_are_named_and_not_loaded(shared_data: Path) -> None:
    derived = {"SEG", "SR", "RWV", "ANN"}
    with scan(shared_data / "dicom-seg-sr") as contents:
        for series in contents.series:
            if series.format == "dicom":
                assert (series.kind is SeriesKind.DERIVED) == (series.modality in derived), series.summary
            if series.modality == "SM":
                assert series.kind is SeriesKind.SLIDE
        assert sum(series.kind is SeriesKind.DERIVED for series in contents.series) >= 15


@pytest.mark.parametrize("name", ["dcmqi/segmentations/ct-3slice", "dcmqi/segmentations/24x38x3/image"])
def test_small_ct_series_equal_simpleitk(name: str, shared_data: Path) -> None:
    equal_to_sitk(read(shared_data / "dicom-seg-sr" / name), sitk_series(shared_data / "dicom-seg-sr" / name))


def test_multi_frame_ct_has_the_grid_of_its_classic_twin(shared_data: Path) -> None:
    folder = shared_data / "dicom-seg-sr/dcmqi/segmentations/24x38x3"
    classic, converted = read(folder / "image"), read(folder / "multiframe")
    assert classic.geometry.is_close(converted.geometry, 1e-6)
    np.testing.assert_array_equal(classic.array, converted.array)


def test_hippocampus_series_equals_simpleitk(shared_data: Path) -> None:
    folder = shared_data / "mr-hippocampus-msd/dicom-hcrop-study1"
    volume = read(folder)
    assert volume.shape == (32, 51, 35)
    equal_to_sitk(volume, sitk_series(folder))


def test_enhanced_mr_lies_where_dcm2niix_puts_it(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / TRICKY / "siemens_multiframe"
    volume = read(folder)
    subprocess.run(["dcm2niix", "-z", "n", "-o", tmp_path, "-f", "out", folder], check=True, capture_output=True)
    image = nibabel.load(next(tmp_path.glob("*.nii")))
    theirs = np.asarray(image.dataobj)
    index = np.argwhere(volume.array > 100)[::37]
    ras = volume.geometry.index_to_mm(index) * (-1, -1, 1)
    there = nibabel.affines.apply_affine(np.linalg.inv(image.affine), ras)
    np.testing.assert_allclose(there, np.rint(there), atol=0.02)
    np.testing.assert_array_equal(theirs[tuple(np.rint(there).astype(int).T)], volume.array[tuple(index.T)])


def test_nothing_of_a_person_is_in_what_travels(shared_data: Path) -> None:
    folder = shared_data / "mr-hippocampus-msd/dicom-hcrop-study1"
    ds = pydicom.dcmread(folder / "1.dcm")
    with scan(folder) as contents:
        volume = load(contents.choose())
    text = json.dumps(repr((contents, volume.provenance)))
    for word in (str(ds.PatientName), str(ds.PatientID)):
        assert len(word) > 3
        assert word not in text
