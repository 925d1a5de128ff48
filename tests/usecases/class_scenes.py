"""Small images with known means, and tables of them, for the tests of models that answer classes."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hounsfield.volume import Geometry


def write_image(path: Path, mean: float, shape: tuple[int, int, int] = (1, 32, 32)) -> Path:
    """A NIfTI image whose mean over all voxels is ``mean``, with a ramp around it."""
    import nibabel

    ramp = np.linspace(-0.5, 0.5, int(np.prod(shape))).reshape(shape)
    array = (mean + ramp - ramp.mean()).astype(np.float32)
    geometry = Geometry.from_parts(shape)
    nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), geometry.affine_ras), path)
    return path


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """A CSV of the rows."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_dx(path: Path, array: np.ndarray[Any, np.dtype[np.uint16]], photometric: str) -> Path:
    """A DICOM DX image of 16-bit numbers; MONOCHROME1 means that small numbers are bright."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian

    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = f"2.25.{abs(hash(path.name))}"
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.11", f"2.25.{abs(hash(path.name)) + 1}"
    dataset.PatientName, dataset.PatientID = "Phantom", "P"
    dataset.Modality, dataset.BodyPartExamined = "DX", "CHEST"
    dataset.Rows, dataset.Columns = array.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.ImagerPixelSpacing = [0.2, 0.2]
    dataset.PixelData = array.astype("<u2").tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path
