"""Findings: a segment or lesion with measurements, a located point or box, or a class score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hounsfield.findings.concept import CodedConcept
from hounsfield.findings.measurement import Measurement
from hounsfield.findings.segment import Segment

if TYPE_CHECKING:
    from hounsfield.findings.maps import ParameterMap


@dataclass(frozen=True)
class Finding:
    """Something seen at a place.

    Parameters
    ----------
    tracking_id, tracking_uid
        Stable identity of the finding across objects and time points.
    concept
        What it is.
    site
        Where it is, anatomically, if known.
    laterality
        Side, if known.
    segment_number
        The segment it lies in; ``None`` for points and boxes without a segmentation.
    component
        Connected component of a lesion segment, from 1, largest first; 0 stands for all
        components beyond the counted ones, taken together; ``None`` when the finding is the
        whole segment.
    centre_mm
        LPS mm, ``None`` when the segment is empty.
    box_mm
        ((x, y, z) smallest, (x, y, z) largest) LPS mm, outer voxel faces.
    measurements
        In reporting order.
    score
        Confidence 0-1, ``None`` if the model gives none.
    called
        Operating points by name, and whether the score reaches their threshold.
    """

    tracking_id: str
    tracking_uid: str
    concept: CodedConcept
    site: CodedConcept | None = None
    laterality: CodedConcept | None = None
    segment_number: int | None = None
    component: int | None = None
    centre_mm: tuple[float, float, float] | None = None
    box_mm: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    measurements: tuple[Measurement, ...] = ()
    score: float | None = None
    called: tuple[tuple[str, bool], ...] = ()


@dataclass(frozen=True)
class ClassScore:
    """A probability for a class of the whole image, or of the surroundings of a point.

    Parameters
    ----------
    threshold
        The first operating point's; ``None`` where the package has none.
    label
        The package's word for the class.
    reported
        False for the class that says that nothing is there.
    operating_points
        (name, threshold); the class is called where the probability is at least the threshold.
    centre_mm
        The LPS point whose surroundings were read; ``None`` for the whole image.
    """

    concept: CodedConcept
    probability: float
    threshold: float | None = None
    label: str = ""
    reported: bool = True
    operating_points: tuple[tuple[str, float], ...] = ()
    centre_mm: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Findings:
    """All that a model said about one scan."""

    segments: tuple[Segment, ...] = ()
    findings: tuple[Finding, ...] = ()
    class_scores: tuple[ClassScore, ...] = ()
    warnings: tuple[str, ...] = ()
    maps: tuple[ParameterMap, ...] = ()
