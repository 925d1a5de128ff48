"""Metrics against MONAI's, brute force, and by hand on the edge cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hounsfield.evaluation import dice, hausdorff95_mm, iou, surface_dice, volume_error_ml
from hounsfield.evaluation.surface import surface_distances_mm


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    from scipy import ndimage

    random = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(random.normal(size=(14, 17, 12)), 2) for _ in range(2)]
    return fields[0] > 0, (fields[0] + 0.5 * fields[1]) > 0


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(5))
def test_dice_iou_and_hd95_equal_monai(seed: int) -> None:
    import torch
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou

    found, reference = blobs(seed)
    one, other = (torch.from_numpy(mask)[None, None].float() for mask in (found, reference))
    assert dice(found, reference) == pytest.approx(float(compute_dice(one, other)), abs=1e-6)
    assert iou(found, reference) == pytest.approx(float(compute_iou(one, other)), abs=1e-6)
    spacing = (2.5, 0.7, 1.1)
    theirs = compute_hausdorff_distance(one, other, include_background=True, percentile=95, spacing=list(spacing))
    assert hausdorff95_mm(found, reference, spacing) == pytest.approx(float(theirs), abs=1e-5)


def test_surface_distances_equal_brute_force() -> None:
    found, reference = blobs(7)
    spacing = np.array([2.0, 1.0, 0.5])

    def surface(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask, 1)
        points = [
            index
            for index in np.argwhere(padded)
            if not all(padded[tuple(index + step)] for axis in np.eye(3, dtype=int) for step in (axis, -axis))
        ]
        return np.array(points) * spacing

    a, b = surface(found), surface(reference)
    brute = np.linalg.norm(a[:, None] - b[None], axis=2)
    one, other = surface_distances_mm(found, reference, spacing)
    assert np.sort(one) == pytest.approx(np.sort(brute.min(axis=1)))
    assert np.sort(other) == pytest.approx(np.sort(brute.min(axis=0)))


@pytest.mark.parametrize("size", [6, 28])
def test_few_and_many_surface_voxels_are_searched_differently_with_the_same_result(size: int) -> None:
    from scipy import ndimage

    random = np.random.default_rng(size)
    found, reference = np.zeros((70, 60, 30), bool), np.zeros((70, 60, 30), bool)
    found[1 : 1 + size, 2 : 2 + size, 1 : 1 + size] = True
    reference[69 - size : 69, 58 - size : 58, 1 : 1 + size] = True
    found[:, :, 4:] &= random.random((70, 60, 26)) < 0.9
    spacing = (1.3, 0.7, 0.9)
    edges = []
    for mask in (found, reference):
        padded = np.pad(mask, 1)
        edges.append(mask & ~ndimage.binary_erosion(padded)[1:-1, 1:-1, 1:-1])
    one, other = surface_distances_mm(found, reference, spacing)
    assert one == pytest.approx(ndimage.distance_transform_edt(~edges[1], sampling=spacing)[edges[0]])
    assert other == pytest.approx(ndimage.distance_transform_edt(~edges[0], sampling=spacing)[edges[1]])


def test_a_step_of_one_voxel_is_within_a_tolerance_of_one_voxel() -> None:
    mask = np.zeros((60, 60, 60), bool)
    mask[20:40, 20:40, 20:40] = True
    assert surface_dice(np.roll(mask, 1, axis=2), mask, (0.7, 0.7, 0.7), 0.7) == 1.0
    assert surface_dice(np.roll(mask, 2, axis=2), mask, (0.7, 0.7, 0.7), 0.7) < 1.0


def test_edge_cases() -> None:
    empty = np.zeros((4, 4, 4), bool)
    voxel = empty.copy()
    voxel[1, 1, 1] = True
    moved = empty.copy()
    moved[3, 1, 1] = True
    assert dice(empty, empty) == iou(empty, empty) == 1.0
    assert dice(voxel, empty) == iou(empty, voxel) == 0.0
    assert hausdorff95_mm(empty, empty, (1, 1, 1)) == 0.0
    assert math.isinf(hausdorff95_mm(voxel, empty, (1, 1, 1)))
    assert hausdorff95_mm(voxel, moved, (2.5, 1, 1)) == 5.0
    assert surface_dice(voxel, moved, (2.5, 1, 1), 4.9) == 0.0
    assert surface_dice(voxel, moved, (2.5, 1, 1), 5.0) == 1.0
    assert surface_dice(empty, empty, (1, 1, 1), 1) == 1.0
    assert surface_dice(empty, voxel, (1, 1, 1), 1) == 0.0
    assert volume_error_ml(voxel, empty, 500.0) == 0.5
