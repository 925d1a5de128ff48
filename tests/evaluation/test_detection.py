"""FROC against MONAI's and against a plain recount at every threshold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hounsfield.evaluation import Candidate, HitRule, ScanDetections, Target, cpm_interval, froc, judge
from hounsfield.evaluation import sensitivity_interval as at_rate
from hounsfield.evaluation.detection import CPM_RATES

TARGET = Target((0.0, 0.0, 0.0), 10.0)


def test_hit_duplicate_and_false_positive() -> None:
    points = [Candidate((1, 0, 0), 0.5), Candidate((0, 4.9, 0), 0.9), Candidate((5.1, 0, 0), 0.7)]
    result = judge(points, [TARGET])
    assert result == ScanDetections((0.9,), (0,), (0.7,), 1, 1)


def test_two_near_targets_are_taken_one_each() -> None:
    other = Target((4.0, 0.0, 0.0), 10.0)
    result = judge([Candidate((1, 0, 0), 0.9), Candidate((1, 0, 0), 0.8)], [TARGET, other])
    assert result.hit_targets == (0, 1)
    assert result.false_positives == ()


def test_the_rule_can_widen_small_targets() -> None:
    tiny = Target((0.0, 0.0, 0.0), 2.0)
    far = [Candidate((3, 0, 0), 1.0)]
    assert judge(far, [tiny]).false_positives == (1.0,)
    assert judge(far, [tiny], HitRule(minimum_mm=3.0)).hits == (1.0,)
    assert "at least 3 mm" in str(HitRule(minimum_mm=3.0))


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        judge([Candidate((0, 0, 0), math.nan)], [TARGET])


def random_scans(seed: int, scans: int = 20) -> list[ScanDetections]:
    random = np.random.default_rng(seed)
    made = []
    for _ in range(scans):
        targets = int(random.integers(0, 4))
        hits = int(random.integers(0, targets + 1))
        scores = np.round(random.random(hits + int(random.integers(0, 8))), 1)
        made.append(ScanDetections(tuple(scores[:hits]), tuple(range(hits)), tuple(scores[hits:]), targets, 0))
    return made


@pytest.mark.parametrize("seed", range(5))
def test_every_point_equals_a_recount(seed: int) -> None:
    scans = random_scans(seed)
    curve = froc(scans)
    targets = sum(s.targets for s in scans)
    everything = {score for s in scans for score in (*s.hits, *s.false_positives)}
    assert curve.thresholds.tolist() == sorted(everything, reverse=True)
    for threshold, rate, sensitivity in zip(curve.thresholds, curve.false_per_scan, curve.sensitivity, strict=True):
        assert rate == pytest.approx(sum(v >= threshold for s in scans for v in s.false_positives) / len(scans))
        assert sensitivity == pytest.approx(sum(v >= threshold for s in scans for v in s.hits) / targets)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(5))
def test_every_point_but_the_last_is_one_of_monais(seed: int) -> None:
    from monai.metrics import compute_froc_curve_data

    scans = random_scans(seed)
    curve = froc(scans)
    false, sensitivity = compute_froc_curve_data(
        np.array([v for s in scans for v in s.false_positives]),
        np.array([v for s in scans for v in s.hits]),
        sum(s.targets for s in scans),
        len(scans),
    )
    theirs = {(round(float(f), 9), round(float(t), 9)) for f, t in zip(false, sensitivity, strict=True)}
    ours = [
        (round(float(f), 9), round(float(t), 9)) for f, t in zip(curve.false_per_scan, curve.sensitivity, strict=True)
    ]
    assert len(ours) > 5
    assert set(ours[:-1]) <= theirs, "MONAI leaves out the point at the lowest score"


def test_cpm_is_the_mean_of_seven_best_operating_points() -> None:
    scans = random_scans(3)
    curve = froc(scans)
    expected = [
        max([0.0, *(s for f, s in zip(curve.false_per_scan, curve.sensitivity, strict=True) if f <= rate)])
        for rate in CPM_RATES
    ]
    assert curve.cpm == pytest.approx(np.mean(expected))
    names = [str(n) for n in range(len(scans))]
    interval = cpm_interval(scans, names)
    assert interval.mean == pytest.approx(curve.cpm)
    assert interval.low < curve.cpm < interval.high
    assert at_rate(scans, names, 1.0).mean == pytest.approx(curve.sensitivity_at(1.0))


def test_perfect_and_silent_models() -> None:
    perfect = [ScanDetections((0.9,), (0,), (), 1, 0)] * 3
    silent = [ScanDetections((), (), (), 1, 0)] * 3
    assert froc(perfect).cpm == 1.0
    assert froc(silent).cpm == 0.0
    with pytest.raises(ValueError, match="one target"):
        froc([ScanDetections((), (), (0.5,), 0, 0)])
