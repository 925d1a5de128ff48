"""Paired comparison against SciPy's permutation tests, strata, agreement, and intervals at their ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hounsfield.evaluation import (
    GroupedValues,
    age_band,
    bootstrap_median,
    bootstrap_ratio,
    case_agreement,
    compare_auc,
    compare_paired,
    consensus,
    dice,
    holm,
    strata_table,
    summarise_agreement,
)
from hounsfield.evaluation.bootstrap import clopper_pearson


def test_exact_p_value_equals_scipy() -> None:
    random = np.random.default_rng(1)
    first, second = random.normal(0.3, 1, 11), random.normal(0, 1, 11)
    ours = compare_paired(first.tolist(), second.tolist(), [str(n) for n in range(11)])
    theirs = stats.permutation_test(
        (first, second),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert ours.test.startswith("exact")
    assert ours.p_value == pytest.approx(theirs.pvalue)
    assert ours.difference.mean == pytest.approx(float((first - second).mean()))


def test_many_patients_agree_with_the_paired_t_test() -> None:
    random = np.random.default_rng(2)
    first = random.normal(0.15, 1, 200)
    ours = compare_paired(first.tolist(), [0.0] * 200, [str(n) for n in range(200)])
    assert ours.p_value == pytest.approx(stats.ttest_1samp(first, 0).pvalue, abs=0.01)


def test_equal_models_differ_by_nothing() -> None:
    same = compare_paired([0.5, 0.6, 0.7], [0.5, 0.6, 0.7], ["a", "b", "c"])
    assert (same.difference.mean, same.p_value) == (0.0, 1.0)


def test_repeated_cases_are_one_patient() -> None:
    first = [0.9, 0.8, 0.85, 0.95]
    many = compare_paired(first * 25, [0.7, 0.75, 0.7, 0.8] * 25, ["a", "b", "c", "d"] * 25)
    assert many.p_value == pytest.approx(2 / 16), "four patients cannot give less"


def test_the_p_value_is_uniform_when_there_is_no_difference() -> None:
    random = np.random.default_rng(3)
    names = [str(n) for n in range(12)]
    p_values = [compare_paired(random.normal(size=12).tolist(), [0.0] * 12, names).p_value for _ in range(200)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_auc_comparison() -> None:
    random = np.random.default_rng(4)
    truth = random.random(120) < 0.4
    good, poor = random.normal(size=120) + 2 * truth, random.normal(size=120)
    names = [str(n) for n in range(120)]
    better = compare_auc(truth, good, poor, names)
    assert better.difference.low > 0
    assert better.p_value < 0.01
    rescaled = compare_auc(truth, good, np.exp(good), names)
    assert rescaled.difference.mean == pytest.approx(0, abs=1e-12)
    assert rescaled.p_value == 1.0
    with pytest.raises(ValueError, match="positive and negative"):
        compare_auc([True, True], [0.1, 0.2], [0.1, 0.2], ["a", "b"])


def test_exact_auc_comparison_by_hand() -> None:
    truth, good, poor = [True, False, True, False], [0.9, 0.1, 0.8, 0.2], [0.1, 0.9, 0.2, 0.8]
    exact = compare_auc(truth, good, poor, list("abcd"))
    assert exact.difference.mean == 1.0
    assert exact.test.startswith("exact")
    assert exact.p_value == pytest.approx(2 / 16), "only no swap and all swaps are as extreme"


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([]) == ()


def test_clopper_pearson_equals_scipy() -> None:
    for hits, n in ((0, 5), (5, 5), (3, 11)):
        theirs = stats.binomtest(hits, n).proportion_ci(0.95, "exact")
        assert clopper_pearson(hits, n) == pytest.approx((theirs.low, theirs.high))


def test_one_patient_has_no_interval() -> None:
    alone = bootstrap_ratio([3, 4], [4, 4], ["a", "a"])
    assert alone.mean == pytest.approx(7 / 8)
    assert math.isnan(alone.low)
    assert alone.as_dict()["low"] is None


def test_the_median_lives_with_infinite_distances() -> None:
    interval = bootstrap_median([1.0, 2.0, 3.0, math.inf], list("abcd"))
    assert interval.mean == 2.0
    assert interval.high == math.inf
    values = np.random.default_rng(0).normal(size=301)
    assert bootstrap_median(values.tolist(), [str(n) for n in range(301)]).mean == pytest.approx(np.median(values))


def test_strata_name_small_groups_but_give_no_figure() -> None:
    values = [0.9] * 12 + [0.7] * 12 + [0.1] * 3
    groups = ["A"] * 12 + ["B"] * 12 + [""] * 3
    names = [str(n) for n in range(27)]
    rows = {row.value: row for row in strata_table(GroupedValues("manufacturer", "Dice", values, groups, names)).rows}
    assert rows["A"].interval.mean == pytest.approx(0.9)
    assert rows["A"].minus_others.mean == pytest.approx(0.9 - np.mean(values[12:]))
    assert rows["not known"].interval is None
    assert rows["not known"].patients == 3
    twelve_scans_of_one = strata_table(GroupedValues("site", "Dice", values, groups, ["one"] * 12 + names[12:]))
    assert twelve_scans_of_one.rows[0].patients == 1
    assert twelve_scans_of_one.rows[0].interval is None


def test_age_bands() -> None:
    bands = [age_band(age) for age in (0, 17.9, 18, 59, 60, 79.5, 80, None, math.nan, -1)]
    assert bands == [
        "0-17", "0-17", "18-39", "40-59", "60-69", "70-79", "80 and older", "not known", "not known", "not known",
    ]  # fmt: skip


def test_agreement_and_consensus() -> None:
    masks = [np.zeros((1, 1, 6), bool) for _ in range(4)]
    for mask, end in zip(masks, (2, 3, 4, 6), strict=True):
        mask[0, 0, :end] = True
    assert consensus(masks)[0, 0].tolist() == [True] * 4 + [False] * 2, "two of four"
    assert consensus(masks[:3])[0, 0].tolist() == [True] * 3 + [False] * 3, "two of three"
    one = case_agreement(masks[0], masks[:3])
    assert one.between == pytest.approx((4 / 5, 4 / 6, 6 / 7))
    assert one.with_model == pytest.approx((1.0, 4 / 5, 4 / 6))
    assert one.between[0] == dice(masks[0], masks[1])
    whole = summarise_agreement([one, one], ["a", "b"])
    assert whole.between.mean == pytest.approx(np.mean(one.between))
    assert whole.model_minus_between.difference.mean == pytest.approx(np.mean(one.with_model) - np.mean(one.between))
    with pytest.raises(ValueError, match="two annotators"):
        case_agreement(masks[0], masks[:1])
