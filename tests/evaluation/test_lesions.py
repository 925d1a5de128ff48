"""Lesion matching by hand-made scenes whose truth is plain, and against brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from hounsfield.evaluation import BAND_NAMES, MatchingRule, lesion_table, match_lesions, size_band
from hounsfield.volume import Geometry

GRID = Geometry.from_parts((12, 24, 24), (1.0, 1.0, 1.0))
ANY = MatchingRule(threshold=0.0)


def boxes(*corners: tuple[int, int, int, int]) -> np.ndarray:
    """Cubes given as (k, j, i, edge)."""
    mask = np.zeros(GRID.shape, bool)
    for k, j, i, edge in corners:
        mask[k : k + edge, j : j + edge, i : i + edge] = True
    return mask


def test_hit_missed_and_false() -> None:
    reference = boxes((1, 1, 1, 3), (1, 10, 10, 4))
    found = boxes((1, 1, 1, 3), (7, 18, 18, 2))
    result = match_lesions(found, reference, GRID, MatchingRule())
    assert [(m.overlap, m.dice) for m in result.matches] == [(1.0, 1.0)]
    assert [lesion.voxels for lesion in result.missed] == [64]
    assert [lesion.voxels for lesion in result.false] == [8]
    assert (result.splits, result.merges) == (0, 0)


def test_one_reference_found_in_two_pieces_is_one_hit_one_false_and_a_split() -> None:
    result = match_lesions(boxes((2, 2, 2, 2), (2, 2, 6, 2)), boxes((2, 2, 2, 6)), GRID, ANY)
    assert (len(result.matches), len(result.missed), len(result.false)) == (1, 0, 1)
    assert (result.splits, result.merges) == (1, 0)


def test_two_references_found_as_one_is_one_hit_one_missed_and_a_merge() -> None:
    result = match_lesions(boxes((2, 2, 2, 8)), boxes((2, 2, 2, 3), (6, 6, 6, 4)), GRID, ANY)
    assert (len(result.matches), len(result.missed), len(result.false)) == (1, 1, 0)
    assert (result.splits, result.merges) == (0, 1)
    assert result.missed[0].voxels == 27, "the one with the larger overlap is matched"


def test_touching_lesions_are_one_in_a_mask_and_two_in_an_instance_map() -> None:
    mask = boxes((2, 2, 2, 3), (2, 2, 5, 3))
    instances = mask.astype(np.uint8)
    instances[:, :, 5:][mask[:, :, 5:]] = 2
    assert len(match_lesions(mask, mask, GRID, MatchingRule()).reference) == 1
    result = match_lesions(instances, instances, GRID, MatchingRule())
    assert len(result.reference) == len(result.matches) == 2


@pytest.mark.parametrize(("connectivity", "count"), [(6, 3), (18, 2), (26, 1)])
def test_connectivity(connectivity: int, count: int) -> None:
    mask = np.zeros(GRID.shape, bool)
    mask[1, 1, 1] = mask[1, 2, 2] = mask[2, 3, 3] = True
    rule = MatchingRule(connectivity=connectivity)  # type: ignore[arg-type]
    assert len(match_lesions(mask, mask, GRID, rule).reference) == count


def test_the_threshold_counts_from_itself_on() -> None:
    reference, found = boxes((2, 2, 2, 4)), boxes((2, 2, 2, 2))
    assert len(match_lesions(found, reference, GRID, MatchingRule(threshold=8 / 64)).matches) == 1
    assert not match_lesions(found, reference, GRID, MatchingRule(threshold=0.126)).matches
    covered = MatchingRule(overlap="reference", threshold=1.0)
    assert len(match_lesions(boxes((1, 1, 1, 6)), reference, GRID, covered).matches) == 1


def test_empty_sides_and_a_single_voxel() -> None:
    empty, voxel = boxes(), boxes((3, 3, 3, 1))
    assert match_lesions(empty, empty, GRID, ANY).matches == ()
    assert len(match_lesions(empty, voxel, GRID, ANY).missed) == 1
    assert len(match_lesions(voxel, empty, GRID, ANY).false) == 1
    lesion = match_lesions(voxel, voxel, GRID, ANY).reference[0]
    assert lesion.diameter_mm == pytest.approx((6 / math.pi) ** (1 / 3))
    assert match_lesions(voxel, voxel, GRID, MatchingRule(minimum_mm3=1.5)).reference == ()
    long_axis = MatchingRule(size="long-axis")
    assert match_lesions(boxes((3, 3, 3, 4)), voxel, GRID, long_axis).found[0].diameter_mm == pytest.approx(3 * 2**0.5)


@pytest.mark.parametrize("seed", range(12))
def test_the_assignment_equals_brute_force(seed: int) -> None:
    random = np.random.default_rng(seed)
    found, reference = (random.integers(0, 4, (3, 4, 4)) for _ in range(2))
    grid = Geometry.from_parts((3, 4, 4))
    result = match_lesions(found, reference, grid, MatchingRule(threshold=0.1))
    iou = {
        (a, b): ((found == a) & (reference == b)).sum() / ((found == a) | (reference == b)).sum()
        for a, b in itertools.product((1, 2, 3), repeat=2)
    }
    best = (0, 0.0)
    for order in itertools.permutations((1, 2, 3)):
        pairs = [iou[a, b] for a, b in zip((1, 2, 3), order, strict=True) if iou[a, b] >= 0.1]
        best = max(best, (len(pairs), float(sum(pairs))))
    assert (len(result.matches), sum(m.overlap for m in result.matches)) == pytest.approx(best)


def test_bands_and_the_rule_in_words() -> None:
    assert [size_band(d) for d in (0.5, 3.0, 5.99, 6.0, 10.0, 20.0, 99.0)] == [0, 1, 1, 2, 3, 4, 4]
    text = str(MatchingRule(connectivity=6, minimum_mm3=5))
    assert "6-connected" in text
    assert "IoU of at least 0.1" in text
    assert "below 5 mm³" in text
    with pytest.raises(ValueError, match="connectivity"):
        MatchingRule(connectivity=8)  # type: ignore[arg-type]


def test_the_table_counts_what_the_cases_hold() -> None:
    small, large = boxes((1, 1, 1, 3)), boxes((2, 10, 10, 9))
    both = small | large
    rule = MatchingRule()
    cases = [
        match_lesions(both, both, GRID, rule),
        match_lesions(large, both, GRID, rule),
        match_lesions(small, boxes(), GRID, rule),
    ]
    table = lesion_table(cases, ["a", "b", "c"])
    rows = {row.band: row for row in table.rows}
    assert [(r.reference, r.hit, r.found, r.false) for r in (rows["all"], rows["3-6 mm"], rows["10-20 mm"])] == [
        (4, 3, 4, 1),
        (2, 1, 2, 1),
        (2, 2, 2, 0),
    ]
    assert rows["all"].sensitivity.mean == pytest.approx(3 / 4)
    assert rows["all"].precision.mean == pytest.approx(3 / 4)
    assert rows["all"].f1.mean == pytest.approx(6 / 8)
    assert rows["3-6 mm"].dice.mean == pytest.approx(1 / 2)
    assert rows["< 3 mm"].sensitivity is None
    assert table.false_per_case.mean == pytest.approx(1 / 3)
    assert {row.band for row in table.rows} == {"all", *BAND_NAMES}


def test_two_hits_of_two_patients_do_not_pretend_to_certainty() -> None:
    mask = boxes((1, 1, 1, 3))
    match = match_lesions(mask, mask, GRID, MatchingRule())
    interval = lesion_table([match, match], ["a", "b"]).rows[0].sensitivity
    assert interval.method == "exact"
    assert interval.low == pytest.approx(0.025**0.5)
    assert interval.high == 1.0
