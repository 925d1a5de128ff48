"""What the AI says: coded concepts, segments, measurements, findings."""

from hounsfield.findings.concept import CodedConcept, local_concept
from hounsfield.findings.finding import ClassScore, Finding, Findings
from hounsfield.findings.measurement import Measurement
from hounsfield.findings.segment import Segment

__all__ = [
    "ClassScore",
    "CodedConcept",
    "Finding",
    "Findings",
    "Measurement",
    "Segment",
    "local_concept",
]
