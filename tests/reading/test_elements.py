"""The strict header walk tells what pydicom tells, for real files of every encoding."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pydicom
import pytest

from hounsfield.reading.elements import Malformed
from hounsfield.reading.headers import read_header
from hounsfield.reading.limits import Limits

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
COMPARED = (
    "SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "Modality", "Rows", "Columns", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept",
    "SeriesNumber", "StudyDate", "Manufacturer",
)  # fmt: skip


def _plain(value: Any) -> Any:
    if value is None or value == "":
        return None
    if isinstance(value, pydicom.multival.MultiValue):
        return [_plain(part) for part in value] or None
    return float(value) if isinstance(value, int | float | pydicom.valuerep.DSfloat) else str(value)


def _compare(path: Path) -> int:
    """Number of values that are equal; every compared one must be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = pydicom.dcmread(path, force=True)
        theirs = {keyword: _plain(reference.get(keyword)) for keyword in COMPARED}
    header, parsed = read_header(path, Limits())
    ours = {keyword: _plain(header.get(keyword)) for keyword in COMPARED}
    for keyword, value in ours.items():
        ours[keyword] = [float(v) for v in header[keyword]] if isinstance(header.get(keyword), list) else value
    assert ours == theirs, path.name
    has_pixels = any(keyword in reference for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"))
    assert (parsed.pixels is not None) == has_pixels, path.name
    return sum(value is not None for value in ours.values())


# What pydicom reads with a warning, or by ``force``, and the strict walk refuses
REFUSED = {"rtplan_truncated.dcm", "no_meta.dcm"}


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.dcm")), ids=lambda path: path.name)
def test_shipped_files_of_pydicom(path: Path) -> None:
    if path.name in REFUSED:
        with pytest.raises(Malformed):
            read_header(path, Limits())
    else:
        _compare(path)


@pytest.mark.shared_data
def test_every_dicom_file_of_the_shared_data(shared_data: Path) -> None:
    paths = [
        path
        for folder in ("dicom-tricky", "dicom-seg-sr", "cxr/rsna-dicom", "mr-hippocampus-msd/dicom-hcrop-study1")
        for path in sorted((shared_data / folder).rglob("*.dcm"))
    ]
    assert len(paths) > 100
    for path in paths:
        assert _compare(path) >= 5
