"""A small box of a real chest CT as DICOM: 36 slices of 128 x 128 around the nodule of LIDC-IDRI-0001."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any, Final

from pydicom import Dataset, dcmread

#: Row and column of the nodule's centre in the whole slices, and its height in mm (SOURCE.md of the data).
ROW, COLUMN, HEIGHT_MM = 367, 316, -115.0
HALF, REACH_MM = 64, 44.0
ARCHIVE: Final = Path("ct-chest-lidc-idri-0001") / "LIDC-IDRI-0001.tar.xz"


def slices(shared_data: Path) -> list[Dataset]:
    """The box, slice by slice from below."""
    found = []
    with tarfile.open(shared_data / ARCHIVE) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.isfile() else None
            one = None if stream is None else dcmread(io.BytesIO(stream.read()))
            if one is not None and abs(float(one.ImagePositionPatient[2]) - HEIGHT_MM) <= REACH_MM:
                found.append(_cut(one))
    return sorted(found, key=lambda one: float(one.ImagePositionPatient[2]))


def _cut(one: Any) -> Dataset:
    rows, columns = (float(step) for step in one.PixelSpacing)
    x, y, z = (float(mm) for mm in one.ImagePositionPatient)
    array = one.pixel_array[ROW - HALF : ROW + HALF, COLUMN - HALF : COLUMN + HALF]
    one.ImagePositionPatient = [x + (COLUMN - HALF) * columns, y + (ROW - HALF) * rows, z]
    one.Rows = one.Columns = 2 * HALF
    one.PixelData = array.tobytes()
    cut: Dataset = one
    return cut


def nodule_mm(box: list[Dataset]) -> list[float]:
    """LPS mm of the nodule's centre."""
    first: Any = box[0]
    x, y, _ = (float(mm) for mm in first.ImagePositionPatient)
    rows, columns = (float(step) for step in first.PixelSpacing)
    return [x + HALF * columns, y + HALF * rows, HEIGHT_MM]


def save(box: list[Dataset], folder: Path, date: str, suffix: str) -> Path:
    """Write the box as a study of its own, of the same person."""
    folder.mkdir()
    for number, one in enumerate(box):
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"):
            setattr(one, name, f"{str(getattr(one, name))[:60]}.{suffix}")
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
        one.PatientID, one.PatientName, one.StudyDate = "LIDC-IDRI-0001", "Nodule^Real", date
        one.save_as(folder / f"{number:03d}.dcm")
    return folder
