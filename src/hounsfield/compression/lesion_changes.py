"""Lesion by lesion: which of the reference standard's lesions the candidate lost, and which it gained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hounsfield.evaluation.lesions import BAND_NAMES, LesionMatch
from hounsfield.evaluation.summary import ScoredCase

Pair = tuple[ScoredCase, ScoredCase]


@dataclass(frozen=True)
class LesionChange:
    """A lesion of the reference standard that only one of the two precisions found.

    ``lost``: the reference precision found it, the candidate did not; ``gained``: the other way round.
    """

    case_id: str
    segment: int
    lesion: int
    diameter_mm: float
    band: str
    change: Literal["lost", "gained"]

    def as_dict(self) -> dict[str, Any]:
        """The change as data for JSON."""
        return {**vars(self), "diameter_mm": round(self.diameter_mm, 2)}


def pair_cases(reference: Sequence[ScoredCase], candidate: Sequence[ScoredCase]) -> tuple[Pair, ...]:
    """(reference, candidate) of every case that both read, in the order of the reference."""
    partner = {case.case_id: case for case in candidate}
    return tuple((case, partner[case.case_id]) for case in reference if case.case_id in partner)


def lesion_changes(pairs: Sequence[Pair]) -> tuple[LesionChange, ...]:
    """Every lesion that was lost or gained, smallest first, the lost before the gained."""
    changes = []
    for one, other in pairs:
        for before, after in zip(one.segments, other.segments, strict=True):
            if before.lesions is None or after.lesions is None:
                continue
            had, has = found_lesions(before.lesions), found_lesions(after.lesions)
            for lesion in before.lesions.reference:
                if (lesion.number in had) != (lesion.number in has):
                    told: Literal["lost", "gained"] = "lost" if lesion.number in had else "gained"
                    band = BAND_NAMES[lesion.band]
                    place = (one.case_id, before.segment.number, lesion.number)
                    changes.append(LesionChange(*place, lesion.diameter_mm, band, told))
    return tuple(sorted(changes, key=lambda one: (one.change == "gained", one.diameter_mm, one.case_id, one.lesion)))


def found_lesions(match: LesionMatch) -> dict[int, float]:
    """Dice by number of the reference standard's lesions that were found."""
    return {one.reference: one.dice for one in match.matches}
