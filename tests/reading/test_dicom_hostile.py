"""Bad input: each ends in one clear error that names the file, or is skipped with its reason."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_phantoms import corners, enhanced, noise, save, slice_dataset, write_series
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from hounsfield.errors import (
    GeometryRefused,
    HounsfieldError,
    LimitExceeded,
    NothingToRead,
    NotReadable,
    UnsupportedEncoding,
)
from hounsfield.reading import Limits, Series, SeriesKind, load, read, scan
from hounsfield.reading.elements import Malformed, TooMuch, parse

Spoil = Callable[[Dataset], None]


def spoiled(tmp_path: Path, spoil: Spoil) -> Path:
    def edit(_: int, ds: Dataset) -> None:
        spoil(ds)

    write_series(tmp_path / "s", corners((4, 8, 8)), edit=edit)
    return tmp_path / "s"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda ds: setattr(ds, "PixelSpacing", ["0", "0"]), "pixel spacing is missing or not between 0 and 100 mm"),
        (lambda ds: setattr(ds, "PixelSpacing", ["-1", "1"]), "pixel spacing"),
        (lambda ds: ds["PixelSpacing"].__setattr__("_value", "nan"), "pixel spacing"),
        (lambda ds: delattr(ds, "PixelSpacing"), "pixel spacing"),
        (lambda ds: delattr(ds, "ImagePositionPatient"), "position"),
        (lambda ds: delattr(ds, "ImageOrientationPatient"), "orientation"),
        (lambda ds: setattr(ds, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "not two unit vectors at right angles"),
        (lambda ds: setattr(ds, "ImageOrientationPatient", [2, 0, 0, 0, 1, 0]), "not two unit vectors at right angles"),
        (lambda ds: setattr(ds, "ImageOrientationPatient", [0, 0, 0, 0, 0, 0]), "not two unit vectors at right angles"),
    ],
)
def test_no_usable_place_in_space(spoil: Spoil, words: str, tmp_path: Path) -> None:
    with pytest.raises(GeometryRefused, match=words):
        read(spoiled(tmp_path, spoil))


@pytest.mark.parametrize("text", ["nan", "inf", "1e400", "abc"])
@pytest.mark.parametrize("tag", [0x00280030, 0x00200032, 0x00200037])
def test_numbers_that_are_none(tag: int, text: str, tmp_path: Path) -> None:
    paths = write_series(tmp_path, corners((4, 8, 8)))
    for path in paths:
        ds = pydicom.dcmread(path)
        count = len(ds[tag].value)
        with pydicom.config.disable_value_validation():
            ds[tag] = pydicom.DataElement(tag, "LO", [text] * count)
            ds.save_as(path)
    with pytest.raises(GeometryRefused):
        read(tmp_path)


def test_a_rescale_slope_that_is_no_number(tmp_path: Path) -> None:
    def spoil(ds: Dataset) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = "0", "0"

    with pytest.raises(GeometryRefused, match="rescale slope"):
        read(spoiled(tmp_path, spoil))


@pytest.mark.parametrize("text", ["abc", "nan", "1\\2", "1e999"])
@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_a_rescale_that_cannot_be_read_is_never_taken_as_absent(keyword: str, text: str, tmp_path: Path) -> None:
    def spoil(ds: Dataset) -> None:
        with pydicom.config.disable_value_validation():
            ds[keyword] = pydicom.DataElement(keyword, "LO", text)

    with pytest.raises(GeometryRefused, match="rescale slope"):
        read(spoiled(tmp_path, spoil))


def test_a_number_of_frames_that_cannot_be_read(tmp_path: Path) -> None:
    def spoil(ds: Dataset) -> None:
        with pydicom.config.disable_value_validation():
            ds["NumberOfFrames"] = pydicom.DataElement("NumberOfFrames", "LO", "1A")

    with pytest.raises(NothingToRead, match="number of frames is not a number"):
        read(spoiled(tmp_path, spoil))


def test_missing_pixel_data(tmp_path: Path) -> None:
    with pytest.raises(NotReadable, match="no pixel data"):
        read(spoiled(tmp_path, lambda ds: ds.__delattr__("PixelData")))


def test_empty_folder_and_missing_path(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingToRead, match="no file"):
        read(tmp_path / "empty")
    with pytest.raises(NothingToRead, match="no such file"):
        read(tmp_path / "absent")


def test_not_dicom_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(b"this is not DICOM at all, only its suffix is" * 9)
    with pytest.raises(NothingToRead, match=r"x\.dcm was skipped"):
        read(tmp_path)
    (tmp_path / "empty.dcm").write_bytes(b"")
    with scan(tmp_path) as contents:
        assert [skipped.path.name for skipped in contents.skipped] == ["empty.dcm", "x.dcm"]
        assert contents.skipped[0].reason == "the file is empty"


def test_a_dicomdir_is_ignored(tmp_path: Path) -> None:
    truth = corners((4, 8, 8))
    write_series(tmp_path, truth)
    ds = slice_dataset(truth[0], (0, 0, 0))
    ds.SOPClassUID = "1.2.840.10008.1.3.10"
    save(ds, tmp_path / "DICOMDIR")
    np.testing.assert_array_equal(read(tmp_path).array, truth)
    with scan(tmp_path) as contents:
        assert "DICOMDIR" in contents.skipped[0].reason


@pytest.mark.parametrize("keep", [100, 200, 700, -40])
def test_a_truncated_file_never_hides_the_others(keep: int, tmp_path: Path) -> None:
    truth = corners((6, 8, 8))
    paths = write_series(tmp_path, truth)
    paths[2].write_bytes(paths[2].read_bytes()[:keep])
    with scan(tmp_path) as contents:
        assert [skipped.path for skipped in contents.skipped] == [paths[2]]
        series = contents.choose()
        assert "gap" in {issue.code for issue in series.issues}
        with pytest.raises(GeometryRefused):
            load(series)
        assert load(series, repair=True).geometry.shape == (6, 8, 8)


def test_a_damaged_slice_at_the_end_is_not_lost_in_silence(tmp_path: Path) -> None:
    paths = write_series(tmp_path, corners((6, 8, 8)))
    paths[5].write_bytes(paths[5].read_bytes()[:-40])
    with pytest.raises(GeometryRefused, match="1 of its files cannot be used"):
        read(tmp_path)
    volume = read(tmp_path, repair=True)
    assert volume.shape == (5, 8, 8)
    assert "cut short" in volume.provenance.repairs[0]


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_a_damaged_code_stream_names_its_file(syntax: str, tmp_path: Path) -> None:
    paths = write_series(tmp_path, noise((4, 32, 32), 0, 4000, np.uint16), syntax=syntax)
    ds = pydicom.dcmread(paths[1])
    ds.PixelData = ds.PixelData[:8] + ds.PixelData[8:16] + bytes(len(ds.PixelData) - 24) + ds.PixelData[-8:]
    ds.save_as(paths[1])
    with pytest.raises(NotReadable) as caught:
        read(tmp_path)
    assert caught.value.path == paths[1]


def test_a_code_stream_of_another_size_is_refused_before_decoding(tmp_path: Path) -> None:
    paths = write_series(tmp_path, noise((3, 32, 32), 0, 4000, np.uint16), syntax=JPEG2000Lossless)
    data = paths[0].read_bytes()
    at = data.index(b"\xff\x4f\xff\x51") + 8
    paths[0].write_bytes(data[:at] + struct.pack(">II", 60000, 60000) + data[at + 8 :])
    with pytest.raises(NotReadable, match="60000 x 60000 pixels where the header says 32 x 32"):
        read(tmp_path)


def test_an_unknown_transfer_syntax(tmp_path: Path) -> None:
    for path in write_series(tmp_path, corners((4, 8, 8)), syntax=RLELossless):
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.9\0"))
    with pytest.raises(UnsupportedEncoding, match=r"1\.2\.840\.10008\.1\.2\.9"):
        read(tmp_path)


def test_a_huge_declared_size_is_refused_before_allocation(tmp_path: Path) -> None:
    ds = enhanced(corners((4, 8, 8)))
    ds.Rows, ds.Columns = 65535, 65535
    ds.NumberOfFrames = 4
    save(ds, tmp_path / "bomb.dcm", ExplicitVRLittleEndian)
    with pytest.raises(LimitExceeded, match=r"32\.0 GiB of pixels, more than the 16\.0 allowed"):
        read(tmp_path)


def test_a_series_larger_than_the_limit(tmp_path: Path) -> None:
    write_series(tmp_path, corners((4, 64, 64)))
    with pytest.raises(LimitExceeded, match="GiB decoded"):
        read(tmp_path, limits=Limits(volume_bytes=4 * 64 * 64 * 2 - 1))
    assert read(tmp_path, limits=Limits(volume_bytes=4 * 64 * 64 * 2)).shape == (4, 64, 64)


def test_a_deflated_bomb_is_not_inflated(tmp_path: Path) -> None:
    ds = slice_dataset(corners((1, 8, 8))[0], (0, 0, 0))
    ds.SeriesInstanceUID = generate_uid()
    save(ds, tmp_path / "bomb.dcm", DeflatedExplicitVRLittleEndian)
    data = (tmp_path / "bomb.dcm").read_bytes()
    meta = data[: 132 + 12 + struct.unpack_from("<I", data, 140)[0]]
    # One private element of 96 MiB of zeros before anything else
    element = struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, 96 << 20)
    stream = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    packed = stream.compress(element) + b"".join(stream.compress(bytes(1 << 20)) for _ in range(96)) + stream.flush()
    (tmp_path / "bomb.dcm").write_bytes(meta + packed)
    with scan(tmp_path, limits=Limits(header_bytes=16 << 20)) as contents:
        assert not contents.series
        assert "inflates beyond" in contents.skipped[0].reason


def nested(depth: int, *, undefined: bool) -> bytes:
    """A data set with sequences of sequences, explicit or undefined length."""
    content = b""
    for _ in range(depth):
        if undefined:
            item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + content + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
            content = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF) + item
            content += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        else:
            item = struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
            content = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, len(item)) + item
    start = struct.pack("<HH2sH", 0x0008, 0x0060, b"CS", 2) + b"CT"
    return start + content


def test_nesting_is_bounded_and_never_recurses_without_end() -> None:
    parse(nested(16, undefined=True), Limits())
    for depth in (17, 200, 2_000):
        with pytest.raises(TooMuch, match="nested deeper than 16"):
            parse(nested(depth, undefined=True), Limits())
    # Sequences of known length that nobody asks for are passed over, however deep
    parse(nested(2_000, undefined=False), Limits())


def test_too_many_elements() -> None:
    element = struct.pack("<HH2sH", 0x0008, 0x0060, b"CS", 2) + b"CT"
    with pytest.raises(TooMuch, match="more than 1000 data elements"):
        parse(element * 1001, Limits(elements=1000))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (struct.pack("<HH2sH", 0x0008, 0x0060, b"CS", 60000) + b"CT", "claims 60000 bytes where 2 are left"),
        (struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + bytes(4), "sequence has no end"),
        (struct.pack("<HH2sH", 0x0008, 0x0060, b"CS", 2) + b"CT" + b"\x08\x00\x70", "middle of a data element"),
        (
            struct.pack("<HH2sH", 0x0008, 0x0060, b"CS", 2) + b"CT" + struct.pack("<HH2sH", 8, 0x70, b"??", 2) + b"xx",
            r"\(0008,0070\) has no value representation",
        ),
        (b"\x08\x00", "too short"),
    ],
)
def test_wrong_lengths_and_representations(data: bytes, words: str) -> None:
    with pytest.raises(Malformed, match=words):
        parse(data, Limits())


def test_five_hundred_mutations_end_in_a_volume_or_one_clear_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    source = write_series(tmp_path / "good", noise((1, 16, 16), 0, 4000, np.uint16), syntax=ImplicitVRLittleEndian)[0]
    good = source.read_bytes()
    folder = tmp_path / "bad"
    folder.mkdir()
    for n in range(500):
        data = bytearray(good)
        for at in rng.integers(132, len(good), size=int(rng.integers(1, 12))):
            data[at] = rng.integers(0, 256)
        cut = int(rng.integers(100, len(data))) if n % 5 == 0 else len(data)
        (folder / f"{n:03d}.dcm").write_bytes(bytes(data[:cut]))
    with scan(folder) as contents:
        counted = sum(series.instances for series in contents.series) + len(contents.skipped)
        copies = sum("copy" in {issue.code for issue in series.issues} for series in contents.series)
        assert counted > 0
        assert copies or counted == 500
        outcomes = [_outcome(series) for series in contents.series]
        assert set(outcomes) <= {"loaded", "refused"}
        assert "refused" in outcomes


def _outcome(series: Series) -> str:
    try:
        load(series, repair=True)
    except HounsfieldError:
        return "refused"
    return "loaded"


def test_errors_and_series_hold_no_name_or_number_of_a_person(tmp_path: Path) -> None:
    paths = write_series(tmp_path, corners((4, 8, 8)))
    paths[1].write_bytes(paths[1].read_bytes()[:-40])
    with scan(tmp_path) as contents:
        text = repr(contents) + repr(contents.series[0].plan)
        with pytest.raises(HounsfieldError) as caught:
            load(contents.series[0])
    assert "Canary" not in text + str(caught.value)
    assert "CANARY-4711" not in text + str(caught.value)


def test_control_characters_in_texts_are_taken_out(tmp_path: Path) -> None:
    def spoil(ds: Dataset) -> None:
        ds.SeriesDescription = "evil\x1b[31m\nline"

    series = scan(spoiled(tmp_path, spoil)).choose()
    assert series.kind is SeriesKind.VOLUME
    assert (series.description or "").isprintable()
