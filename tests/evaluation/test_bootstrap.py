"""The interval covers, respects patients, and refuses nonsense."""

from __future__ import annotations

import numpy as np
import pytest

from hounsfield.evaluation import bootstrap_mean


def test_close_to_the_normal_interval_for_many_independent_patients() -> None:
    values = np.random.default_rng(1).normal(0.8, 0.1, 400)
    interval = bootstrap_mean(values.tolist(), [str(n) for n in range(400)])
    half = 1.96 * values.std() / 20
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=1e-3)
    assert interval.high == pytest.approx(values.mean() + half, abs=1e-3)


def test_repeated_cases_of_one_patient_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(2).normal(size=30)
    names = [str(n) for n in range(30)]
    once = bootstrap_mean(values.tolist(), names)
    tenfold = bootstrap_mean(np.repeat(values, 10).tolist(), np.repeat(names, 10).tolist())
    assert (tenfold.low, tenfold.high) == pytest.approx((once.low, once.high))
    assert tenfold.cases == 300
    assert tenfold.patients == 30


@pytest.mark.parametrize(("values", "patients"), [([], []), ([1.0], []), ([float("nan")], ["a"])])
def test_refuses_what_has_no_mean(values: list[float], patients: list[str]) -> None:
    with pytest.raises(ValueError, match="finite value"):
        bootstrap_mean(values, patients)
