"""DICOM Comprehensive 3D SR with TID 1500 Imaging Measurement Report (PS3.16)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hounsfield.errors import OutputError
from hounsfield.findings import CodedConcept, Finding
from hounsfield.findings import terminology as terms
from hounsfield.findings.components import Instance
from hounsfield.writing.dicom import (
    code,
    common_arguments,
    finding_of,
    finish,
    quiet_headers,
    save,
    segment_of,
    series_description,
)
from hounsfield.writing.facts import DEVICE_MODEL, MANUFACTURER, RESEARCH_USE, Result
from hounsfield.writing.files import Written, write_checked
from hounsfield.writing.seg import stored_instances
from hounsfield.writing.source import SourceImages, read_source
from hounsfield.writing.sr_check import check_sr
from hounsfield.writing.sr_scores import scored_group

if TYPE_CHECKING:
    from pydicom import Dataset

_SERIES_NUMBER: Final = 9101
_QUALITATIVE_EVALUATIONS: Final = CodedConcept("C0034375", "UMLS", "Qualitative Evaluations")
_MODALITY: Final = CodedConcept("121139", "DCM", "Modality")
_FRAME_OF_REFERENCE: Final = CodedConcept("112227", "DCM", "Frame of Reference UID")
_IMAGE_LIBRARY: Final = CodedConcept("111028", "DCM", "Image Library")
_IMAGE_LIBRARY_GROUP: Final = CodedConcept("126200", "DCM", "Image Library Group")
_SOURCE: Final = CodedConcept("260753009", "SCT", "Source")
_COMMENT: Final = CodedConcept("121106", "DCM", "Comment")


def write_sr(result: Result, path: Path, *, seg: Written | None = None, overwrite: bool = False) -> Written:
    """Write the measurements as SR, read them back with highdicom, compare.

    One measurement group (TID 1411) per segment and per lesion, each referencing its segment
    in ``seg``; totals of lesion segments and segments in which nothing was found have a group
    without a region (TID 1501), the latter with "Presence of property = Absent" and 0 ml.

    Parameters
    ----------
    seg
        The SEG of the same result, as ``write_seg`` returned it; ``None`` for class scores, which have a
        group without a region (TID 1501), or at a point (TID 1410 with a point in the frame of reference).

    Raises
    ------
    OutputError
        If the scan has no DICOM study to attach to, or ``seg`` is not this result's SEG.
    OutputExists, ReadBackFailed
        See ``hounsfield.writing.files``.
    """
    source = read_source(result.volume, located=result.has_segments)
    header = None if seg is None else _seg_header(result, seg)
    instances = () if seg is None else stored_instances(result).items
    with quiet_headers():
        dataset = _build(result, source, header, instances)
    written = write_checked(
        path, "sr", save(dataset), lambda temporary: check_sr(temporary, result, header, instances), overwrite=overwrite
    )
    return Written(
        written.path, written.kind, written.sha256, written.size_bytes, str(dataset.SOPClassUID), result.uids.sr_uid
    )


def _seg_header(result: Result, seg: Written) -> Dataset:
    from pydicom import dcmread

    if seg.sop_instance_uid not in (result.uids.seg_binary_uid, result.uids.seg_labelmap_uid):
        raise OutputError("this is not the SEG of the same result", "write the SEG first", seg.path)
    return dcmread(seg.path, stop_before_pixels=True)


def _build(result: Result, source: SourceImages, seg: Dataset | None, instances: tuple[Instance, ...]) -> Dataset:
    from highdicom.sr import Comprehensive3DSR, MeasurementReport

    report = MeasurementReport(
        observation_context=_observer(result),
        procedure_reported=code(_procedure(source.first)),
        imaging_measurements=_groups(result, source, seg, instances),
    )
    root = report[0].ContentSequence
    measurements = root.pop()
    root.append(_image_library(source))
    root.append(measurements)
    root.append(_evaluations(result))
    document: Dataset = Comprehensive3DSR(
        evidence=[*source.datasets, *([] if seg is None else [seg])],
        content=report[0],
        series_instance_uid=result.uids.sr_series_uid,
        series_number=_SERIES_NUMBER,
        sop_instance_uid=result.uids.sr_uid,
        is_complete=result.facts.complete,
        is_final=False,
        is_verified=False,
        series_description=series_description(result, "SR"),
        **common_arguments(result),
    )
    finish(document, result)
    return document


def _observer(result: Result) -> Any:
    """TID 1004: the device is the model package running in this software."""
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObservationContext, ObserverContext
    from pydicom.sr.codedict import codes

    facts = result.facts
    device = DeviceObserverIdentifyingAttributes(
        uid=result.uids.device_uid,
        name=f"{facts.package_id} {facts.package_version}",
        manufacturer_name=MANUFACTURER,
        model_name=f"{DEVICE_MODEL} {facts.software_version}",
        serial_number=facts.package_digest or "none",
    )
    return ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device))


def _procedure(first: Dataset) -> CodedConcept:
    """The procedure as the source codes it; an uncoded one is said to be uncoded."""
    for keyword in ("ProcedureCodeSequence", "RequestedProcedureCodeSequence"):
        for item in first.get(keyword) or ():
            parts = [str(item.get(k) or "") for k in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")]
            if all(parts):
                return CodedConcept(*parts)
    return terms.UNCODED_PROCEDURE


def _image_library(source: SourceImages) -> Any:
    """TID 1600: every source instance, with what they share (TID 1602)."""
    from highdicom.sr import CodeContentItem, ContainerContentItem, ImageContentItem, UIDRefContentItem
    from highdicom.sr.value_types import ContentSequence
    from pydicom.sr.codedict import codes

    group = ContainerContentItem(code(_IMAGE_LIBRARY_GROUP), relationship_type="CONTAINS")
    group.ContentSequence = ContentSequence()
    modality = str(source.first.get("Modality", ""))
    for name in codes.cid29.dir():
        known = getattr(codes.cid29, name)
        if known.value == modality:
            group.ContentSequence.append(CodeContentItem(code(_MODALITY), known, relationship_type="HAS ACQ CONTEXT"))
    frame = source.first.get("FrameOfReferenceUID")
    if frame:
        group.ContentSequence.append(
            UIDRefContentItem(code(_FRAME_OF_REFERENCE), str(frame), relationship_type="HAS ACQ CONTEXT")
        )
    for dataset in source.datasets:
        group.ContentSequence.append(
            ImageContentItem(code(_SOURCE), dataset.SOPClassUID, dataset.SOPInstanceUID, relationship_type="CONTAINS")
        )
    library = ContainerContentItem(code(_IMAGE_LIBRARY), relationship_type="CONTAINS")
    library.ContentSequence = ContentSequence([group])
    return library


def _groups(result: Result, source: SourceImages, seg: Dataset | None, instances: tuple[Instance, ...]) -> list[Any]:
    """A group for each finding, in the order of the findings."""
    regions = {(finding_of(result.findings, item).tracking_uid): item for item in instances}
    groups = []
    for finding in result.findings.findings:
        item = regions.get(finding.tracking_uid)
        has_voxels = finding.centre_mm is not None
        if seg is None or finding.segment_number is None:
            groups.append(scored_group(result, finding, source, _shared(result, finding)))
        else:
            groups.append(_group(result, finding, seg, item if has_voxels else None))
    if not groups:
        raise OutputError("there is no finding to report", "measure at least one segment")
    return groups


def _group(result: Result, finding: Finding, seg: Dataset, item: Instance | None) -> Any:
    """TID 1411 with a referenced segment, or TID 1501 without one."""
    from highdicom.sr import (
        FindingSite,
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )

    evaluations = [QualitativeEvaluation(code(terms.INTENDED_USE), code(terms.RESEARCH_USE_ONLY))]
    if finding.centre_mm is None:
        evaluations.append(QualitativeEvaluation(code(terms.PRESENCE_OF_PROPERTY), code(terms.ABSENT)))
    if finding.component == 0:
        evaluations.append(QualitativeEvaluation(code(terms.PRESENCE_OF_PROPERTY), code(terms.REMAINDER)))
    sites = []
    if finding.site is not None:
        laterality = None if finding.laterality is None else code(finding.laterality)
        sites.append(FindingSite(code(finding.site), laterality))
    number = finding.segment_number
    category = None if number is None else code(segment_of(result.findings, number).category)
    arguments = {
        **_shared(result, finding),
        "finding_category": category,
        "finding_sites": sites or None,
        "qualitative_evaluations": evaluations,
    }
    if item is None:
        return MeasurementsAndQualitativeEvaluations(**arguments)
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        referenced_segment=_referenced_segment(result, seg, item), **arguments
    )


def _shared(result: Result, finding: Finding) -> dict[str, Any]:
    """What every measurement group says: identity, what it is, the algorithm, the numbers."""
    from highdicom.sr import TrackingIdentifier

    return {
        "tracking_identifier": TrackingIdentifier(uid=finding.tracking_uid, identifier=finding.tracking_id),
        "finding_type": code(finding.concept),
        "algorithm_id": _algorithm(result),
        "measurements": [_measurement(one) for one in finding.measurements],
    }


def _referenced_segment(result: Result, seg: Dataset, item: Instance) -> Any:
    from highdicom.sr import ReferencedSegment, SourceSeriesForSegmentation

    series = SourceSeriesForSegmentation(str(result.volume.provenance.series_instance_uid))
    return ReferencedSegment(seg.SOPClassUID, seg.SOPInstanceUID, item.number, source_series=series)


def _algorithm(result: Result) -> Any:
    """TID 4019 Algorithm Identification, with digest and precision as parameters."""
    from highdicom.sr import AlgorithmIdentification

    facts = result.facts
    return AlgorithmIdentification(
        name=facts.package_id,
        version=facts.package_version,
        parameters=[f"{name}={value}" for name, value in facts.parameters.items()],
        family=code(facts.family),
        manufacturer=MANUFACTURER,
    )


def _measurement(one: Any) -> Any:
    from highdicom.sr import Measurement

    return Measurement(
        name=code(one.concept),
        value=stored_value(one.value),
        unit=code(one.unit),
        derivation=None if one.derivation is None else code(one.derivation),
        method=None if one.method is None else code(one.method),
    )


def stored_value(value: float) -> float:
    """Eight significant digits: fits a decimal string and is far finer than any scan."""
    return float(f"{value:.8g}")


def _evaluations(result: Result) -> Any:
    """TID 1500 row "Qualitative Evaluations": intended use, emptiness, every warning as text."""
    from highdicom.sr import CodeContentItem, ContainerContentItem, TextContentItem
    from highdicom.sr.value_types import ContentSequence

    items = [
        CodeContentItem(code(terms.INTENDED_USE), code(terms.RESEARCH_USE_ONLY), relationship_type="CONTAINS"),
        TextContentItem(code(_COMMENT), f"{RESEARCH_USE}.", relationship_type="CONTAINS"),
    ]
    if result.is_empty:
        text = "Nothing was found: not one voxel of any segment. This is not a statement that the person is healthy."
        items.append(TextContentItem(code(_COMMENT), text, relationship_type="CONTAINS"))
    items += [
        TextContentItem(code(terms.WARNING), warning, relationship_type="CONTAINS") for warning in result.warnings
    ]
    container = ContainerContentItem(code(_QUALITATIVE_EVALUATIONS), relationship_type="CONTAINS")
    container.ContentSequence = ContentSequence(items)
    return container
