"""Half floats and labels: the fast ways equal numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from hounsfield.errors import EngineError, PackageInvalid, SettingsError
from hounsfield.inference.blended import Sums
from hounsfield.inference.deciding import Decider, Decision, apply_head, decision, highest
from hounsfield.inference.frontier import Kept
from hounsfield.inference.halves import GROW, SHRINK, from_half, to_half
from hounsfield.inference.head import Head
from hounsfield.inference.host import HostArrays
from hounsfield.packages.manifest import OutputSpec


def test_every_half_float_survives() -> None:
    every = np.arange(65536, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    wide = from_half(finite) * GROW
    np.testing.assert_array_equal(wide, finite.astype(np.float32))
    back = np.empty_like(finite)
    assert to_half(wide * SHRINK, back)
    np.testing.assert_array_equal(back.view(np.uint16), finite.view(np.uint16))


def test_rounding_is_to_nearest() -> None:
    x = np.concatenate((np.random.default_rng(0).normal(0, 3, 100000), [0, -0.0, 6e-8, 6e-5, 65503])).astype(np.float32)
    out = np.empty(x.shape, np.float16)
    assert to_half(x * SHRINK, out)
    best = np.abs(x.astype(np.float16).astype(np.float64) - x)
    assert (np.abs(out.astype(np.float64) - x) <= best).all()


@pytest.mark.parametrize("bad", [65520.0, 1e9, -7e4, np.inf, -np.inf, np.nan])
def test_what_does_not_fit_is_noticed(bad: float) -> None:
    x = np.zeros(100, np.float32)
    x[17] = bad
    assert not to_half(x * SHRINK, np.empty(100, np.float16))


def test_keeping_and_adding_returns_the_sums() -> None:
    rng, arrays = np.random.default_rng(0), HostArrays()
    weights = rng.uniform(1e-3, 8, (1, 5, 6, 7)).astype(np.float32)
    values = rng.normal(0, 1, (3, 5, 6, 7)).astype(np.float32) * weights
    values[:, 2, 3] = weights[:, 2, 3] = 0
    for half, weighted in ((True, True), (False, True), (False, False)):
        for order in ((0, 1, 2), (2, 0, 1)):
            turned = Sums(arrays.turned(values, order), arrays.turned(weights, order) if weighted else None)
            kept = arrays.turned(arrays.zeros((3 + weighted, 5, 6, 7), half), order)
            arrays.keep(kept, turned)
            there = Sums(turned.values + 1, None if turned.weights is None else turned.weights + 2)
            arrays.add(there, kept)
            tolerance = {"rtol": 2e-3, "atol": 1e-3} if half else {"rtol": 1e-5, "atol": 1e-5}
            np.testing.assert_allclose(there.values, 2 * turned.values + 1, **tolerance)
            if weighted:
                np.testing.assert_allclose(there.weights, 2 * turned.weights + 2, **tolerance)
    values[1, 0, 0, 0] = 1e9
    with pytest.raises(EngineError, match="float16"):
        arrays.keep(arrays.zeros((4, 5, 6, 7), True), Sums(values, weights))


def test_means_without_weights_are_refused() -> None:
    with pytest.raises(SettingsError, match="weights"):
        Kept(half=True, weighted=False)


@pytest.mark.parametrize("classes", [1, 2, 3, 8, 9, 118, 300])
@pytest.mark.parametrize("n", [1, 63, 64, 1000])
def test_labels_are_argmax_of_the_head(classes: int, n: int) -> None:
    rng = np.random.default_rng(classes)
    head = Head(rng.normal(size=(classes, 5)).astype(np.float32), rng.normal(size=classes).astype(np.float32))
    weight = rng.uniform(0.1, 3, n).astype(np.float32)
    features = rng.normal(size=(5, n)).astype(np.float32)
    sums = features * weight
    scores = head.weight.astype(np.float64) @ features + head.bias[:, None]
    labels = Decider(Decision("highest"), head).labels(sums, weight, np.dtype(np.uint16))
    top = np.sort(scores, axis=0)
    clear = np.ones(n, bool) if classes == 1 else top[-1] - top[-2] > 1e-4
    np.testing.assert_array_equal(labels[clear], scores.argmax(0)[clear])
    assert labels.dtype == np.uint16
    column = np.column_stack((head.weight, head.bias))
    applied = apply_head(column, np.concatenate((sums, weight[None])))
    np.testing.assert_allclose(applied, (scores * weight).T, rtol=1e-3, atol=1e-4)
    for weights in (weight, None):
        without = Decider(Decision("highest"), None).labels(applied.T, weights, np.uint16)
        np.testing.assert_array_equal(without[clear], labels[clear])


@pytest.mark.parametrize("classes", [3, 20])
def test_on_a_tie_the_lower_label_wins(classes: int) -> None:
    scores = np.zeros((classes, 5, 10), np.float32)
    scores[1:3, 1:] = 1
    labels, best = highest(scores, np.uint8)
    assert labels.ravel().tolist() == best.ravel().tolist() == [0] * 10 + [1] * 40


def output(activation: str, segments: int, threshold: float = 0.5) -> OutputSpec:
    code = {"value": "1", "scheme": "99X", "meaning": "x"}
    names = [{"number": n + 1, "label": str(n), "category": code, "type": code} for n in range(segments)]
    return OutputSpec.model_validate({"activation": activation, "segments": names, "threshold": threshold})


def test_the_rule_follows_the_manifest() -> None:
    assert decision(output("softmax", 2), 3) == Decision("highest")
    assert decision(output("none", 2), 3) == Decision("highest")
    assert decision(output("none", 2, 0.3), 2) == Decision("above", 0.3)
    assert decision(output("sigmoid", 2), 2) == Decision("above", 0.0)
    assert decision(output("sigmoid", 1, 0.8), 1).threshold == pytest.approx(np.log(4))
    for activation, segments, classes in (("softmax", 2, 2), ("sigmoid", 2, 3), ("none", 2, 4)):
        with pytest.raises(PackageInvalid, match="channels"):
            decision(output(activation, segments), classes)


@pytest.mark.parametrize(("threshold", "wanted"), [(0.0, [1, 2, 1]), (0.5, [0, 2, 1]), (1.0, [0, 0, 0])])
def test_thresholds_of_a_sigmoid(threshold: float, wanted: list[int]) -> None:
    scores, weights = np.array([[-1, -3, 2], [-2, 4, 1]], np.float32), np.full(3, 2, np.float32)
    decider = Decider(decision(output("sigmoid", 2, threshold), 2), None)
    assert decider.labels(scores, weights, np.uint8).tolist() == wanted
    assert decider.labels(scores / 2, None, np.uint8).tolist() == wanted
    assert decider.weighted == (threshold == 1.0)
