"""DICOM Segmentation (PS3.3 A.51, BINARY) and Label Map Segmentation (A.51a, LABELMAP)."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hounsfield.errors import OutputError
from hounsfield.findings.components import Instance, Instances, split_instances
from hounsfield.writing.dicom import (
    code,
    common_arguments,
    component_limit,
    finding_of,
    finish,
    quiet_headers,
    save,
    series_description,
)
from hounsfield.writing.facts import MANUFACTURER, RESEARCH_USE, Result
from hounsfield.writing.files import Written, write_checked
from hounsfield.writing.placing import fix_dimension_uid, place
from hounsfield.writing.reference import add_source_references, stand_in
from hounsfield.writing.seg_check import check_seg
from hounsfield.writing.source import SourceImages, read_source

if TYPE_CHECKING:
    from pydicom import Dataset

_SERIES_NUMBER = 9100
_CORRECTED_SERIES_NUMBER = 9110


class SegKind(StrEnum):
    """How the masks are stored. BINARY is understood by most systems, so it is the default."""

    BINARY = "BINARY"
    LABELMAP = "LABELMAP"


def write_seg(result: Result, path: Path, *, kind: SegKind = SegKind.BINARY, overwrite: bool = False) -> Written:
    """Write the labels as DICOM SEG, read them back by an independent path, compare.

    Segments that are lesions are stored one item per connected component, so that each has
    its own Tracking ID and UID; other segments keep one item each, also when they are empty.
    Frames without a voxel are left out. If nothing at all was found, the first slice is stored
    empty, because a SEG must hold a frame; the content description says so.

    Raises
    ------
    OutputError
        If the scan has no DICOM study to attach to, or its grid is sheared.
    OutputExists, ReadBackFailed
        See ``hounsfield.writing.files``.
    """
    if not result.labels.geometry.is_orthonormal:
        raise OutputError("a sheared grid cannot be stored as SEG", "resample the scan first (--repair)", path)
    source = read_source(result.volume)
    instances = stored_instances(result)
    with quiet_headers():
        dataset = _build(result, source, instances, kind)
    written = write_checked(
        path, "seg", save(dataset), lambda temporary: check_seg(temporary, result, instances), overwrite=overwrite
    )
    return Written(
        written.path, written.kind, written.sha256, written.size_bytes, str(dataset.SOPClassUID), seg_uid(result, kind)
    )


def stored_instances(result: Result) -> Instances:
    """The masks in the order of their segment numbers in the SEG."""
    limit = component_limit(result.findings)
    return split_instances(result.labels.array, result.findings.segments, limit)


def seg_uid(result: Result, kind: SegKind) -> str:
    """The SOP Instance UID of the SEG of this kind."""
    return result.uids.seg_labelmap_uid if kind is SegKind.LABELMAP else result.uids.seg_binary_uid


def _build(result: Result, source: SourceImages, instances: Instances, kind: SegKind) -> Dataset:
    from highdicom.seg import Segmentation
    from pydicom.uid import ExplicitVRLittleEndian

    geometry = result.labels.geometry
    planes = 1 if result.is_empty else geometry.shape[0]
    measures, orientation, positions = place(geometry, planes)
    dataset = Segmentation(
        source_images=[stand_in(source.first, geometry)],
        pixel_array=np.ascontiguousarray(instances.array[:planes]),
        segmentation_type=kind.value,
        segment_descriptions=[_description(result, item) for item in instances.items],
        series_instance_uid=result.uids.seg_series_uid,
        series_number=_SERIES_NUMBER if result.correction is None else _CORRECTED_SERIES_NUMBER,
        sop_instance_uid=seg_uid(result, kind),
        content_label="RESEARCH_USE",
        content_description="Research use only. Nothing was found" if result.is_empty else RESEARCH_USE,
        content_creator_name=None if result.correction is None else result.correction.who,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        pixel_measures=measures,
        plane_orientation=orientation,
        plane_positions=positions,
        omit_empty_frames=not result.is_empty,
        series_description=series_description(result, "SEG" if result.correction is None else "SEG corrected"),
        **common_arguments(result),
    )
    fix_dimension_uid(dataset, result.uids.dimension_uid)
    if result.is_empty:
        _keep_first_frame(dataset)
    finish(dataset, result)
    add_source_references(dataset, result, source)
    finished: Dataset = dataset
    return finished


def _description(result: Result, instance: Instance) -> Any:
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription

    segment = instance.segment
    finding = finding_of(result.findings, instance)
    item = SegmentDescription(
        segment_number=instance.number,
        segment_label=(segment.label if instance.component is None else finding.tracking_id)[:64],
        segmented_property_category=code(segment.category),
        segmented_property_type=code(segment.type),
        **_algorithm(result),
        tracking_id=finding.tracking_id,
        tracking_uid=finding.tracking_uid,
        display_color=CIELabColor.from_rgb(*segment.colour_rgb),
    )
    if segment.type_modifier is not None:
        item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            code(segment.type_modifier)
        ]
    return item


def _algorithm(result: Result) -> dict[str, Any]:
    """Who made the segment: the package, or a hand (PS3.3 C.8.20.2, Segment Algorithm Type)."""
    from highdicom import AlgorithmIdentificationSequence

    if result.correction is not None:
        return {"algorithm_type": "MANUAL"}
    facts = result.facts
    identification = AlgorithmIdentificationSequence(
        name=facts.package_id,
        family=code(facts.family),
        version=facts.package_version,
        source=MANUFACTURER,
        parameters=facts.parameters,
    )
    return {"algorithm_type": "AUTOMATIC", "algorithm_identification": identification}


def _keep_first_frame(dataset: Dataset) -> None:
    """Of an empty result keep one frame: highdicom stores an empty one per segment."""
    count = int(dataset.NumberOfFrames)
    if count == 1:
        return
    size = int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated)
    data = bytes((size + 7) // 8)
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset.NumberOfFrames = 1
    dataset.PerFrameFunctionalGroupsSequence = [dataset.PerFrameFunctionalGroupsSequence[0]]
