"""A volume as a classic single-frame DICOM MR series (PS3.3 A.4), one file per slice.

For scans that have no DICOM of their own, such as the demo's atlas: so that results can be
standard DICOM objects that point at real instances. The identity is the caller's, never
invented here.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hounsfield.errors import GeometryRefused, OutputExists
from hounsfield.volume import Volume


@dataclass(frozen=True)
class SeriesIdentity:
    """Who and what the new series says it is."""

    patient_name: str
    patient_id: str
    study_description: str
    series_description: str
    body_part: str
    series_number: int
    study_instance_uid: str
    frame_of_reference_uid: str
    manufacturer: str
    when: dt.datetime


def write_mr_series(volume: Volume, folder: Path, identity: SeriesIdentity) -> tuple[Path, ...]:
    """Write ``volume`` as MR Image Storage instances named ``0001.dcm`` ... in slice order.

    Values are scaled linearly so that the largest becomes 4095 (MR numbers have no unit).
    Slices must run along the normal of rows x columns, as DICOM demands.

    Raises
    ------
    GeometryRefused
        If the axes are not orthonormal and right-handed, so that DICOM cannot say them.
    OutputExists
        If ``folder`` exists and is not empty.
    """
    from pydicom.uid import generate_uid

    geometry = volume.geometry
    if not (geometry.is_orthonormal and geometry.is_right_handed):
        raise GeometryRefused("the axes are not orthonormal and right-handed", "reorient the volume to LPS first")
    if folder.exists() and any(folder.iterdir()):
        raise OutputExists("the folder is not empty", "choose another folder", folder)
    folder.mkdir(parents=True, exist_ok=True)
    array = volume.array.astype(np.float64)
    low, high = float(array.min()), float(array.max())
    stored = np.rint((array - low) / max(high - low, 1e-12) * 4095).astype(np.uint16)
    series_uid = generate_uid(prefix=None)
    paths = []
    for k in range(geometry.shape[0]):
        dataset = _slice(volume, stored[k], k, identity)
        dataset.SeriesInstanceUID = series_uid
        path = folder / f"{k + 1:04d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return tuple(paths)


def _slice(volume: Volume, pixels: np.ndarray, k: int, identity: SeriesIdentity):  # type: ignore[no-untyped-def]
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    geometry = volume.geometry
    direction, (dk, dj, di) = geometry.direction, geometry.spacing_mm
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = MRImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    ds.PatientName, ds.PatientID = identity.patient_name, identity.patient_id
    ds.PatientBirthDate = ds.PatientSex = ds.AccessionNumber = ds.ReferringPhysicianName = ds.StudyID = ""
    ds.StudyInstanceUID = identity.study_instance_uid
    ds.StudyDate, ds.StudyTime = f"{identity.when:%Y%m%d}", f"{identity.when:%H%M%S}"
    ds.StudyDescription, ds.SeriesDescription = identity.study_description, identity.series_description
    ds.Modality, ds.BodyPartExamined, ds.Manufacturer = "MR", identity.body_part, identity.manufacturer
    ds.PatientPosition, ds.Laterality = "HFS", ""
    ds.SeriesNumber, ds.InstanceNumber = identity.series_number, k + 1
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = identity.frame_of_reference_uid, ""
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = "RM", "NONE", "", "3D"
    ds.RepetitionTime = ds.EchoTime = ds.EchoTrainLength = None
    position = geometry.index_to_mm((k, 0, 0))
    ds.ImagePositionPatient = [_decimal(v) for v in position]
    ds.ImageOrientationPatient = [_decimal(v) for v in (*direction[:, 2], *direction[:, 1])]
    ds.PixelSpacing = [_decimal(dj), _decimal(di)]
    ds.SliceThickness = ds.SpacingBetweenSlices = _decimal(dk)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.WindowCenter, ds.WindowWidth = "2048", "4096"
    ds.PixelData = np.ascontiguousarray(pixels).astype("<u2").tobytes()
    return ds


def _decimal(value: float) -> str:
    """A DICOM Decimal String: at most 16 characters (PS3.5 6.2)."""
    text = repr(round(float(value), 10) + 0.0)
    return text if len(text) <= 16 else f"{value:.9e}"[:16]
