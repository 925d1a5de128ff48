"""A number with its concept and unit."""

from __future__ import annotations

from dataclasses import dataclass

from hounsfield.findings.concept import CodedConcept


@dataclass(frozen=True)
class Measurement:
    """A measured value: ``concept`` says of what, ``unit`` is a UCUM code."""

    concept: CodedConcept
    value: float
    unit: CodedConcept
    method: CodedConcept | None = None
