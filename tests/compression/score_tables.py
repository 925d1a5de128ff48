"""Score tables of two precisions whose true difference is known, without any network."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from hounsfield.evaluation.lesions import Lesion, LesionMatch, Match, MatchingRule
from hounsfield.evaluation.scoring import ScoredSegment, SegmentScores
from hounsfield.evaluation.summary import ScoredCase

NODULE = ScoredSegment(1, "Nodule", True)
SMALL_MM, LARGE_MM = 5.0, 15.0


def case(number: int, found: list[bool], sizes_mm: list[float], dice: float, false: int = 0) -> ScoredCase:
    """One case: lesions of given sizes, which of them were found, the case's Dice."""
    ball = [math.pi / 6 * size**3 for size in sizes_mm]
    reference = tuple(Lesion(n, 9, ball[n - 1], sizes_mm[n - 1]) for n in range(1, len(sizes_mm) + 1))
    hits = tuple(Match(n, n, 0.7, 0.8) for n, hit in enumerate(found, 1) if hit)
    own = tuple(reference[match.reference - 1] for match in hits)
    wrong = tuple(Lesion(50 + n, 9, 30.0, 4.0) for n in range(false))
    lesions = LesionMatch(MatchingRule(), reference, own + wrong, hits, 0, 0)
    scores = SegmentScores(NODULE, dice, dice / (2 - dice), 1.0, dice, 0.1, 0.1, 1.0, 1.1, lesions)
    columns = {"sex": "F" if number % 2 else "M", "manufacturer": "A" if number % 3 else "B", "age_years": ""}
    return ScoredCase(f"c{number:04d}", f"secret-{number:04d}", (scores,), columns)


def reference_cases(patients: int, seed: int = 0) -> list[ScoredCase]:
    """One case per patient with two small and two large lesions; 90 % of them are found."""
    random = np.random.default_rng(seed)
    sizes = [SMALL_MM, SMALL_MM, LARGE_MM, LARGE_MM]
    return [
        case(n, (random.random(4) < 0.9).tolist(), sizes, float(random.normal(0.85, 0.04))) for n in range(patients)
    ]


def damaged(cases: list[ScoredCase], share: float, seed: int = 1, below_mm: float = 10.0) -> list[ScoredCase]:
    """The same cases by a model that loses a share of the lesions below a size, and nothing else."""
    random = np.random.default_rng(seed)
    changed = []
    for one in cases:
        scores = one.segments[0]
        assert scores.lesions is not None
        kept = tuple(
            match
            for match in scores.lesions.matches
            if scores.lesions.reference[match.reference - 1].diameter_mm >= below_mm or random.random() >= share
        )
        changed.append(replace(one, segments=(replace(scores, lesions=replace(scores.lesions, matches=kept)),)))
    return changed


def blurred(cases: list[ScoredCase], shift: float, sd: float, seed: int = 2) -> list[ScoredCase]:
    """The same cases with the Dice shifted on average, and scattered."""
    random = np.random.default_rng(seed)
    return [
        replace(one, segments=(replace(one.segments[0], dice=one.segments[0].dice + float(random.normal(shift, sd))),))
        for one in cases
    ]
