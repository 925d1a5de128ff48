"""Steps of a package: links, segments and graphs must fit; the geometry between them is exact."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from hounsfield.inference.stepping import stretched, units
from hounsfield.inference.window_steps import merge
from hounsfield.packages import Manifest, manifest_toml, parse_manifest
from hounsfield.testing.packages import TinyModel, tiny_manifest

ROWS = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]


def table() -> dict[str, Any]:
    """A manifest of three steps and three segments."""
    made = tiny_manifest(TinyModel(levels=(0.0, 1.0, 2.0, 3.0))).model_dump(mode="json", exclude_none=True)
    made["graphs"] = [
        {"precision": "fp32", "step": name, "file": f"graphs/{name}.onnx", "input": "image", "output": "logits"}
        for name in ("head", "atlas", "sides")
    ]
    rows = copy.deepcopy(ROWS)
    made["steps"] = [
        {"step": "look", "name": "head", "shape": [8, 8, 8], "maps": 2, "segments": [{"number": 1, "map": 0}]},
        {
            "step": "place",
            "name": "atlas",
            "of": "head",
            "maps": [1],
            "mask": 0,
            "shape": [8, 8, 8],
            "affine": rows,
        },
        {
            "step": "box",
            "name": "sides",
            "of": "atlas",
            "affine": copy.deepcopy(ROWS),
            "shape": [20, 8, 8],
            "side_shape": [8, 8, 8],
            "border": 1,
            "sides": [{"number": 2, "start": [0, 0, 0]}, {"number": 3, "start": [12, 0, 0], "mirrored": True}],
        },
    ]
    return made


def test_a_manifest_of_steps_survives_its_text() -> None:
    manifest = Manifest.model_validate(table())
    assert parse_manifest(manifest_toml(manifest).encode()) == manifest
    assert manifest.graph_for("fp32").step == "sides"  # type: ignore[union-attr]
    assert manifest.graph_for("fp32", "head").file == "graphs/head.onnx"  # type: ignore[union-attr]
    ends = {graph.step: manifest.ends_of(graph) for graph in manifest.graphs}
    assert ends["head"] == (1, (8, 8, 8), 2, (8, 8, 8))
    assert ends["atlas"] == (1, (8, 8, 8), 12, (1, 1, 1))
    assert ends["sides"] == (1, (8, 8, 8), 1, (6, 6, 6))


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("steps", 1, "of"), "nobody", "needs an earlier"),
        (("steps", 2, "of"), "head", "needs an earlier"),
        (("steps", 1, "maps"), [2], "names a map that there is not"),
        (("steps", 0, "segments", 0, "map"), 5, "names a map that there is not"),
        (("steps", 1, "shape"), [9, 8, 8], "another shape"),
        (("steps", 2, "sides", 1, "start"), [13, 0, 0], "outside the box"),
        (("steps", 2, "border"), 4, "leaves nothing"),
        (("steps", 2, "high"), 0.4, "not below high"),
        (("steps", 2, "sides", 1, "number"), 2, "exactly once"),
        (("steps", 1, "name"), "head", "same name"),
        (("graphs", 0, "step"), "nobody", "which there is not"),
        (("steps", 2, "step"), "script", "does not match any of the expected tags"),
        (("steps", 1, "affine", 0, 0), float("nan"), "finite"),
    ],
)
def test_steps_that_do_not_fit_are_refused(place: tuple[Any, ...], value: Any, told: str) -> None:
    made = table()
    inner: Any = made
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = value
    with pytest.raises(ValidationError, match=told):
        Manifest.model_validate(made)


def test_a_step_without_its_graph_is_refused() -> None:
    made = table()
    del made["graphs"][1]
    with pytest.raises(ValidationError, match="not every step has a graph for fp32"):
        Manifest.model_validate(made)


def test_units_put_the_outer_voxel_centres_at_minus_one_and_one() -> None:
    affine = units((5, 9, 2))
    assert np.allclose(affine @ (0, 0, 0, 1), (-1, -1, -1, 1))
    assert np.allclose(affine @ (4, 8, 1, 1), (1, 1, 1, 1))


def test_probabilities_are_stretched_between_low_and_one() -> None:
    values = np.array([0.2, 0.5, 0.5001, 0.6, 0.75, 0.9], np.float32)
    assert np.allclose(stretched(values, 0.5, 0.75), [0, 0, 0.5002, 0.7, 1, 1], atol=1e-6)


def window_table() -> dict[str, Any]:
    """A manifest of two window steps, the second given two labels of the first."""
    made = tiny_manifest(TinyModel(levels=(0.0, 1.0, 2.0, 3.0))).model_dump(mode="json", exclude_none=True)
    made["graphs"] = [
        {"precision": "fp32", "step": name, "file": f"graphs/{name}.onnx", "input": "image", "output": "logits"}
        for name in ("low", "full")
    ]
    spec = made["input"]
    made["steps"] = [
        {"step": "window", "name": "low", "input": copy.deepcopy(spec), "numbers": [0, 0, 0]},
        {
            "step": "window",
            "name": "full",
            "input": copy.deepcopy(spec),
            "numbers": [3, 1, 2],
            "after": "low",
            "given": [1, 3],
        },
    ]
    return made


def test_window_steps_survive_their_text_and_know_their_channels() -> None:
    manifest = Manifest.model_validate(window_table())
    assert parse_manifest(manifest_toml(manifest).encode()) == manifest
    channels, window = len(manifest.input.channels), manifest.input.window.shape
    assert manifest.ends_of(manifest.graphs[0]) == (channels, window, 4, window)
    assert manifest.ends_of(manifest.graphs[1]) == (channels + 2, window, 4, window)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("steps", 1, "after"), "nobody", "needs an earlier window step"),
        (("steps", 1, "given"), [4], "a label that there is not"),
        (("steps", 1, "given"), [], "belong together"),
        (("steps", 1, "numbers"), [1, 1, 2], "exactly once"),
        (("steps", 1, "input", "window", "pad_value"), 1.0, "pads with 0"),
        (("steps", 1, "input", "window", "skip_below"), 1.0, "skips no window"),
        (("steps", 1, "input", "channels", 0, "modality"), "PT", "reads other channels"),
        (("steps", 1, "winner"), "last", "for sigmoid only"),
        (("steps", 1, "input", "fit"), True, "reads whole scans"),
        (("steps", 0), {"step": "look", "name": "low", "shape": [8, 8, 8], "maps": 1}, "stand by themselves"),
    ],
)
def test_window_steps_that_do_not_fit_are_refused(place: tuple[Any, ...], value: Any, told: str) -> None:
    made = window_table()
    inner: Any = made
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = value
    with pytest.raises(ValidationError, match=told):
        Manifest.model_validate(made)


def test_labels_are_painted_as_their_segments_over_earlier_ones() -> None:
    labels = np.array([[[1, 1, 2, 0, 7]]], np.uint8)
    merge(labels, np.array([[[0, 1, 2, 3, 3]]], np.uint16), (0, 5, 4))
    assert labels.tolist() == [[[1, 1, 5, 4, 4]]]
