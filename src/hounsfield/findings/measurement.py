"""A number with its concept and unit."""

from __future__ import annotations

from dataclasses import dataclass

from hounsfield.findings.concept import CodedConcept


@dataclass(frozen=True)
class Measurement:
    """A measured value: ``concept`` says of what, ``unit`` is a UCUM code.

    ``derivation`` says how several values became one (mean, maximum ...), ``method`` how the
    value was found (TID 300, PS3.16).
    """

    concept: CodedConcept
    value: float
    unit: CodedConcept
    method: CodedConcept | None = None
    derivation: CodedConcept | None = None

    @property
    def title(self) -> str:
        """The concept with its derivation in front, such as ``"Mean Attenuation Coefficient"``."""
        if self.derivation is None:
            return self.concept.meaning
        return f"{self.derivation.meaning} {self.concept.meaning}"
