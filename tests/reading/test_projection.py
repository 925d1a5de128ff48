"""Single X-ray images: brightness, modality LUT and spacing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_phantoms import noise, save, slice_dataset
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from hounsfield.reading import SeriesKind, read, scan

STORED = noise((20, 30), 0, 4095, np.uint16)


def x_ray() -> Dataset:
    ds = slice_dataset(STORED, (0, 0, 0), bits_stored=12, modality="DX", spacing=(0.2, 0.3))
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient"):
        delattr(ds, keyword)
    return ds


def test_monochrome1_is_mirrored_within_the_stored_bits(tmp_path: Path) -> None:
    ds = x_ray()
    ds.PhotometricInterpretation = "MONOCHROME1"
    ds.PresentationLUTShape = "INVERSE"
    save(ds, tmp_path / "x.dcm")
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.array[0], 4095 - STORED)
    assert volume.array.dtype == np.uint16
    assert [w for w in volume.provenance.warnings if "contradicts" in w] == []


def test_monochrome2_stays_and_a_contradiction_is_said(tmp_path: Path) -> None:
    ds = x_ray()
    ds.PresentationLUTShape = "INVERSE"
    save(ds, tmp_path / "x.dcm")
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.array[0], STORED)
    assert any("contradicts MONOCHROME2" in warning for warning in volume.provenance.warnings)


def test_a_rescale_goes_before_the_mirror(tmp_path: Path) -> None:
    ds = x_ray()
    ds.PhotometricInterpretation = "MONOCHROME1"
    ds.RescaleSlope, ds.RescaleIntercept = "2", "-100"
    save(ds, tmp_path / "x.dcm")
    rescaled = 2 * STORED.astype(int) - 100
    np.testing.assert_array_equal(read(tmp_path).array[0], (2 * 4095 - 100) + (-100) - rescaled)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_modality_lut_is_applied(photometric: str, tmp_path: Path) -> None:
    table = np.linspace(10, 60000, 4000).astype(np.uint16)
    ds = x_ray()
    ds.PhotometricInterpretation = photometric
    item = Dataset()
    item.add_new(0x00283002, "US", [4000, 50, 16])
    item.ModalityLUTType = "US"
    item.add_new(0x00283006, "OW", table.tobytes())
    ds.ModalityLUTSequence = [item]
    save(ds, tmp_path / "x.dcm")
    through = table[np.clip(STORED.astype(int) - 50, 0, 3999)].astype(int)
    expected = through if photometric == "MONOCHROME2" else 60010 - through
    np.testing.assert_array_equal(read(tmp_path).array[0], expected)


def test_spacing_at_the_detector_is_said_and_none_is_a_stand_in(tmp_path: Path) -> None:
    ds = x_ray()
    del ds.PixelSpacing
    ds.ImagerPixelSpacing = [0.14, 0.15]
    save(ds, tmp_path / "x.dcm")
    volume = read(tmp_path)
    assert volume.geometry.spacing_mm == pytest.approx((1.0, 0.14, 0.15))
    assert any("at the detector" in warning for warning in volume.provenance.warnings)
    del ds.ImagerPixelSpacing
    save(ds, tmp_path / "x.dcm")
    assert any("unknown" in warning for warning in read(tmp_path).provenance.warnings)


def test_a_film_without_positions_is_not_a_volume(tmp_path: Path) -> None:
    ds = x_ray()
    ds.NumberOfFrames = 2
    ds.PixelData = ds.PixelData * 2
    save(ds, tmp_path / "x.dcm")
    with scan(tmp_path) as contents:
        assert contents.series[0].kind is SeriesKind.UNREADABLE
        assert contents.series[0].issues[0].code == "cine"
