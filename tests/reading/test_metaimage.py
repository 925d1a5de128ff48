"""MetaImage against SimpleITK: orientation, byte order, compression, detached data, and what is refused."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from reading_grids import GRIDS, SHAPE, as_sitk, assert_as_sitk_reads, every_grid, every_index, voxels

from hounsfield.errors import GeometryRefused, InputError, LimitExceeded, NotReadable, UnsupportedEncoding
from hounsfield.reading import Limits, SeriesKind, load, read, scan
from hounsfield.volume import Geometry, TimeSeries

KEYS = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "-31.5 12.25 870.125",
    "AnatomicalOrientation": "RAI",
    "ElementSpacing": "0.9 0.7 2.5",
    "DimSize": "6 5 4",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}


def write(path: Path, data: bytes = voxels().tobytes(), **changes: str | None) -> Path:
    keys = {**{name: KEYS[name] for name in KEYS if name != "ElementDataFile"}, **changes}
    keys["ElementDataFile"] = changes.get("ElementDataFile", "LOCAL")
    keys["ElementDataFile"] = keys.pop("ElementDataFile")
    text = "".join(f"{name} = {value}\n" for name, value in keys.items() if value is not None)
    path.write_bytes(text.encode() + data)
    return path


@every_grid
def test_what_simpleitk_wrote(grid: Geometry, tmp_path: Path) -> None:
    path = tmp_path / ("scan.mha" if grid.is_right_handed else "scan.mhd")
    sitk.WriteImage(as_sitk(voxels(), grid), str(path), useCompression=grid.orientation[0] in "LA")
    volume = read(path)
    assert_as_sitk_reads(volume, path)
    points = every_index(SHAPE)
    assert np.abs(volume.geometry.index_to_mm(points) - grid.index_to_mm(points)).max() < 1e-3
    assert volume.provenance.warnings == ()


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
)
def test_every_type(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "scan.mha"
    sitk.WriteImage(as_sitk(voxels(dtype=dtype), GRIDS["oblique"]), str(path))
    volume = read(path)
    assert volume.array.dtype == np.dtype(dtype)
    assert_as_sitk_reads(volume, path)


@pytest.mark.parametrize("key", ["BinaryDataByteOrderMSB", "ElementByteOrderMSB"])
def test_big_endian(key: str, tmp_path: Path) -> None:
    data = voxels().astype(">i2").tobytes()
    path = write(tmp_path / "scan.mha", data, **{"BinaryDataByteOrderMSB": None, key: "True"})
    np.testing.assert_array_equal(read(path).array, voxels())


@pytest.mark.parametrize("compressed", [False, True])
def test_a_data_file_beside_the_header(compressed: bool, tmp_path: Path) -> None:
    data = voxels().tobytes()
    (tmp_path / "scan.raw").write_bytes(zlib.compress(data) if compressed else data)
    path = write(tmp_path / "scan.mhd", b"", ElementDataFile="scan.raw", CompressedData=str(compressed))
    volume = read(path)
    np.testing.assert_array_equal(volume.array, voxels())
    assert_as_sitk_reads(volume, path)


@pytest.mark.parametrize("skip", ["7", "-1"])
def test_header_size(skip: str, tmp_path: Path) -> None:
    (tmp_path / "scan.raw").write_bytes(bytes(7) + voxels().tobytes())
    path = write(tmp_path / "scan.mhd", b"", ElementDataFile="scan.raw", HeaderSize=skip)
    assert_as_sitk_reads(read(path), path)


def test_letters_that_contradict_the_matrix_are_told(tmp_path: Path) -> None:
    volume = read(write(tmp_path / "scan.mha", AnatomicalOrientation="LAI"))
    assert_as_sitk_reads(volume, tmp_path / "scan.mha")
    assert "AnatomicalOrientation LAI" in volume.provenance.warnings[0]


def test_a_fourth_dimension_is_time(tmp_path: Path) -> None:
    array = voxels((3, *SHAPE))
    first = as_sitk(array[0], GRIDS["oblique"])
    image = sitk.JoinSeries([as_sitk(part, GRIDS["oblique"]) for part in array], 0.0, 2.5)
    sitk.WriteImage(image, str(tmp_path / "scan.mha"))
    with scan(tmp_path / "scan.mha") as contents:
        assert contents.series[0].kind is SeriesKind.DYNAMIC
        loaded = load(contents.series[0])
    assert isinstance(loaded, TimeSeries)
    np.testing.assert_array_equal(loaded.array, array)
    assert loaded.times_s == (0.0, 2.5, 5.0)
    corner = first.TransformIndexToPhysicalPoint((5, 4, 3))
    assert np.abs(loaded.geometry.index_to_mm((3, 4, 5)) - corner).max() < 1e-3


def test_scaling(tmp_path: Path) -> None:
    path = write(tmp_path / "scan.mha", ElementToIntensityFunctionSlope="0.5", ElementToIntensityFunctionOffset="-7")
    np.testing.assert_array_equal(read(path).array, voxels().astype(np.float64) * 0.5 - 7)


def test_colours_are_refused_by_kind(tmp_path: Path) -> None:
    image = sitk.Image([6, 5, 4], sitk.sitkVectorUInt8, 3)
    sitk.WriteImage(image, str(tmp_path / "scan.mha"))
    with scan(tmp_path / "scan.mha") as contents:
        assert contents.series[0].kind is SeriesKind.COLOUR
    with pytest.raises(GeometryRefused, match="colours"):
        read(tmp_path / "scan.mha")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"ElementSpacing": "0.9 0.7 0"}, GeometryRefused),
        ({"ElementSpacing": "0.9 nan 2.5"}, GeometryRefused),
        ({"ElementSpacing": None}, GeometryRefused),
        ({"TransformMatrix": None, "AnatomicalOrientation": "LPS"}, GeometryRefused),
        ({"TransformMatrix": None, "AnatomicalOrientation": None}, GeometryRefused),
        ({"TransformMatrix": "1 0 0 0 1 0 0 0.4 1"}, GeometryRefused),
        ({"TransformMatrix": "1 0 0 0 1 0 0 1 0"}, GeometryRefused),
        ({"TransformMatrix": "1 0 0 0 1 0"}, NotReadable),
        ({"TransformMatrix": "1 0 0 0 one 0 0 0 1"}, NotReadable),
        ({"DimSize": "6 5"}, NotReadable),
        ({"DimSize": "6 5 4x"}, NotReadable),
        ({"DimSize": "6 5 5"}, NotReadable),
        ({"DimSize": "60000 60000 60000"}, LimitExceeded),
        ({"NDims": "2", "DimSize": "6 5"}, GeometryRefused),
        ({"ElementType": "MET_STRING"}, UnsupportedEncoding),
        ({"ElementNumberOfChannels": "2"}, UnsupportedEncoding),
        ({"BinaryData": "False"}, UnsupportedEncoding),
        ({"CompressedData": "True"}, NotReadable),
        ({"ElementDataFile": "../scan.raw"}, NotReadable),
        ({"ElementDataFile": "/etc/hostname"}, NotReadable),
        ({"ElementDataFile": "LIST"}, NotReadable),
        ({"ElementDataFile": "absent.raw"}, NotReadable),
    ],
)
def test_what_is_refused(changes: dict[str, str | None], error: type[InputError], tmp_path: Path) -> None:
    path = write(tmp_path / "scan.mha", **changes)
    with pytest.raises(error) as caught:
        read(path)
    assert type(caught.value) is error
    assert caught.value.path == path
    assert caught.value.remedy


@pytest.mark.parametrize("keep", [0.3, 0.8, 0.99])
def test_a_cut_file_is_not_readable(keep: float, tmp_path: Path) -> None:
    path = tmp_path / "scan.mha"
    sitk.WriteImage(as_sitk(voxels((40, 50, 60)), GRIDS["LPS"]), str(path), useCompression=True)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(NotReadable):
        read(path)


def test_a_zlib_bomb_is_inflated_no_further_than_declared(tmp_path: Path) -> None:
    data = zlib.compress(voxels().tobytes() + bytes(300 << 20), 1)
    path = write(tmp_path / "scan.mha", data, CompressedData="True")
    volume = read(path, limits=Limits(headroom_bytes=64 << 20))
    np.testing.assert_array_equal(volume.array, voxels())
