"""Every transfer syntax, byte order, width and sign gives back the stored values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_phantoms import (
    HTJ2K_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    enhanced,
    noise,
    save,
    write_series,
)
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_fragments
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from hounsfield.reading import Limits, load, read, scan
from hounsfield.volume import Quantity

LOSSLESS = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg-lossless-57": JPEG_LOSSLESS,
    "jpeg-lossless-70": JPEG_LOSSLESS_SV1,
    "jpeg-ls": JPEGLSLossless,
    "jpeg-2000": JPEG2000Lossless,
    "htj2k": HTJ2K_LOSSLESS,
}
STORED = {
    "u8": (np.uint8, 8, 0, 255),
    "u12": (np.uint16, 12, 0, 4095),
    "u16": (np.uint16, 16, 0, 65535),
    "i12": (np.int16, 12, -2048, 2047),
    "i16": (np.int16, 16, -32768, 32767),
}
# ljpeg cannot write what these would need; the reader is checked on real files of both syntaxes.
UNWRITABLE = {("jpeg-lossless-57", "u8"), ("jpeg-lossless-70", "u8")}


@pytest.mark.parametrize("kind", STORED)
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_syntaxes_give_every_stored_value(syntax: str, kind: str, tmp_path: Path) -> None:
    dtype, bits, low, high = STORED[kind]
    truth = noise((4, 24, 17), low, high, dtype)
    write_series(tmp_path, truth, syntax=LOSSLESS[syntax], bits_stored=bits)
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.array, truth)
    assert volume.array.dtype == truth.dtype
    assert volume.provenance.acquisition.transfer_syntax_uid == LOSSLESS[syntax]


def test_thirty_two_bit_integers_and_floats(tmp_path: Path) -> None:
    wide = noise((3, 8, 9), -(2**31), 2**31 - 1, np.int32)
    write_series(tmp_path / "i32", wide)
    np.testing.assert_array_equal(read(tmp_path / "i32").array, wide)

    real = np.random.default_rng(3).normal(size=(3, 8, 9)).astype(np.float32)

    def as_float(k: int, ds: Dataset) -> None:
        del ds.PixelData, ds.BitsStored, ds.HighBit, ds.PixelRepresentation
        ds.add_new(0x7FE00008, "OF", real[k].tobytes())

    write_series(tmp_path / "f32", wide, edit=as_float)
    volume = read(tmp_path / "f32")
    np.testing.assert_array_equal(volume.array, real)
    assert volume.array.dtype == np.float32


@pytest.mark.parametrize(("syntax", "bits", "dtype"), [(JPEG_BASELINE, 8, np.uint8), (JPEG_EXTENDED, 12, np.uint16)])
def test_lossy_jpeg_is_as_an_independent_decoder_sees_it(syntax: str, bits: int, dtype: type, tmp_path: Path) -> None:
    k, j, i = np.indices((3, 32, 40))
    truth = ((k * 11 + j * 5 + i * 2) * (1 << (bits - 8))).astype(dtype)
    write_series(tmp_path, truth, syntax=syntax, bits_stored=bits)
    volume = read(tmp_path)
    assert volume.array.dtype == dtype
    error = np.abs(volume.array.astype(int) - truth.astype(int))
    assert error.max() <= 3 * (1 << (bits - 8))
    assert volume.array.std() == pytest.approx(truth.std(), rel=0.02)


def test_unused_bits_are_cleared_and_a_shifted_high_bit_is_followed(tmp_path: Path) -> None:
    truth = noise((3, 10, 12), 0, 1023, np.uint16)
    overlay = (truth << 4) | 0x8001 | 0x4000

    def high_bit(_: int, ds: Dataset) -> None:
        ds.BitsStored, ds.HighBit = 10, 13

    write_series(tmp_path, overlay, edit=high_bit)
    np.testing.assert_array_equal(read(tmp_path).array, truth)


def test_signed_values_below_a_shifted_high_bit_keep_their_sign(tmp_path: Path) -> None:
    truth = noise((3, 10, 12), -512, 511, np.int16)
    stored = ((truth.astype(np.int32) & 0x3FF) << 2).astype(np.int16)

    def high_bit(_: int, ds: Dataset) -> None:
        ds.BitsStored, ds.HighBit = 10, 11

    write_series(tmp_path, stored, edit=high_bit)
    np.testing.assert_array_equal(read(tmp_path).array, truth)


def test_an_explicit_file_that_says_implicit_is_read_as_what_it_is(tmp_path: Path) -> None:
    truth = noise((3, 8, 8), 0, 4000, np.uint16)
    for path in write_series(tmp_path, truth):
        data = path.read_bytes()
        path.write_bytes(data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0", 1))
    np.testing.assert_array_equal(read(tmp_path).array, truth)


def test_files_without_preamble_and_meta_information(tmp_path: Path) -> None:
    truth = noise((3, 8, 8), 0, 4000, np.uint16)
    for path in write_series(tmp_path, truth, syntax=ImplicitVRLittleEndian):
        ds = pydicom.dcmread(path)
        bare = Dataset(ds)
        bare.save_as(path, implicit_vr=True, little_endian=True)
    np.testing.assert_array_equal(read(tmp_path).array, truth)


def test_fragments_of_a_multi_frame_are_put_together_by_the_offset_table(tmp_path: Path) -> None:
    truth = noise((4, 40, 40), 0, 4000, np.uint16)
    ds = enhanced(truth)
    save(ds, tmp_path / "whole.dcm", JPEG2000Lossless)
    streams = list(generate_fragments(ds.PixelData))[-4:]
    ds.PixelData = encapsulate(streams, fragments_per_frame=3)
    ds.save_as(tmp_path / "whole.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read(tmp_path).array, truth)
    ds.PixelData = encapsulate(streams, fragments_per_frame=3, has_bot=False)
    ds.save_as(tmp_path / "whole.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read(tmp_path).array, truth)


def test_rescale_to_hu_stays_integer_and_is_never_narrowed(tmp_path: Path) -> None:
    stored = noise((3, 16, 16), 0, 4095, np.uint16)

    def rescale(_: int, ds: Dataset) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = "1", "-1024"

    write_series(tmp_path / "narrow", stored, edit=rescale)
    volume = read(tmp_path / "narrow")
    np.testing.assert_array_equal(volume.array, stored.astype(np.int32) - 1024)
    assert (volume.array.dtype, volume.quantity) == (np.int16, Quantity.HU)

    wide = noise((3, 16, 16), 0, 65535, np.uint16)
    wide[0, 0, :2] = 0, 65535
    write_series(tmp_path / "wide", wide, edit=rescale)
    volume = read(tmp_path / "wide")
    np.testing.assert_array_equal(volume.array, wide.astype(np.int32) - 1024)
    assert volume.array.dtype == np.int32


@pytest.mark.parametrize("syntax", ["explicit", "rle", "big-endian"])
def test_rescale_may_differ_from_slice_to_slice(syntax: str, tmp_path: Path) -> None:
    stored = noise((5, 16, 16), -2000, 2000, np.int16)
    slopes = np.array([0.5, 1.25, 2.0, 0.031, 7.5])
    intercepts = np.array([0.0, -3.5, 100.0, 1.0, -1024.0])

    def rescale(k: int, ds: Dataset) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = str(slopes[k]), str(intercepts[k])

    write_series(tmp_path, stored, syntax=LOSSLESS[syntax], edit=rescale)
    volume = read(tmp_path)
    np.testing.assert_allclose(
        volume.array, stored * slopes[:, None, None] + intercepts[:, None, None], rtol=1e-5, atol=2e-3
    )
    assert volume.array.dtype == np.float32


def test_integral_rescale_with_a_slope_that_differs(tmp_path: Path) -> None:
    stored = noise((3, 16, 16), -3000, 3000, np.int16)

    def rescale(k: int, ds: Dataset) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = str(k + 1), str(10 * k)

    write_series(tmp_path, stored, edit=rescale)
    volume = read(tmp_path)
    factors = np.arange(3)[:, None, None]
    np.testing.assert_array_equal(volume.array, stored * (factors + 1) + 10 * factors)
    assert volume.array.dtype == np.int16
    assert bytes_told(tmp_path) == 2


def test_padding_is_a_mask_by_stored_value(tmp_path: Path) -> None:
    stored = noise((3, 16, 16), -1000, 3000, np.int16)
    stored[:, :4] = -2000
    stored[1, 5, 5] = -1990

    def pad(_: int, ds: Dataset) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = "1", "-24"
        ds.add_new(0x00280120, "US", 63536)  # -2000, written unsigned as some scanners do
        ds.add_new(0x00280121, "SS", -1990)

    write_series(tmp_path, stored, edit=pad)
    volume = read(tmp_path)
    assert volume.padding is not None
    np.testing.assert_array_equal(volume.padding, (stored >= -2000) & (stored <= -1990))
    np.testing.assert_array_equal(volume.array, stored - 24)
    assert bytes_told(tmp_path) == volume.array.itemsize + volume.padding.itemsize == 3


def bytes_told(path: Path) -> int:
    """What a plan is told that a loaded voxel takes, before it is loaded."""
    with scan(path) as contents:
        return contents.series[0].voxel_bytes


def test_no_padding_mask_where_no_voxel_is_padding(tmp_path: Path) -> None:
    def pad(_: int, ds: Dataset) -> None:
        ds.add_new(0x00280120, "SS", -2000)

    write_series(tmp_path, noise((3, 8, 8), 0, 100, np.int16), edit=pad)
    assert read(tmp_path).padding is None


def test_threads_do_not_change_the_order_of_slices(tmp_path: Path) -> None:
    truth = noise((40, 16, 16), 0, 4000, np.uint16)
    write_series(tmp_path, truth, syntax=JPEG2000Lossless)
    with scan(tmp_path) as contents:
        for threads in (1, 8):
            volume = load(contents.choose(), limits=Limits(threads=threads))
            np.testing.assert_array_equal(volume.array, truth)
