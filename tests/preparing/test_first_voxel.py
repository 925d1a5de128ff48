"""Resampling from the first voxel's centre, against SciPy at the places that MONAI's Spacing samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.ndimage import map_coordinates

from hounsfield.inference import Decision
from hounsfield.inference.blended import Sums
from hounsfield.inference.host import HostArrays
from hounsfield.packages.inputs import InputSpec
from hounsfield.preparing import prepare, restore_labels, restore_scores
from hounsfield.preparing.first_voxel import FromFirst
from hounsfield.volume import Geometry, Volume

SHAPE, SPACING, WANTED = (9, 12, 10), (1.0, 0.8, 1.5), (1.3, 0.8005, 0.7)


def scan() -> Volume:
    affine = np.diag([*SPACING[::-1], 1.0])[:, [2, 1, 0, 3]]
    affine[:3, 3] = (5.0, -7.0, 11.0)
    values = np.random.default_rng(3).normal(50, 20, SHAPE)
    return Volume(values.astype(np.float32), Geometry(SHAPE, affine))


def spec(**changes: Any) -> InputSpec:
    table = {
        "channels": [{"name": "t1", "modality": "MR"}],
        "orientation": scan().geometry.orientation,
        "spacing_mm": WANTED,
        "grid": "first-voxel",
        "intensity": [{"step": "z-score"}],
        "window": {"shape": [8, 8, 8]},
    }
    return InputSpec.model_validate({**table, **changes})


def sampled(values: NDArray[np.float32], shape: tuple[int, ...], scales: tuple[float, ...]) -> NDArray[np.float32]:
    at = np.meshgrid(*[np.arange(n) * s for n, s in zip(shape, scales, strict=True)], indexing="ij")
    found: NDArray[np.float32] = map_coordinates(values, at, order=1, mode="nearest")
    return found


def test_the_grid_keeps_the_first_voxel_and_the_exact_spacing() -> None:
    grid = FromFirst(WANTED).geometry(scan().geometry)
    assert grid.shape == (round(8 / 1.3 + 1), 12, round(9 * 1.5 / 0.7 + 1))
    assert grid.spacing_mm == pytest.approx((1.3, 0.8, 0.7))  # 0.8005 is within MONAI's tolerance of the scan's own
    assert np.allclose(grid.affine[:3, 3], scan().geometry.affine[:3, 3])


@pytest.mark.parametrize("first", [True, False])
def test_values_are_sampled_at_multiples_of_the_spacing(first: bool) -> None:
    prepared = prepare(scan(), spec(resample_first=first))
    values = scan().array
    normal = (values - values.mean()) / values.std()
    expected = sampled(values if first else normal, prepared.shape, (1.3, 1.0, 0.7 / 1.5))
    if first:
        expected = (expected - expected.mean()) / expected.std()
    np.testing.assert_allclose(prepared.array[0], expected, atol=2e-5)


def test_scores_and_labels_go_back_by_the_same_places() -> None:
    prepared = prepare(scan(), spec())
    scores = np.random.default_rng(4).normal(size=(2, *prepared.shape)).astype(np.float32)
    back = (1 / 1.3, 1.0, 1.5 / 0.7)
    for found, one in zip(restore_scores(scores, prepared), scores, strict=True):
        np.testing.assert_allclose(found, sampled(one, SHAPE, back), atol=1e-5)
    labels = scores.argmax(0).astype(np.uint8)
    sizes = zip(SHAPE, back, labels.shape, strict=True)
    at = [np.clip(np.rint(np.arange(n) * s), 0, m - 1).astype(int) for n, s, m in sizes]
    assert np.array_equal(restore_labels(labels, prepared).array, labels[np.ix_(*at)])


def test_padding_is_seen_as_the_pad_value_and_takes_no_part_in_the_statistics() -> None:
    volume = scan()
    padding = np.zeros(SHAPE, np.bool_)
    padding[:2] = True
    values = np.where(padding, -2000, volume.array).astype(np.float32)
    prepared = prepare(Volume(values, volume.geometry, padding=padding), spec(resample_first=True))
    assert (prepared.array[0, 0] == 0).all()
    assert np.abs(prepared.array).max() < 6


def test_probabilities_are_made_of_means() -> None:
    logits = np.random.default_rng(5).normal(size=(3, 2, 4, 5)).astype(np.float32)
    weights = np.full((1, 2, 4, 5), 2.5, np.float32)
    weights[0, 0, 0, 0] = 0
    found = HostArrays().softened(Sums(logits * weights, weights), "softmax")
    expected = np.exp(logits) / np.exp(logits).sum(0) * (weights > 0)
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert Decision("highest", soft="softmax").nearest is False


@pytest.mark.parametrize("changes", [{"spacing_mm": None}, {"interpolation": "cubic"}, {"crop": "non-zero"}])
def test_a_grid_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="first-voxel"):
        spec(**changes)
