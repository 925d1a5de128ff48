"""Reading an SR back and comparing it with the findings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hounsfield.findings import Finding
from hounsfield.findings.components import Instance
from hounsfield.writing.dicom import finding_of, quiet_headers
from hounsfield.writing.facts import Result
from hounsfield.writing.files import same

if TYPE_CHECKING:
    from pydicom import Dataset


def check_sr(path: Path, result: Result, seg: Dataset | None, instances: tuple[Instance, ...]) -> None:
    """Raise ReadBackFailed unless every finding reads back with its numbers, units and segment."""
    from highdicom.sr import srread

    with quiet_headers():
        document = srread(path)
        content = document.content
        regions = content.get_volumetric_roi_measurement_groups()
        others = (*content.get_image_measurement_groups(), *content.get_planar_roi_measurement_groups())
    groups: dict[str, Any] = {str(group.tracking_uid): group for group in (*regions, *others)}
    findings = result.findings.findings
    same("the number of measurement groups", len(regions) + len(others) == len(findings), path)
    numbers = {finding_of(result.findings, item).tracking_uid: item.number for item in instances}
    volumetric = {str(group.tracking_uid) for group in regions}
    for finding in findings:
        same(f"the group of {finding.tracking_id}", finding.tracking_uid in groups, path)
        group = groups[finding.tracking_uid]
        _check_group(path, finding, group)
        if finding.tracking_uid in volumetric and seg is not None:
            _check_segment(path, group.referenced_segment, seg, numbers[finding.tracking_uid])
    same("the verification flag", document.VerificationFlag == "UNVERIFIED", path)
    same("the completion flag", document.CompletionFlag == ("COMPLETE" if result.facts.complete else "PARTIAL"), path)


def _check_segment(path: Path, segment: Any, seg: Dataset, number: int) -> None:
    same("the referenced SEG", segment.referenced_sop_instance_uid == seg.SOPInstanceUID, path)
    same("the referenced segment", int(segment.referenced_segment_numbers[0]) == number, path)


def _check_group(path: Path, finding: Finding, group: Any) -> None:
    stored = group.get_measurements()
    same(f"the measurements of {finding.tracking_id}", len(stored) == len(finding.measurements), path)
    for one, back in zip(finding.measurements, stored, strict=True):
        equal = math.isclose(back.value, one.value, rel_tol=1e-7, abs_tol=1e-12)
        same(f"{one.title} of {finding.tracking_id}", equal and back.unit.value == one.unit.value, path)
        same(f"{one.title} of {finding.tracking_id}", back.name.value == one.concept.value, path)
