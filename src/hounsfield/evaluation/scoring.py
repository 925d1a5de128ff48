"""One case of segmentation, scored: every segment against the reference, lesions, annotators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import GeometryRefused, InputError
from hounsfield.evaluation.agreement import CaseAgreement, case_agreement, consensus
from hounsfield.evaluation.lesions import LesionMatch, MatchingRule, match_lesions
from hounsfield.evaluation.overlap import dice, iou, relative_volume_error, volume_error_ml
from hounsfield.evaluation.surface import surface_scores
from hounsfield.volume import Geometry, LabelMap, Volume

GRID_TOLERANCE_MM = 0.01
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class ScoringRules:
    """What is fixed before any case is looked at.

    Parameters
    ----------
    matching
        How lesions are matched.
    tolerance_mm
        Surface distance that the normalised surface Dice lets pass.
    consensus_share
        Share of the annotators that makes a voxel part of the reference, where a case has
        annotators and no label.
    """

    matching: MatchingRule = field(default_factory=MatchingRule)
    tolerance_mm: float = 1.0
    consensus_share: float = 0.5


@dataclass(frozen=True)
class ScoredSegment:
    """What is scored: number in label maps, name, and whether its components are lesions."""

    number: int
    label: str
    lesion: bool = False


@dataclass(frozen=True)
class SegmentScores:
    """One segment of one case.

    ``hd95_mm`` is infinite where exactly one side is empty; ``relative_volume_error`` where only
    the reference is. ``agreement`` and ``lesions`` are ``None`` without annotators, or when the
    segment is no lesion.
    """

    segment: ScoredSegment
    dice: float
    iou: float
    hd95_mm: float
    nsd: float
    volume_error_ml: float
    relative_volume_error: float
    reference_ml: float
    found_ml: float
    lesions: LesionMatch | None = None
    agreement: CaseAgreement | None = None

    @property
    def is_empty(self) -> bool:
        """Neither side has a voxel: agreement by absence."""
        return self.reference_ml == 0 and self.found_ml == 0


def reference_of(
    label: LabelMap | None, annotators: Sequence[LabelMap], numbers: Sequence[int], share: float
) -> LabelMap:
    """The label map to compare with: the label, or the annotators' consensus per segment number."""
    if label is not None:
        return label
    grid = annotators[0].geometry
    same_grid(grid, annotators[1:], "an annotator's label map")
    array = np.zeros(grid.shape, np.uint16)
    for number in numbers:
        array[consensus([one.array == number for one in annotators], share)] = number
    return LabelMap(array, grid)


def label_map(volume: Volume) -> LabelMap:
    """A volume that was read as a scan, as labels.

    Raises
    ------
    InputError
        If a value is no whole number from 0 to 65535.
    """
    values = volume.array
    wrong = not np.isfinite(values).all() if values.dtype.kind == "f" else False
    if (
        wrong
        or values.min() < 0
        or values.max() > 65535
        or (values.dtype.kind == "f" and (values != np.rint(values)).any())
    ):
        raise InputError("the label map holds values that are no whole numbers from 0 to 65535", "give a label map")
    return LabelMap(values.astype(np.uint16), volume.geometry)


def score_case(
    found: LabelMap,
    reference: LabelMap,
    segments: Sequence[ScoredSegment],
    rules: ScoringRules,
    annotators: Sequence[LabelMap] = (),
) -> tuple[SegmentScores, ...]:
    """Compare a case segment by segment, on the scan's own grid.

    Parameters
    ----------
    annotators
        Label maps of single annotators; agreement needs at least two.

    Raises
    ------
    GeometryRefused
        If a label map does not lie on the grid of ``found`` (within 0.01 mm at every corner).
    """
    same_grid(found.geometry, (reference,), "the reference label map")
    same_grid(found.geometry, annotators, "an annotator's label map")
    boxes = _boxes((found, reference, *annotators), max(segment.number for segment in segments))
    return tuple(
        _score(found, reference, segment, rules, annotators, boxes[segment.number - 1]) for segment in segments
    )


def same_grid(grid: Geometry, others: Sequence[LabelMap], what: str) -> None:
    """Raise GeometryRefused unless all lie on the grid."""
    for other in others:
        if not grid.is_close(other.geometry, GRID_TOLERANCE_MM):
            raise GeometryRefused(
                f"{what} lies on another grid: {_grid(other.geometry)} instead of {_grid(grid)}",
                "draw or resample the labels on the scan's own grid",
            )


def foreign_labels(reference: LabelMap, segments: Sequence[ScoredSegment]) -> tuple[int, ...]:
    """Labels of the reference that no scored segment has; they count as background."""
    present = np.flatnonzero(np.bincount(reference.array.ravel()))
    return tuple(int(n) for n in present if n and n not in {segment.number for segment in segments})


def _boxes(maps: Sequence[LabelMap], highest: int) -> list[Box]:
    """For each label the smallest box that holds it in every map; one voxel where none has it."""
    from scipy import ndimage

    each = [ndimage.find_objects(one.array, max_label=highest) for one in maps]
    boxes: list[Box] = []
    for own in zip(*each, strict=True):
        there = [box for box in own if box is not None] or [(slice(0, 1),) * 3]
        low = [min(box[axis].start for box in there) for axis in range(3)]
        high = [max(box[axis].stop for box in there) for axis in range(3)]
        boxes.append((slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])))
    return boxes


def _score(
    found: LabelMap,
    reference: LabelMap,
    segment: ScoredSegment,
    rules: ScoringRules,
    annotators: Sequence[LabelMap],
    box: Box,
) -> SegmentScores:
    """Compare within the box: nothing lies outside it, so every figure is that of the whole grid."""
    ours, truth = found.array[box] == segment.number, reference.array[box] == segment.number
    k, j, i = box
    grid = found.geometry.cropped((k.start, j.start, i.start), (ours.shape[0], ours.shape[1], ours.shape[2]))
    lesions = match_lesions(ours, truth, grid, rules.matching) if segment.lesion else None
    masks: list[NDArray[Any]] = [one.array[box] == segment.number for one in annotators]
    hd95_mm, nsd = surface_scores(ours, truth, grid.spacing_mm, rules.tolerance_mm)
    per_ml = grid.voxel_volume_mm3 / 1000
    return SegmentScores(
        segment,
        dice(ours, truth),
        iou(ours, truth),
        hd95_mm,
        nsd,
        volume_error_ml(ours, truth, grid.voxel_volume_mm3),
        relative_volume_error(ours, truth),
        int(truth.sum()) * per_ml,
        int(ours.sum()) * per_ml,
        lesions,
        case_agreement(ours, masks) if len(masks) > 1 else None,
    )


def _grid(geometry: Geometry) -> str:
    size = " x ".join(map(str, geometry.shape))
    spacing = " x ".join(f"{mm:.4g}" for mm in geometry.spacing_mm)
    origin = ", ".join(f"{mm:.4g}" for mm in geometry.origin_mm)
    return f"{size} voxels of {spacing} mm, {geometry.orientation}, from ({origin})"
