"""NRRD against SimpleITK: spaces, encodings, detached data, lists of volumes, and what is refused."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from reading_grids import GRIDS, SHAPE, as_sitk, assert_as_sitk_reads, every_grid, every_index, voxels

from hounsfield.errors import GeometryRefused, InputError, LimitExceeded, NotReadable, UnsupportedEncoding
from hounsfield.reading import Limits, SeriesKind, load, read, scan
from hounsfield.volume import Geometry, Quantity, TimeSeries

FIELDS = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "6 5 4",
    "space directions": "(0.9,0,0) (0,0.7,0) (0,0,2.5)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(-31.5,12.25,870.125)",
}


def write(path: Path, data: bytes = voxels().tobytes(), extra: str = "", **changes: str | None) -> Path:
    fields = {**FIELDS, **{name.replace("_", " "): value for name, value in changes.items()}}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    path.write_bytes(("\n".join(["NRRD0005", "# a comment", *lines]) + "\n" + extra + "\n").encode() + data)
    return path


@every_grid
def test_what_simpleitk_wrote(grid: Geometry, tmp_path: Path) -> None:
    path = tmp_path / "scan.nrrd"
    sitk.WriteImage(as_sitk(voxels(), grid), str(path), useCompression=grid.is_right_handed)
    volume = read(path)
    assert_as_sitk_reads(volume, path)
    points = every_index(SHAPE)
    assert np.abs(volume.geometry.index_to_mm(points) - grid.index_to_mm(points)).max() < 1e-3


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_every_integer(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "scan.nrrd"
    sitk.WriteImage(as_sitk(voxels(dtype=dtype), GRIDS["oblique"]), str(path))
    volume = read(path)
    assert volume.array.dtype == np.dtype(dtype)
    assert_as_sitk_reads(volume, path)


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (1, 1, 1)),
        ("LPS", (1, 1, 1)),
        ("right-anterior-superior", (-1, -1, 1)),
        ("RAS", (-1, -1, 1)),
        ("left-anterior-superior", (1, -1, 1)),
        ("LAS", (1, -1, 1)),
    ],
)
def test_the_spaces_of_the_format(space: str, signs: tuple[int, ...], tmp_path: Path) -> None:
    volume = read(write(tmp_path / "scan.nrrd", space=space))
    assert_as_sitk_reads(volume, tmp_path / "scan.nrrd")
    np.testing.assert_allclose(volume.geometry.origin_mm, np.array(signs) * (-31.5, 12.25, 870.125))


@pytest.mark.parametrize(
    ("encoding", "pack"), [("raw", bytes), ("gzip", gzip.compress), ("gz", gzip.compress), ("bzip2", bz2.compress)]
)
@pytest.mark.parametrize("detached", [False, True])
def test_encodings_attached_and_detached(encoding: str, pack: object, detached: bool, tmp_path: Path) -> None:
    data = pack(voxels().tobytes())  # type: ignore[operator]
    if detached:
        (tmp_path / "voxels.bin").write_bytes(data)
        path = write(tmp_path / "scan.nhdr", b"", encoding=encoding, data_file="voxels.bin")
    else:
        path = write(tmp_path / "scan.nrrd", data, encoding=encoding)
    volume = read(path)
    np.testing.assert_array_equal(volume.array, voxels())
    assert len(volume.provenance.source_files) == 1 + detached


def test_big_endian_and_crlf(tmp_path: Path) -> None:
    path = write(tmp_path / "scan.nrrd", b"", endian="big")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") + voxels().astype(">i2").tobytes())
    np.testing.assert_array_equal(read(path).array, voxels())


@pytest.mark.parametrize("skip", ["16", "-1"])
def test_byte_skip(skip: str, tmp_path: Path) -> None:
    path = write(tmp_path / "scan.nrrd", bytes(16) + voxels().tobytes(), byte_skip=skip)
    np.testing.assert_array_equal(read(path).array, voxels())


@pytest.mark.parametrize("fastest", [True, False])
def test_a_list_of_volumes_is_a_time_series(fastest: bool, tmp_path: Path) -> None:
    array = voxels((3, *SHAPE))
    spaces, kinds, sizes = FIELDS["space directions"], FIELDS["kinds"], FIELDS["sizes"]
    labels = (
        "MultiVolume.FrameLabels:=500,3000,8000\n"
        "MultiVolume.FrameIdentifyingDICOMTagUnits:=ms\nMultiVolume.NumberOfFrames:=3\n"
    )
    path = write(
        tmp_path / "scan.nrrd",
        (np.moveaxis(array, 0, -1) if fastest else array).tobytes(),
        labels,
        dimension="4",
        sizes=f"3 {sizes}" if fastest else f"{sizes} 3",
        kinds=f"list {kinds}" if fastest else f"{kinds} list",
        space_directions=f"none {spaces}" if fastest else f"{spaces} none",
    )
    with scan(path) as contents:
        assert contents.series[0].kind is SeriesKind.DYNAMIC
        loaded = load(contents.series[0])
    assert isinstance(loaded, TimeSeries)
    np.testing.assert_array_equal(loaded.array, array)
    np.testing.assert_allclose(loaded.times_s, (0, 2.5, 7.5))
    assert_as_sitk_reads_first = read(write(tmp_path / "one.nrrd", array[0].tobytes()))
    assert loaded.geometry.is_close(assert_as_sitk_reads_first.geometry)


def test_times_from_the_axis_or_else_a_warning(tmp_path: Path) -> None:
    array = voxels((2, *SHAPE))
    changes = {
        "dimension": "4",
        "sizes": "6 5 4 2",
        "kinds": "domain domain domain time",
        "space_directions": FIELDS["space directions"] + " none",
    }
    told = write(tmp_path / "a.nrrd", array.tobytes(), spacings="nan nan nan 4", units='"" "" "" "s"', **changes)
    untold = write(tmp_path / "b.nrrd", array.tobytes(), **changes)
    with scan(told) as contents:
        assert contents.series[0].times_s == (0.0, 4.0)
        assert contents.series[0].issues == ()
    with scan(untold) as contents:
        assert [issue.code for issue in contents.series[0].issues] == ["time-unknown"]


def test_colours_are_refused_by_kind(tmp_path: Path) -> None:
    path = write(
        tmp_path / "scan.nrrd",
        bytes(3 * 120),
        type="uchar",
        dimension="4",
        sizes="3 6 5 4",
        kinds="RGB-color domain domain domain",
        space_directions="none " + FIELDS["space directions"],
    )
    with scan(path) as contents:
        assert contents.series[0].kind is SeriesKind.COLOUR
    with pytest.raises(GeometryRefused, match="colours"):
        read(path)


@pytest.mark.parametrize(
    "name", ["/etc/hostname", "../voxels.raw", "sub/voxels.raw", "LIST", "v%02d.raw 1 9 1", "..", "a\\b", "link.raw"]
)
def test_data_files_are_plain_names_beside_the_header(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "scan"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path / "voxels.raw", folder / "sub" / "voxels.raw"):
        place.write_bytes(voxels().tobytes())
    (folder / "link.raw").symlink_to(tmp_path / "voxels.raw")
    with pytest.raises(NotReadable):
        read(write(folder / "scan.nhdr", b"", data_file=name))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"space": None}, GeometryRefused),
        ({"space": "scanner-xyz"}, GeometryRefused),
        ({"space_origin": None}, GeometryRefused),
        ({"space_directions": "(0.9,0,0) (0,0.7,0) (0,0,0)"}, GeometryRefused),
        ({"space_directions": "(0.9,0,0) (0,nan,0) (0,0,1)"}, GeometryRefused),
        ({"space_directions": "(0.9,0,0) (0,0.7,0) (0,0.9,2.5)"}, GeometryRefused),
        ({"space_directions": "(0.9,0,0) (0,0.7,0)"}, NotReadable),
        ({"space_directions": "(0.9,0) (0,0.7) (0,1)"}, NotReadable),
        ({"sizes": "6 5 four"}, NotReadable),
        ({"sizes": "6 5 -4"}, NotReadable),
        ({"dimension": "4"}, NotReadable),
        ({"encoding": "ascii"}, UnsupportedEncoding),
        ({"encoding": "hex"}, UnsupportedEncoding),
        ({"type": "block"}, UnsupportedEncoding),
        ({"endian": None}, NotReadable),
        ({"sizes": "60000 60000 60000"}, LimitExceeded),
        ({"sizes": "6 5 5"}, NotReadable),
        ({"encoding": "gzip"}, NotReadable),
        ({"encoding": "bzip2"}, NotReadable),
        ({"byte_skip": "99999999999"}, NotReadable),
        ({"line_skip": "2"}, UnsupportedEncoding),
        ({"kinds": "domain domain vector"}, UnsupportedEncoding),
    ],
)
def test_what_is_refused(changes: dict[str, str | None], error: type[InputError], tmp_path: Path) -> None:
    path = write(tmp_path / "scan.nrrd", **changes)
    with pytest.raises(error) as caught:
        read(path)
    assert type(caught.value) is error
    assert caught.value.path == path
    assert caught.value.remedy


def test_fields_given_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotReadable, match="twice"):
        read(write(tmp_path / "scan.nrrd", extra="sizes: 6 5 4\n"))


def test_a_header_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.nrrd"
    path.write_bytes(b"NRRD0004\n" + b"#" * (5 << 20))
    with pytest.raises(NotReadable, match="no end"):
        read(path)


def test_a_bzip2_bomb_is_inflated_no_further_than_declared(tmp_path: Path) -> None:
    data = bz2.compress(voxels().tobytes() + bytes(300 << 20), 1)
    volume = read(write(tmp_path / "scan.nrrd", data, encoding="bzip2"), limits=Limits(headroom_bytes=64 << 20))
    np.testing.assert_array_equal(volume.array, voxels())


def test_segmentations_of_slicer_say_that_they_are_labels(tmp_path: Path) -> None:
    volume = read(write(tmp_path / "scan.seg.nrrd", extra="Segment0_ID:=Segment_1\n"))
    assert volume.quantity is Quantity.LABEL


@pytest.mark.shared_data
@pytest.mark.parametrize(
    "name",
    ["brain1_image", "brain1_label", "brain2_image", "breast1_image", "breast1_label", "prostate_phantom_subvolume"],
)
def test_real_scans(name: str, shared_data: Path) -> None:
    path = shared_data / "nrrd-pyradiomics" / f"{name}.nrrd"
    assert_as_sitk_reads(read(path), path)


@pytest.mark.shared_data
def test_a_real_multivolume(shared_data: Path) -> None:
    path = shared_data / "mr-dce" / "phantoms" / "qin-dro" / "DRO3min5secinf.nrrd"
    with scan(path) as contents:
        loaded = load(contents.series[0])
    assert isinstance(loaded, TimeSeries)
    assert loaded.times_s == tuple(5.0 * n for n in range(36))
    theirs = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(loaded.array, np.moveaxis(sitk.GetArrayFromImage(theirs), -1, 0))
    for index in every_index(loaded.geometry.shape)[::37].astype(int):
        point = theirs.TransformIndexToPhysicalPoint([int(n) for n in index[::-1]])
        assert np.abs(loaded.geometry.index_to_mm(index) - point).max() < 1e-3
