"""Lesion by lesion: which were found, which were missed, which were not there.

Lesions are the connected components of a mask, or the numbers of an instance map (so that
lesions that touch stay two). A reference lesion and a found one may be matched when they share
a voxel and their overlap reaches the rule's threshold; matching is one to one, chosen so that
as many pairs as possible are matched and, among those choices, the summed overlap is largest
(Kuhn 1955, "Hungarian" assignment).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from hounsfield.evaluation.overlap import Mask
from hounsfield.volume import Geometry

BAND_EDGES_MM: Final = (3.0, 6.0, 10.0, 20.0)
BAND_NAMES: Final = ("< 3 mm", "3-6 mm", "6-10 mm", "10-20 mm", "> 20 mm")
_STRIDE: Final = 2**32
Instances = NDArray[Any]


@dataclass(frozen=True)
class MatchingRule:
    """When a found lesion counts as a reference lesion.

    Parameters
    ----------
    connectivity
        Neighbours that join voxels to one lesion: 6 (faces), 18 (and edges), 26 (and corners).
    overlap
        ``"iou"``: shared voxels over voxels of either; ``"reference"``: over those of the
        reference lesion.
    threshold
        Smallest overlap that can match; 0 means that any shared voxel does.
    minimum_mm3
        Components below this volume are no lesions, on either side.
    size
        What the size bands are about: ``"equivalent-sphere"``, the diameter of the ball of
        equal volume, or ``"long-axis"``, the longest axial diameter between voxel centres.
    """

    connectivity: Literal[6, 18, 26] = 26
    overlap: Literal["iou", "reference"] = "iou"
    threshold: float = 0.1
    minimum_mm3: float = 0.0
    size: Literal["equivalent-sphere", "long-axis"] = "equivalent-sphere"

    def __post_init__(self) -> None:
        if self.connectivity not in (6, 18, 26):
            raise ValueError(f"connectivity is 6, 18 or 26, not {self.connectivity}")
        if not 0 <= self.threshold <= 1 or not self.minimum_mm3 >= 0:
            raise ValueError("threshold lies in 0 to 1 and minimum_mm3 is not negative")

    def __str__(self) -> str:
        measure = "IoU" if self.overlap == "iou" else "share of the reference lesion covered"
        least = f"{measure} of at least {self.threshold:g}" if self.threshold else "any shared voxel"
        small = f"; components below {self.minimum_mm3:g} mm³ do not count" if self.minimum_mm3 else ""
        size = "diameter of the ball of equal volume" if self.size == "equivalent-sphere" else "longest axial diameter"
        return (
            f"lesions are {self.connectivity}-connected components{small}; a pair matches with {least}; "
            f"one to one, most pairs first, then the largest summed overlap; size is the {size}"
        )


@dataclass(frozen=True)
class Lesion:
    """One lesion: its number in the instance map, its voxels, volume and size."""

    number: int
    voxels: int
    volume_mm3: float
    diameter_mm: float

    @property
    def band(self) -> int:
        """Index of its size band in ``BAND_NAMES``; an edge belongs to the band above it."""
        return size_band(self.diameter_mm)


@dataclass(frozen=True)
class Match:
    """A found lesion that counts as a reference lesion; numbers of both, their overlap and Dice."""

    reference: int
    found: int
    overlap: float
    dice: float


@dataclass(frozen=True)
class LesionMatch:
    """The lesions of one case and how they were matched.

    Parameters
    ----------
    splits
        Reference lesions that share voxels with two or more found lesions.
    merges
        Found lesions that share voxels with two or more reference lesions.
    """

    rule: MatchingRule
    reference: tuple[Lesion, ...]
    found: tuple[Lesion, ...]
    matches: tuple[Match, ...]
    splits: int
    merges: int

    @property
    def missed(self) -> tuple[Lesion, ...]:
        """Reference lesions without a match."""
        hit = {match.reference for match in self.matches}
        return tuple(lesion for lesion in self.reference if lesion.number not in hit)

    @property
    def false(self) -> tuple[Lesion, ...]:
        """Found lesions without a match."""
        hit = {match.found for match in self.matches}
        return tuple(lesion for lesion in self.found if lesion.number not in hit)


def size_band(diameter_mm: float) -> int:
    """Index of the size band in ``BAND_NAMES``: [0, 3), [3, 6), [6, 10), [10, 20), from 20 mm."""
    return int(np.searchsorted(BAND_EDGES_MM, diameter_mm, side="right"))


def match_lesions(found: Instances, reference: Instances, geometry: Geometry, rule: MatchingRule) -> LesionMatch:
    """Match the lesions of two masks or instance maps of one case.

    Parameters
    ----------
    found, reference
        (slices, rows, columns). Boolean: connected components are the lesions. Integer: each
        number from 1 is a lesion, 0 is background.
    geometry
        Of both.
    """
    one, two = (_instances(array, rule) for array in (found, reference))
    found_lesions, reference_lesions = (_lesions(array, geometry, rule) for array in (one, two))
    shared = _shared_voxels(one, two, {x.number for x in found_lesions}, {x.number for x in reference_lesions})
    matches = _assign(shared, found_lesions, reference_lesions, rule)
    touching_found = Counter(pair[0] for pair in shared)
    touching_reference = Counter(pair[1] for pair in shared)
    return LesionMatch(
        rule,
        reference_lesions,
        found_lesions,
        matches,
        sum(n > 1 for n in touching_reference.values()),
        sum(n > 1 for n in touching_found.values()),
    )


def _instances(array: NDArray[Any], rule: MatchingRule) -> Instances:
    if array.dtype != np.bool_:
        return array
    from scipy import ndimage

    structure = ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[rule.connectivity])
    labelled, _ = ndimage.label(array, structure=structure, output=np.int32)
    numbered: Instances = labelled
    return numbered


def _lesions(instances: Instances, geometry: Geometry, rule: MatchingRule) -> tuple[Lesion, ...]:
    counts = np.bincount(instances.ravel())
    lesions = []
    for number in np.flatnonzero(counts[1:]) + 1:
        volume = float(counts[number]) * geometry.voxel_volume_mm3
        if volume >= rule.minimum_mm3:
            diameter = _diameter_mm(instances, int(number), volume, geometry, rule)
            lesions.append(Lesion(int(number), int(counts[number]), volume, diameter))
    return tuple(lesions)


def _diameter_mm(instances: Instances, number: int, volume: float, geometry: Geometry, rule: MatchingRule) -> float:
    if rule.size == "equivalent-sphere":
        return float((6.0 * volume / math.pi) ** (1 / 3))
    from hounsfield.findings.diameter import axial_diameters

    mask: Mask = instances == number
    box = tuple(
        slice(int(used[0]), int(used[-1]) + 1)
        for used in (np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3))
    )
    part = mask[box]
    start = (box[0].start, box[1].start, box[2].start)
    shape = (part.shape[0], part.shape[1], part.shape[2])
    diameters = axial_diameters(part, geometry.cropped(start, shape))
    return 0.0 if diameters is None else diameters.long_mm


def _shared_voxels(
    found: Instances, reference: Instances, found_numbers: set[int], reference_numbers: set[int]
) -> dict[tuple[int, int], int]:
    """Shared voxels of each (found, reference) pair of lesions that count."""
    both = (found > 0) & (reference > 0)
    keys = found[both].astype(np.int64) * _STRIDE + reference[both].astype(np.int64)
    pairs, counts = np.unique(keys, return_counts=True)
    split = [(int(pair // _STRIDE), int(pair % _STRIDE), int(n)) for pair, n in zip(pairs, counts, strict=True)]
    return {(a, b): n for a, b, n in split if a in found_numbers and b in reference_numbers}


def _assign(
    shared: dict[tuple[int, int], int],
    found: tuple[Lesion, ...],
    reference: tuple[Lesion, ...],
    rule: MatchingRule,
) -> tuple[Match, ...]:
    from scipy.optimize import linear_sum_assignment

    voxels_found = {lesion.number: lesion.voxels for lesion in found}
    voxels_reference = {lesion.number: lesion.voxels for lesion in reference}
    overlaps: dict[tuple[int, int], float] = {}
    for (a, b), common in shared.items():
        whole = voxels_reference[b] if rule.overlap == "reference" else voxels_found[a] + voxels_reference[b] - common
        if common / whole >= rule.threshold:
            overlaps[a, b] = common / whole
    if not overlaps:
        return ()
    rows, columns = sorted({a for a, _ in overlaps}), sorted({b for _, b in overlaps})
    row_of, column_of = ({n: place for place, n in enumerate(numbers)} for numbers in (rows, columns))
    gain = np.zeros((len(rows), len(columns)))
    for (a, b), value in overlaps.items():
        gain[row_of[a], column_of[b]] = min(len(rows), len(columns)) + 1 + value
    picked = zip(*linear_sum_assignment(gain, maximize=True), strict=True)
    pairs = [(rows[r], columns[c]) for r, c in picked if gain[r, c] > 0]
    return tuple(
        Match(b, a, overlaps[a, b], 2 * shared[a, b] / (voxels_found[a] + voxels_reference[b]))
        for a, b in sorted(pairs, key=lambda pair: pair[1])
    )
