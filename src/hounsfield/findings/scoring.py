"""From class scores to findings: one per reported class and place, with its certainty and operating points."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from hounsfield.findings import terminology as terms
from hounsfield.findings.concept import LOCAL_SCHEME, CodedConcept
from hounsfield.findings.finding import ClassScore, Finding
from hounsfield.findings.measurement import Measurement
from hounsfield.findings.measuring import derived_uid

_LONGEST = 16  # characters of a Code Value (SH, PS3.5 table 6.2-1)


def class_findings(scores: Sequence[ClassScore], seed: str) -> tuple[Finding, ...]:
    """A finding for every reported class, in the order of the scores.

    The certainty is a measurement in percent (DCM 111012), and so is every operating point's threshold;
    ``called`` says which of them are reached.

    Parameters
    ----------
    seed
        Fixes the tracking UIDs; use the run's UID.
    """
    found = []
    for place, one in enumerate(scores):
        if not one.reported:
            continue
        measured = [Measurement(terms.CERTAINTY, one.probability * 100, terms.PERCENT)]
        measured += [
            Measurement(threshold_concept(name), value * 100, terms.PERCENT) for name, value in one.operating_points
        ]
        found.append(
            Finding(
                tracking_id=f"{one.label or one.concept.meaning}{_where(one)}"[:64],
                tracking_uid=derived_uid(seed, f"tracking/class/{place}"),
                concept=one.concept,
                centre_mm=one.centre_mm,
                measurements=tuple(measured),
                score=one.probability,
                called=tuple((name, one.probability >= value) for name, value in one.operating_points),
            )
        )
    return tuple(found)


def threshold_concept(name: str) -> CodedConcept:
    """The threshold of a named operating point, as a measured concept."""
    return operating_concept(name, "T", "Threshold of")


def operating_concept(name: str, prefix: str = "OP", what: str = "Operating point") -> CodedConcept:
    """A named operating point as a local concept; a code that is cut to 16 characters ends in a digest of the name."""
    value = re.sub(r"[^A-Za-z0-9]+", "_", f"{prefix}_{name}").strip("_").upper()
    if len(value) > _LONGEST:
        value = f"{value[: _LONGEST - 5]}_{hashlib.sha256(name.encode()).hexdigest()[:4].upper()}"
    return CodedConcept(value, LOCAL_SCHEME, f"{what} {name}"[:64])


def _where(score: ClassScore) -> str:
    if score.centre_mm is None:
        return ""
    return " at ({:.1f}, {:.1f}, {:.1f}) mm".format(*score.centre_mm)
