"""Intensity steps: the numbers of numpy on float64, in the stated order, without padding."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import TypeAdapter

from hounsfield.errors import InputError
from hounsfield.packages.manifest import IntensityStep
from hounsfield.preparing.distribution import distribution
from hounsfield.preparing.intensity import Chain, decide

SHAPE = (20, 70, 60)
FRACTIONS = (0.0, 0.005, 0.25, 0.5, 0.777, 0.995, 1.0)


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    return {
        "int16": rng.integers(-1024, 3071, SHAPE).astype(np.int16),
        "uint16": rng.integers(0, 65536, SHAPE).astype(np.uint16),
        "int8": rng.integers(-128, 128, SHAPE).astype(np.int8),
        "int32": rng.integers(-(2**30), 2**30, SHAPE).astype(np.int32),
        "float32": rng.normal(0, 1e3, SHAPE).astype(np.float32),
        "float64": np.exp(rng.normal(0, 8, SHAPE)) * rng.choice([-1.0, 1.0, 0.0], SHAPE),
    }


def steps(*tables: dict) -> list[IntensityStep]:
    return [TypeAdapter(IntensityStep).validate_python(table) for table in tables]


@pytest.mark.parametrize("name", list(arrays()))
@pytest.mark.parametrize("padded", [False, True])
def test_quantiles_are_numpys_bit_for_bit(name: str, padded: bool) -> None:
    array = arrays()[name]
    padding = np.random.default_rng(5).random(SHAPE) < 0.3 if padded else None
    kept = array.astype(np.float64) if padding is None else array[~padding].astype(np.float64)
    values = distribution(array, padding)
    assert values.quantiles(FRACTIONS, Chain()) == tuple(np.quantile(kept, FRACTIONS).tolist())
    mean, std = values.moments(Chain(), non_zero_only=False)
    assert mean == pytest.approx(kept.mean(), rel=1e-10, abs=1e-12 * kept.std())
    assert std == pytest.approx(kept.std(), rel=1e-12)
    mean, std = values.moments(Chain(), non_zero_only=True)
    assert std == pytest.approx(kept[kept != 0].std(), rel=1e-12)


def by_hand(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, *np.quantile(x, (0.005, 0.995)))
    x = (x - x.mean()) / x.std()
    low, high = np.quantile(x, (0.1, 0.9))
    return np.clip((x - low) / (high - low) * 2 - 1, -1, 1)


@pytest.mark.parametrize("name", list(arrays()))
def test_a_chain_in_the_stated_order(name: str) -> None:
    array = arrays()[name]
    chain = decide(
        steps(
            {"step": "clip-quantiles", "low": 0.005, "high": 0.995},
            {"step": "z-score"},
            {"step": "scale-quantiles", "low": 0.1, "high": 0.9, "to_low": -1, "to_high": 1},
        ),
        distribution(array, None),
    )
    out = chain.network_values(array)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, by_hand(array.astype(np.float64)), rtol=0, atol=2e-7)


def test_the_table_of_small_integers_equals_the_formula() -> None:
    chain = decide(
        steps({"step": "scale", "low": -1000, "high": 400, "clip": False}), distribution(arrays()["int16"], None)
    )
    for name in ("int16", "uint16", "int8"):
        array = arrays()[name][::-1].transpose(2, 0, 1)
        np.testing.assert_array_equal(chain.network_values(array), chain(array.astype(np.float64)).astype(np.float32))


def test_fixed_steps() -> None:
    array = np.array([[[-2000, -1000, 0, 400, 3000]]], np.float32)
    values = distribution(array, None)
    clip = decide(steps({"step": "clip", "low": -1000, "high": 400}), values)
    assert clip(array.astype(np.float64)).ravel().tolist() == [-1000, -1000, 0, 400, 400]
    scale = decide(steps({"step": "scale", "low": 0, "high": 400, "to_low": 1, "to_high": -1}), values)
    assert scale(array.astype(np.float64)).ravel().tolist() == [1, 1, 1, -1, -1]
    standard = decide(steps({"step": "standardise", "mean": 100, "std": 50}), values)
    assert standard(array.astype(np.float64)).ravel().tolist() == [-42, -22, -2, 6, 58]


def test_z_score_of_non_zero_voxels_leaves_zeros() -> None:
    array = np.array([[[0, 0, 0, 2, 4]]], np.float32)
    chain = decide(steps({"step": "z-score", "non_zero_only": True}), distribution(array, None))
    assert chain(array.astype(np.float64)).ravel().tolist() == [0, 0, 0, -1, 1]


def test_a_flat_scan_does_not_divide_by_zero() -> None:
    array = np.full((4, 4, 4), 7, np.int16)
    for table in ({"step": "z-score"}, {"step": "scale-quantiles", "low": 0.1, "high": 0.9}):
        out = decide(steps(table), distribution(array, None)).network_values(array)
        assert out.tolist() == np.zeros((4, 4, 4)).tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_are_refused(bad: float) -> None:
    array = np.zeros((4, 4, 4), np.float32)
    array[1, 2, 3] = bad
    with pytest.raises(InputError, match="1 voxels are not finite"):
        distribution(array, None)
    padding = np.zeros(array.shape, bool)
    padding[1, 2, 3] = True
    distribution(array, padding)


def test_a_scan_of_padding_only_is_refused() -> None:
    for dtype in (np.int16, np.float32):
        with pytest.raises(InputError, match="padding"):
            distribution(np.zeros((4, 4, 4), dtype), np.ones((4, 4, 4), bool))
