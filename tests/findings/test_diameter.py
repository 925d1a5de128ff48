"""Diameters against a brute force over all voxels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hounsfield.findings.diameter import axial_diameters, longest_diameter_mm, outer_voxels
from hounsfield.volume import Geometry


def oblique(shape: tuple[int, int, int]) -> Geometry:
    """An anisotropic grid, turned by 20 degrees about x and 10 about z."""
    a, b = np.radians(20), np.radians(10)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    direction = (about_x @ about_z)[:, ::-1]
    return Geometry.from_parts(shape, (3.0, 0.7, 0.9), (-20, 31, 7), direction)


def brute_force_mm(mask: NDArray[np.bool_], geometry: Geometry) -> float:
    points = geometry.index_to_mm(np.argwhere(mask))
    return max(float(np.linalg.norm(points - one, axis=1).max()) for one in points)


def brute_force_axial(mask: NDArray[np.bool_], geometry: Geometry) -> tuple[float, float]:
    """Per slice k: every pair, and the extent across the best pair, in 3-D vectors."""
    best = (0.0, 0.0)
    for k in range(mask.shape[0]):
        index = np.argwhere(mask[k])
        points = geometry.index_to_mm(np.column_stack([np.full(len(index), k), index]))
        for a, b in itertools.combinations(points, 2):
            long = float(np.linalg.norm(b - a))
            if long < best[0] - 1e-6:
                continue
            across = np.cross((b - a) / long, geometry.direction[:, 0])
            short = float(np.ptp(points @ across))
            if long > best[0] + 1e-6 or short > best[1]:
                best = (max(long, best[0]), short)
    return best


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.9))
def test_equals_brute_force_on_random_masks(seed: int, density: float) -> None:
    mask = np.random.default_rng(seed).random((4, 6, 5)) < density
    mask[0, 0, 0] = True
    geometry = oblique((4, 6, 5))
    points = geometry.index_to_mm(outer_voxels(mask))
    assert longest_diameter_mm(points) == pytest.approx(brute_force_mm(mask, geometry), abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.7))
def test_axial_equals_brute_force(seed: int, density: float) -> None:
    mask = np.random.default_rng(seed).random((3, 6, 5)) < density
    mask[1, 2, 1:3] = True
    geometry = oblique((3, 6, 5))
    found = axial_diameters(mask, geometry)
    assert found is not None
    expected = brute_force_axial(mask, geometry)
    assert (found.long_mm, found.short_mm) == pytest.approx(expected, abs=1e-6)


def test_large_ball_through_the_hull() -> None:
    index = np.indices((81, 81, 81)) - 40
    mask = (index**2).sum(axis=0) <= 39.5**2
    geometry = Geometry.from_parts(mask.shape, (1, 1, 1))
    outer = outer_voxels(mask)
    assert len(outer) > 512
    everything = geometry.index_to_mm(np.argwhere(mask & ((index**2).sum(axis=0) > 39.2**2)))
    brute = max(float(np.linalg.norm(everything - one, axis=1).max()) for one in everything)
    assert longest_diameter_mm(geometry.index_to_mm(outer)) == pytest.approx(brute, abs=1e-9)


def test_flat_and_straight_sets_too_large_for_a_hull() -> None:
    flat = np.zeros((1, 900, 900), bool)
    flat[0, :, :] = (np.indices((900, 900)) - 450).__pow__(2).sum(axis=0) < 440**2
    geometry = Geometry.from_parts(flat.shape, (2.0, 0.5, 0.5))
    longest = longest_diameter_mm(geometry.index_to_mm(outer_voxels(flat)))
    assert longest == pytest.approx(2 * 439.9 * 0.5, abs=0.3)
    axial = axial_diameters(flat, geometry)
    assert axial is not None
    assert axial.long_mm == pytest.approx(longest, abs=1e-9)
    assert axial.short_mm == pytest.approx(longest, abs=0.6)


def test_axial_slices_are_found_in_a_sagittal_volume() -> None:
    """Index axes k to Left, j to Inferior, i to Posterior: axial slices run across j."""
    geometry = Geometry.from_parts((5, 7, 9), (1, 1, 1), direction=np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]))
    mask = np.zeros((5, 7, 9), bool)
    mask[2, 0:7, 4] = True
    mask[1:4, 3, 4] = True
    found = axial_diameters(mask, geometry)
    assert found is not None
    assert (found.long_mm, found.short_mm, found.slice_index) == (2.0, 0.0, 3)


def test_one_voxel_has_no_diameter() -> None:
    mask = np.ones((1, 1, 1), bool)
    geometry = Geometry.from_parts((1, 1, 1), (1, 1, 1))
    assert longest_diameter_mm(geometry.index_to_mm(outer_voxels(mask))) == 0.0
    assert axial_diameters(mask, geometry) is None
