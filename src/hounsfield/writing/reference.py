"""How a result points back at the images it was derived from (PS3.3 C.7.6.16.2.6, C.12.2)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hounsfield.findings import CodedConcept
from hounsfield.volume import Geometry
from hounsfield.writing.dicom import code
from hounsfield.writing.facts import Result
from hounsfield.writing.source import SourceImages

if TYPE_CHECKING:
    from pydicom import Dataset

_SEGMENTATION: Final = CodedConcept("113076", "DCM", "Segmentation")
_PURPOSE: Final = CodedConcept("121322", "DCM", "Source Image for Image Processing Operation")
_CLASSIC: Final = {"CT": "1.2.840.10008.5.1.4.1.1.2", "PT": "1.2.840.10008.5.1.4.1.1.128"}
_CLASSIC_MR: Final = "1.2.840.10008.5.1.4.1.1.4"
_MULTIFRAME: Final = (
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "DimensionIndexSequence",
    "DimensionOrganizationSequence",
)


def stand_in(first: Dataset, geometry: Geometry) -> Dataset:
    """A single-frame header with the patient, study and equipment of ``first`` on ``geometry``.

    highdicom takes identity from a source header but only knows some shapes of sources; this
    one is always of the simplest shape. The real references are set by
    ``add_source_references``, from the frames the volume was made of.
    """
    header = copy.copy(first)
    for keyword in _MULTIFRAME:
        if keyword in header:
            delattr(header, keyword)
    header.SOPClassUID = _CLASSIC.get(str(header.get("Modality", "")), _CLASSIC_MR)
    header.Rows, header.Columns = geometry.shape[1:]
    k, j, i = geometry.spacing_mm
    header.PixelSpacing = [_decimal(j), _decimal(i)]
    header.SliceThickness = _decimal(k)
    header.SpacingBetweenSlices = _decimal(k)
    header.ImagePositionPatient = [_decimal(n) for n in geometry.origin_mm]
    cosines = np.concatenate([geometry.direction[:, 2], geometry.direction[:, 1]])
    header.ImageOrientationPatient = [_decimal(n) for n in cosines.tolist()]
    header.FrameOfReferenceUID = geometry.frame_of_reference_uid
    return header


def _decimal(number: float) -> Any:
    from pydicom.valuerep import DSfloat

    return DSfloat(number, auto_format=True)


def add_source_references(
    dataset: Dataset, result: Result, source: SourceImages, derivation: CodedConcept = _SEGMENTATION
) -> None:
    """Set Source Image, Referenced Series and per-frame Derivation Image sequences, derived as CID 7203 says."""
    dataset.SourceImageSequence = [_source_item(d.SOPClassUID, d.SOPInstanceUID) for d in source.datasets]
    dataset.ReferencedSeriesSequence = referenced_series(source)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    per_frame = dataset.PerFrameFunctionalGroupsSequence
    for group in per_frame:
        if "DerivationImageSequence" in group:
            del group.DerivationImageSequence
    if not source.frames:
        items = [_source_item(d.SOPClassUID, d.SOPInstanceUID, "NO") for d in source.datasets]
        shared.DerivationImageSequence = [_derivation(items, derivation)]
        return
    preserved = "NO" if result.volume.provenance.repairs else "YES"
    geometry = result.labels.geometry
    for group in per_frame:
        position = [float(n) for n in group.PlanePositionSequence[0].ImagePositionPatient]
        frame = source.frames[round(float(geometry.mm_to_index(position)[0]))]
        item = _source_item(frame.sop_class_uid, frame.sop_instance_uid, preserved, frame.frame_number)
        group.DerivationImageSequence = [_derivation([item], derivation)]


def _derivation(items: list[Dataset], how: CodedConcept) -> Dataset:
    from pydicom import Dataset

    item = Dataset()
    item.DerivationCodeSequence = [code(how)]
    item.SourceImageSequence = items
    return item


def _source_item(
    sop_class_uid: str, sop_instance_uid: str, preserved: str | None = None, frame_number: int | None = None
) -> Dataset:
    from pydicom import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    if frame_number is not None:
        item.ReferencedFrameNumber = frame_number
    item.PurposeOfReferenceCodeSequence = [code(_PURPOSE)]
    if preserved is not None:
        item.SpatialLocationsPreserved = preserved
    return item


def referenced_series(source: SourceImages) -> list[Dataset]:
    """One item per source series, each instance once (Common Instance Reference Module)."""
    from pydicom import Dataset

    series: dict[str, list[Dataset]] = {}
    for dataset in source.datasets:
        item = Dataset()
        item.ReferencedSOPClassUID = dataset.SOPClassUID
        item.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
        series.setdefault(str(dataset.SeriesInstanceUID), []).append(item)
    result = []
    for uid, instances in series.items():
        one = Dataset()
        one.SeriesInstanceUID = uid
        one.ReferencedInstanceSequence = instances
        result.append(one)
    return result
