"""Small DICOM instances with known pixels, made by pydicom, and what their sender remembers of them."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import FileDataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

ROOT = "2.25.4711"


def instance(study: int, number: int, *, seed: int = 0, size: int = 32) -> FileDataset:
    """A CT slice of ``size`` x ``size`` random pixels; ``seed`` changes the pixels and nothing else."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"{ROOT}.{study}.1.{number + 1}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    found.SOPClassUID = CTImageStorage
    found.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    found.StudyInstanceUID = f"{ROOT}.{study}"
    found.SeriesInstanceUID = f"{ROOT}.{study}.1"
    found.FrameOfReferenceUID = f"{ROOT}.{study}.2"
    found.Modality = "CT"
    found.PatientName = f"Canary^Patient{study}"
    found.PatientID = f"CANARY-{study}"
    found.InstanceNumber = number + 1
    found.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    found.ImagePositionPatient = [0, 0, 2.0 * number]
    found.PixelSpacing = [1.0, 1.0]
    found.Rows = found.Columns = size
    found.SamplesPerPixel = 1
    found.PhotometricInterpretation = "MONOCHROME2"
    found.BitsAllocated = found.BitsStored = 16
    found.HighBit = 15
    found.PixelRepresentation = 0
    found.RescaleIntercept, found.RescaleSlope = 0, 1
    pixels = np.random.default_rng((study, number, seed)).integers(0, 4096, (size, size), dtype=np.uint16)
    found.PixelData = pixels.tobytes()
    return found


def encoded(found: FileDataset) -> bytes:
    """The whole file."""
    stream = io.BytesIO()
    found.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def pixel_hash(path: Path) -> str:
    """Digest of the pixels in a file, read by pydicom."""
    return hashlib.sha256(dcmread(path).PixelData).hexdigest()


@dataclass(frozen=True)
class Entry:
    """One line of the sender's ledger: what was sent, and whether it was acknowledged."""

    uid: str
    pixels: str
    status: int | None

    @property
    def acknowledged(self) -> bool:
        """Whether the receiver said success."""
        return self.status == 0
