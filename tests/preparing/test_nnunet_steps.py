"""Cropping, intensities, resampling, windows and the way back, against answers of nnU-Net's own functions.

``nnunet_reference.npz`` was made by nnU-Net 2.8.1 itself (benchmarks/make_nnunet_reference.py).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hounsfield.inference.deciding import Decider, Decision, decision
from hounsfield.inference.windows import importance, starts
from hounsfield.packages.manifest import InputSpec, OutputSpec, WindowSpec
from hounsfield.preparing import Prepared, Resample, prepare, restore_scores
from hounsfield.preparing.given import resample_labels
from hounsfield.volume import Geometry, Volume

REFERENCE = np.load(Path(__file__).with_name("nnunet_reference.npz"))
EVERY = {name.split("/")[0] for name in REFERENCE.files} - {"gaussian", "steps"}
LABELS = sorted(name for name in EVERY if name.startswith("labels-"))
CASES = sorted(EVERY - set(LABELS))
CT = [{"step": "clip", "low": -120.0, "high": 250.0}, {"step": "standardise", "mean": 40.0, "std": 90.0}]


def spec_of(case: dict[str, Any]) -> InputSpec:
    letters = ["S", "P", "L"]  # of the axes k, j, i
    turned = [letters[axis] for axis in case.get("turn", [0, 1, 2])]
    target = case["target"]
    return InputSpec.model_validate(
        {
            "channels": [
                {"name": f"c{n}", "modality": "MR", "outline": bool(case.get("mask"))}
                for n in range(case.get("channels", 1))
            ],
            "orientation": "".join(reversed(turned)),
            "spacing_mm": [0.0, *target] if len(target) == 2 else target,
            "interpolation": "cubic-edge",
            "separate_above": 3.0,
            "crop": "non-zero",
            "intensity": CT if case.get("ct") else [{"step": "z-score"}],
            "window": {"shape": [8, 8, 8], "blending": "gaussian-half"},
        }
    )


def prepared_of(name: str, lazy: bool = False) -> Prepared:
    case = json.loads(REFERENCE[f"{name}/case"].tobytes())
    affine = np.diag([*case["spacing"][::-1], 1.0])[:, [2, 1, 0, 3]]
    geometry = Geometry(tuple(case["shape"]), affine)
    return prepare([Volume(array, geometry) for array in REFERENCE[f"{name}/image"]], spec_of(case), lazy=lazy)


@pytest.mark.parametrize("name", CASES)
def test_network_input_is_nnunets(name: str) -> None:
    expected = REFERENCE[f"{name}/prepared"]
    found = prepared_of(name).array
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 2e-4 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("name", CASES)
def test_reading_a_box_gives_the_same_as_reading_all(name: str) -> None:
    whole, lazy = prepared_of(name).array, prepared_of(name, lazy=True)
    box = tuple(slice(n // 4, n // 4 + max(1, n // 3)) for n in lazy.shape)
    np.testing.assert_allclose(lazy.read((box[0], box[1], box[2])), whole[(slice(None), *box)], atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_scores_go_back_as_nnunets(name: str) -> None:
    prepared, expected = prepared_of(name), REFERENCE[f"{name}/labels"]
    scores = restore_scores(REFERENCE[f"{name}/logits"], prepared)
    labels = scores.argmax(0)
    assert labels.shape == expected.shape
    # Outside the crop both are background; near-ties may fall otherwise in the last bit.
    top = np.sort(scores, axis=0)
    tied = top[-1] - top[-2] < 1e-5
    assert (labels == expected)[~tied].all()
    assert tied[prepared_inside(prepared)].mean() < 0.01


def prepared_inside(prepared: Prepared) -> NDArray[np.bool_]:
    ones = np.ones((1, *prepared.shape), np.float32)
    return restore_scores(ones, prepared)[0] > 0.5


@pytest.mark.parametrize("size", [(8, 10, 12), (5, 28, 28)])
def test_window_weights_and_positions_are_nnunets(size: tuple[int, int, int]) -> None:
    key = "x".join(map(str, size))
    spec = WindowSpec(shape=size, blending="gaussian-half")
    np.testing.assert_array_equal(importance(spec), REFERENCE[f"gaussian/{key}"])
    theirs = json.loads(REFERENCE[f"steps/{key}"].tobytes())
    assert [list(starts(n, w, 0.5, "even")) for n, w in zip((31, 40, 29), size, strict=True)] == theirs


def test_the_last_region_above_its_threshold_wins() -> None:
    code = {"value": "85756007", "scheme": "SCT", "meaning": "Tissue"}
    segments = [{"number": n, "label": f"r{n}", "category": code, "type": code} for n in (1, 2, 3)]
    rule = decision(OutputSpec.model_validate({"activation": "sigmoid", "winner": "last", "segments": segments}), 3)
    assert rule == Decision("last", 0.0)
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(3, 4, 5, 6)).astype(np.float32)
    expected = np.zeros((4, 5, 6), np.uint8)
    for channel in range(3):
        expected[1 / (1 + np.exp(-scores[channel])) > 0.5] = channel + 1
    np.testing.assert_array_equal(Decider(rule, None).labels(scores, None, np.uint8), expected)
    weights = np.full((4, 5, 6), 2.5, np.float32)
    np.testing.assert_array_equal(Decider(rule, None).labels(scores * weights, weights, np.uint8), expected)


def test_a_scan_of_zeros_is_not_cropped_away() -> None:
    case = json.loads(REFERENCE["isotropic/case"].tobytes())
    volume = Volume(np.zeros(case["shape"], np.int16), Geometry(tuple(case["shape"]), np.eye(4)[:, [2, 1, 0, 3]]))
    prepared = prepare(volume, spec_of(case))
    assert prepared.crop is None
    assert not prepared.array.any()


def test_padding_can_be_seen_as_the_lowest_value() -> None:
    case = json.loads(REFERENCE["ct/case"].tobytes())
    spec = InputSpec.model_validate({**spec_of(case).model_dump(), "padding": "lowest", "crop": "none"})
    array = np.full(case["shape"], 40, np.int16)
    padding = np.zeros(case["shape"], np.bool_)
    padding[:3] = True
    array[:3] = -2000
    geometry = Geometry(tuple(case["shape"]), np.diag([1.2, 1.2, 1.5, 1.0])[:, [2, 1, 0, 3]])
    values = prepare(Volume(array, geometry, padding=padding), spec).array
    np.testing.assert_allclose(values[0, :3], (-120 - 40) / 90, rtol=1e-6)
    assert not values[0, 4:].any()


@pytest.mark.parametrize("name", LABELS)
def test_labels_that_are_given_on_are_resampled_as_nnunet_does(name: str) -> None:
    labels, expected = REFERENCE[f"{name}/labels"].astype(np.int32), REFERENCE[f"{name}/resampled"]
    here, there = (tuple(float(one) for one in spacing) for spacing in REFERENCE[f"{name}/spacings"])
    affine = np.diag([*here[::-1], 1.0])[:, [2, 1, 0, 3]]
    step = Resample((there[0], there[1], there[2]), "linear", 3.0)
    found = resample_labels(labels, expected.shape, step.kinds(Geometry(labels.shape, affine)))
    assert np.array_equal(found, expected)
    assert len(np.unique(expected)) == 5


def test_a_slab_of_labels_is_the_same_slab_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "labels-half-more"
    labels, expected = REFERENCE[f"{name}/labels"].astype(np.int32), REFERENCE[f"{name}/resampled"]
    monkeypatch.setattr("hounsfield.preparing.given._SLAB_VOXELS", 1)
    monkeypatch.setattr("hounsfield.preparing.given._MIXED_VOXELS", 7)
    assert np.array_equal(resample_labels(labels, expected.shape, ("linear",) * 3), expected)
