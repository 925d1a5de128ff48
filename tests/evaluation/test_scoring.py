"""Cases scored in their boxes equal the metrics of the whole grid; tables equal plain means."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from hounsfield.errors import GeometryRefused, InputError
from hounsfield.evaluation import dice, hausdorff95_mm, iou, match_lesions, surface_dice, volume_error_ml
from hounsfield.evaluation.lesions import MatchingRule
from hounsfield.evaluation.scoring import (
    ScoredSegment,
    ScoringRules,
    foreign_labels,
    label_map,
    reference_of,
    score_case,
)
from hounsfield.evaluation.summary import METRICS, ScoredCase, compare_models, summarise
from hounsfield.volume import Geometry, LabelMap, Volume

GRID = Geometry.from_parts((20, 22, 24), (2.0, 0.8, 0.8), (5.0, -3.0, 11.0))
SEGMENTS = (ScoredSegment(1, "liver"), ScoredSegment(2, "tumour", lesion=True), ScoredSegment(3, "absent"))
RULES = ScoringRules(MatchingRule(threshold=0.05), tolerance_mm=1.0)


def labels(seed: int) -> LabelMap:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=GRID.shape), 2)
    return LabelMap((field > 0).astype(np.uint8) + (field > field.std()), GRID)


@pytest.mark.parametrize("seed", range(4))
def test_every_score_is_that_of_the_whole_grid(seed: int) -> None:
    reference = labels(seed)
    found = LabelMap(np.roll(reference.array, 1, axis=1), GRID)
    for scores in score_case(found, reference, SEGMENTS, RULES):
        number = scores.segment.number
        ours, truth = found.array == number, reference.array == number
        assert scores.dice == dice(ours, truth)
        assert scores.iou == iou(ours, truth)
        assert scores.hd95_mm == hausdorff95_mm(ours, truth, GRID.spacing_mm)
        assert scores.nsd == surface_dice(ours, truth, GRID.spacing_mm, 1.0)
        assert scores.volume_error_ml == pytest.approx(volume_error_ml(ours, truth, GRID.voxel_volume_mm3))
        assert scores.reference_ml == pytest.approx(truth.sum() * 1.28 / 1000)
        if scores.lesions is not None:
            whole = match_lesions(ours, truth, GRID, RULES.matching)
            assert [m.overlap for m in scores.lesions.matches] == [m.overlap for m in whole.matches]
            assert len(scores.lesions.false) == len(whole.false)
    assert scores.is_empty


def test_one_side_empty() -> None:
    reference = labels(0)
    nothing = LabelMap(np.zeros(GRID.shape, np.uint8), GRID)
    missed = score_case(nothing, reference, SEGMENTS, RULES)[0]
    assert (missed.dice, missed.nsd, missed.hd95_mm, missed.relative_volume_error) == (0.0, 0.0, math.inf, -1.0)
    invented = score_case(reference, nothing, SEGMENTS, RULES)[0]
    assert invented.relative_volume_error == math.inf


def test_labels_on_another_grid_are_refused_with_both_grids_named() -> None:
    moved = Geometry.from_parts(GRID.shape, GRID.spacing_mm, (5.0, -3.0, 12.0))
    with pytest.raises(GeometryRefused, match=r"\(5, -3, 12\) instead of .* \(5, -3, 11\)"):
        score_case(labels(0), LabelMap(labels(0).array, moved), SEGMENTS, RULES)


@pytest.mark.parametrize("bad", [-1.0, 0.5, math.nan, 70000.0])
def test_values_that_are_no_labels_are_refused(bad: float) -> None:
    array = np.zeros(GRID.shape, np.float32)
    array[0, 0, 0] = bad
    with pytest.raises(InputError, match="whole numbers"):
        label_map(Volume(array, GRID))


def test_float_labels_and_foreign_labels() -> None:
    array = np.zeros(GRID.shape, np.float32)
    array[:2] = 1.0
    array[4] = 9.0
    read = label_map(Volume(array, GRID))
    assert read.array.dtype == np.uint16
    assert foreign_labels(read, SEGMENTS) == (9,)


def test_the_consensus_is_made_per_segment() -> None:
    maps = [LabelMap(np.zeros(GRID.shape, np.uint8), GRID) for _ in range(3)]
    for one, depth in zip(maps, (2, 3, 5), strict=True):
        one.array[:depth] = 1
        one.array[10 : 10 + depth] = 2
    reference = reference_of(None, maps, [1, 2], 0.5)
    assert np.flatnonzero((reference.array == 1).any(axis=(1, 2))).tolist() == [0, 1, 2]
    assert np.flatnonzero((reference.array == 2).any(axis=(1, 2))).tolist() == [10, 11, 12]
    scores = score_case(reference, reference, SEGMENTS, RULES, maps)[0]
    assert scores.agreement.between == pytest.approx((4 / 5, 4 / 7, 6 / 8))
    assert scores.agreement.with_model == pytest.approx((4 / 5, 1.0, 6 / 8))


def scored(seeds: range, shift: int) -> list[ScoredCase]:
    cases = []
    for seed in seeds:
        reference = labels(seed)
        found = LabelMap(np.roll(reference.array, shift, axis=1), GRID)
        cases.append(
            ScoredCase(
                f"c{seed}", f"p{seed // 2}", score_case(found, reference, SEGMENTS, RULES), {"sex": "FM"[seed % 2]}
            )
        )
    return cases


def test_tables_are_plain_means_and_name_what_has_none() -> None:
    cases = scored(range(8), 1)
    nothing = LabelMap(np.zeros(GRID.shape, np.uint8), GRID)
    cases.append(ScoredCase("c9", "p9", score_case(nothing, labels(9), SEGMENTS, RULES), {"sex": "F"}))
    summary = summarise(cases, ["sex"], minimum_patients=3)
    assert (summary.cases, summary.patients) == (9, 5)
    rows = {(row.metric, row.segment.number): row for row in summary.metrics}
    assert len(rows) == len(METRICS) * 3
    assert rows["dice", 1].mean.mean == pytest.approx(np.mean([c.segments[0].dice for c in cases]))
    assert rows["hd95", 1].mean.mean == pytest.approx(np.mean([c.segments[0].hd95_mm for c in cases[:8]]))
    assert rows["hd95", 1].infinite == 1
    assert rows["dice", 3].empty == 9
    assert summary.presence[0].sensitivity.mean == pytest.approx(8 / 9)
    assert summary.presence[2].sensitivity is None
    table = summary.lesions[0][1]
    assert table.rows[0].reference == sum(len(c.segments[1].lesions.reference) for c in cases)
    strata = {(s.number, t.metric): t for s, t in summary.strata}
    women = next(row for row in strata[1, "Dice"].rows if row.value == "F")
    assert women.interval.mean == pytest.approx(np.mean([c.segments[0].dice for c in cases if c.columns["sex"] == "F"]))
    assert (2, "lesions found per case") in strata


def test_two_models_are_compared_on_the_cases_of_both() -> None:
    near, far = scored(range(8), 1), scored(range(2, 10), 3)
    rows = {(segment.number, kind.key): row for row in compare_models(near, far) for segment, kind, *_ in [row]}
    _, _, cases, comparison, adjusted = rows[1, "dice"]
    assert cases == 6
    gaps = [a.segments[0].dice - b.segments[0].dice for a, b in zip(near[2:], far[:6], strict=True)]
    assert comparison.difference.mean == pytest.approx(np.mean(gaps))
    assert comparison.p_value == pytest.approx(2 / 2**3), "three patients"
    assert adjusted >= comparison.p_value


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tolerance", [0.5, 1.0, 2.5])
def test_surface_dice_equals_monai(tolerance: float) -> None:
    import torch
    from monai.metrics import compute_surface_dice

    found, reference = labels(1).array > 0, labels(2).array > 0
    one, other = (torch.from_numpy(mask)[None, None] for mask in (found, reference))
    theirs = compute_surface_dice(one, other, [tolerance], include_background=True, spacing=list(GRID.spacing_mm))
    assert surface_dice(found, reference, GRID.spacing_mm, tolerance) == pytest.approx(float(theirs), abs=1e-6)
