"""ROC, AUC, operating points and calibration against scikit-learn, SciPy and hand counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hounsfield.evaluation import (
    auc,
    auc_delong,
    auc_interval,
    average_precision,
    brier_score,
    calibrate,
    expected_calibration_error,
    operating_point,
    predictive_values,
    reliability,
    roc,
    threshold_for_sensitivity,
    threshold_youden,
)


def sample(seed: int, n: int = 200, decimals: int = 2) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.random(n) < 0.3
    return truth, np.clip(np.round(random.normal(0.4, 0.2, n) + 0.2 * truth, decimals), 0, 1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [1, 8])
def test_equal_to_scikit_learn(seed: int, decimals: int) -> None:
    from sklearn import metrics

    truth, scores = sample(seed, decimals=decimals)
    assert auc(truth, scores) == pytest.approx(metrics.roc_auc_score(truth, scores))
    assert average_precision(truth, scores) == pytest.approx(metrics.average_precision_score(truth, scores))
    assert brier_score(truth, scores) == pytest.approx(metrics.brier_score_loss(truth, scores))
    false, hits, thresholds = metrics.roc_curve(truth, scores, drop_intermediate=False)
    curve = roc(truth, scores)
    assert curve.thresholds[1:] == pytest.approx(thresholds[1:])
    assert curve.sensitivity == pytest.approx(hits)
    assert 1 - curve.specificity == pytest.approx(false)


@pytest.mark.parametrize("seed", range(3))
def test_operating_points_equal_scikit_learn(seed: int) -> None:
    from sklearn import metrics

    truth, scores = sample(seed)
    names = [str(n) for n in range(truth.size)]
    point = operating_point(truth, scores, names, 0.5, "half")
    called = scores >= 0.5
    assert point.sensitivity.mean == pytest.approx(metrics.recall_score(truth, called))
    assert point.specificity.mean == pytest.approx(metrics.recall_score(~truth, ~called))
    assert point.ppv.mean == pytest.approx(metrics.precision_score(truth, called))
    assert point.npv.mean == pytest.approx(metrics.precision_score(~truth, ~called))
    tn, fp, fn, tp = metrics.confusion_matrix(truth, called).ravel()
    assert (point.true_negatives, point.false_positives) == (tn, fp)
    assert (point.false_negatives, point.true_positives) == (fn, tp)


def test_the_bootstrap_interval_agrees_with_delong() -> None:
    truth, scores = sample(11, 600, 6)
    value, error = auc_delong(truth, scores)
    interval = auc_interval(truth, scores, [str(n) for n in range(600)], draws=4000)
    assert value == pytest.approx(auc(truth, scores))
    assert interval.mean == pytest.approx(value)
    assert interval.low == pytest.approx(value - 1.96 * error, abs=0.006)
    assert interval.high == pytest.approx(value + 1.96 * error, abs=0.006)


def test_delong_equals_the_double_sum_and_covers() -> None:
    truth, scores = sample(5, 60, 1)
    high, low = scores[truth], scores[~truth]
    kernel = (high[:, None] > low[None]) + 0.5 * (high[:, None] == low[None])
    variance = kernel.mean(1).var(ddof=1) / high.size + kernel.mean(0).var(ddof=1) / low.size
    value, error = auc_delong(truth, scores)
    assert (value, error) == pytest.approx((kernel.mean(), math.sqrt(variance)))
    random = np.random.default_rng(0)
    true_auc = stats.norm.cdf(1 / math.sqrt(2))
    covered = 0
    for _ in range(300):
        labels = np.arange(120) < 50
        value, error = auc_delong(labels, random.normal(size=120) + labels)
        covered += abs(value - true_auc) <= 1.96 * error
    assert 0.91 <= covered / 300 <= 0.985


def test_one_class_only_and_two_cases() -> None:
    names = ["a", "b"]
    assert math.isnan(auc([True, True], [0.1, 0.9]))
    assert math.isnan(auc_interval([False, False], [0.1, 0.9], names).mean)
    assert math.isnan(average_precision([False, False], [0.1, 0.9]))
    assert math.isnan(threshold_youden([True, True], [0.1, 0.9]))
    point = operating_point([True, True], [0.1, 0.9], names, 0.5)
    assert point.specificity is None
    assert point.sensitivity.mean == 0.5
    assert auc([False, True], [0.1, 0.9]) == 1.0
    assert auc([False, True], [0.5, 0.5]) == 0.5
    interval = auc_interval([False, True], [0.1, 0.9], names)
    assert interval.undefined_draws == pytest.approx(0.5, abs=0.05)
    for truth, scores in (([], []), ([True], [math.nan]), ([True, False], [0.5])):
        with pytest.raises(ValueError, match="finite score"):
            auc(truth, scores)


def test_thresholds() -> None:
    truth, scores = [False, False, True, False, True, True], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert threshold_for_sensitivity(truth, scores, 1.0) == 0.3
    assert threshold_for_sensitivity(truth, scores, 0.6) == 0.5
    assert threshold_youden(truth, scores) == 0.5


def test_predictive_values_follow_bayes() -> None:
    ppv, npv = predictive_values(0.9, 0.8, 0.01)
    assert ppv == pytest.approx(0.009 / (0.009 + 0.198))
    assert npv == pytest.approx(0.792 / (0.792 + 0.001))
    assert math.isnan(predictive_values(0.0, 1.0, 0.5)[0])


@pytest.mark.parametrize(("ours", "theirs"), [("width", "uniform"), ("count", "quantile")])
def test_reliability_equals_scikit_learn(ours: str, theirs: str) -> None:
    from sklearn.calibration import calibration_curve

    truth, said = sample(8, 500, 9)
    bars = reliability(truth, said, 8, ours)  # type: ignore[arg-type]
    observed, predicted = calibration_curve(truth, said, n_bins=8, strategy=theirs)
    assert [bar.observed for bar in bars] == pytest.approx(observed)
    assert [bar.predicted for bar in bars] == pytest.approx(predicted)
    assert sum(bar.cases for bar in bars) == 500


def test_ece_is_the_weighted_gap_of_the_bars() -> None:
    truth, said = sample(9, 300)
    bars = reliability(truth, said, 10)
    expected = sum(bar.cases * abs(bar.predicted - bar.observed) for bar in bars) / 300
    assert expected_calibration_error(truth, said, 10) == pytest.approx(expected)
    whole = calibrate(truth, said, [str(n) for n in range(300)])
    assert whole.ece.mean == pytest.approx(expected)
    assert whole.brier.mean == pytest.approx(brier_score(truth, said))
    assert whole.bias.mean == pytest.approx(said.mean() - truth.mean())
    assert whole.brier.low < whole.brier.mean < whole.brier.high


def test_calibration_at_the_ends() -> None:
    assert expected_calibration_error([True, False], [1.0, 0.0]) == 0.0
    assert expected_calibration_error([True, False], [0.0, 1.0]) == 1.0
    assert expected_calibration_error([True] * 3, [0.5] * 3, binning="count") == 0.5
    with pytest.raises(ValueError, match="0 to 1"):
        brier_score([True], [1.2])
