"""Measurement groups of an SR for class scores: of the whole image (TID 1501), or at a point (TID 1410)."""

from __future__ import annotations

from typing import Any

import numpy as np

from hounsfield.findings import Finding
from hounsfield.findings import terminology as terms
from hounsfield.findings.scoring import operating_concept
from hounsfield.writing.dicom import code
from hounsfield.writing.facts import Result
from hounsfield.writing.source import SourceImages


def scored_group(result: Result, finding: Finding, source: SourceImages, shared: dict[str, Any]) -> Any:
    """One finding without a segment: its certainty, and for every operating point whether it is reached.

    An operating point is a qualitative evaluation (local code) whose value is Present or Absent.
    """
    from highdicom.sr import (
        ImageRegion3D,
        MeasurementsAndQualitativeEvaluations,
        PlanarROIMeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        SourceImageForMeasurementGroup,
    )

    evaluations = [QualitativeEvaluation(code(terms.INTENDED_USE), code(terms.RESEARCH_USE_ONLY))]
    for name, called in finding.called:
        says = terms.PRESENT if called else terms.ABSENT
        evaluations.append(QualitativeEvaluation(code(operating_concept(name)), code(says)))
    arguments = {**shared, "qualitative_evaluations": evaluations}
    frame = result.volume.geometry.frame_of_reference_uid
    if finding.centre_mm is not None and frame is not None:
        region = ImageRegion3D("POINT", np.array([finding.centre_mm]), frame)
        return PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=region, **arguments)
    images = None
    if len(source.datasets) == 1:
        only = source.first
        images = [SourceImageForMeasurementGroup(only.SOPClassUID, only.SOPInstanceUID)]
    return MeasurementsAndQualitativeEvaluations(source_images=images, **arguments)
