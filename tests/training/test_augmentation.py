"""What is changed in a patch, against independent arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform, gaussian_filter

from hounsfield.training.intensities import blur, gamma, low_resolution, other_scanner
from hounsfield.training.recipe import Amount, Augmentation, Elastic, Scanner
from hounsfield.training.warping import Warp, draw_warp, no_warp, sample, sample_label, smooth_field

pytestmark = pytest.mark.torch

CPU = torch.device("cpu")
STILL = Augmentation(
    turn_probability=0, scale_probability=0, elastic=Elastic(probability=0), low_resolution=Amount(range=(0.5, 1.0))
)


def cut(image: np.ndarray, warp: Warp, patch: tuple[int, int, int], pad: float = 0.0) -> np.ndarray:
    box = warp.box(patch, image.shape)
    return sample(torch.from_numpy(image[box])[None], warp.grid(patch, box, CPU), pad)[0].numpy()


def test_without_a_warp_the_patch_is_the_image() -> None:
    image = np.random.default_rng(0).normal(size=(9, 11, 13)).astype(np.float32)
    found = cut(image, no_warp((4.5, 5.0, 6.5)), (4, 5, 6))
    np.testing.assert_allclose(found, image[3:7, 3:8, 4:10], atol=1e-5)


def test_outside_is_padding() -> None:
    found = cut(np.ones((4, 4, 4), np.float32), no_warp((1.5, 1.5, 1.5)), (8, 8, 8), pad=-3.0)
    assert found[0, 0, 0] == pytest.approx(-3.0)
    np.testing.assert_allclose(found[2:6, 2:6, 2:6], 1.0, atol=1e-5)


def test_a_turned_and_scaled_patch_equals_scipy() -> None:
    rng = np.random.default_rng(1)
    image = gaussian_filter(rng.normal(size=(20, 22, 24)), 1.5).astype(np.float32)
    settings = Augmentation(turn_probability=1, turn_degrees=25, scale_probability=1, elastic=Elastic(probability=0))
    warp = draw_warp(rng, settings, (9.5, 10.5, 11.5), (8, 8, 8), (2.0, 1.0, 1.0), "LPS")
    offset = np.asarray(warp.centre) - warp.matrix @ np.full(3, 3.5)
    expected = affine_transform(image, warp.matrix, offset, (8, 8, 8), order=1)
    np.testing.assert_allclose(cut(image, warp, (8, 8, 8)), expected, atol=1e-4)


def test_turns_do_not_shear_anisotropic_voxels() -> None:
    rng = np.random.default_rng(2)
    settings = Augmentation(turn_probability=1, turn_degrees=90, scale_probability=0, elastic=Elastic(probability=0))
    spacing = np.diag([5.0, 0.7, 0.7])
    warp = draw_warp(rng, settings, (0, 0, 0), (8, 8, 8), (5.0, 0.7, 0.7), "LPS")
    in_mm = spacing @ warp.matrix @ np.linalg.inv(spacing)
    np.testing.assert_allclose(in_mm @ in_mm.T, np.eye(3), atol=1e-9)


@pytest.mark.parametrize(("orientation", "axis"), [("LPS", 2), ("PLS", 1), ("SPL", 0)])
def test_only_the_named_side_is_flipped(orientation: str, axis: int) -> None:
    settings = STILL.model_copy(update={"flip": ("left-right",)})
    signs = {
        tuple(
            np.sign(
                np.diag(
                    draw_warp(np.random.default_rng(n), settings, (0, 0, 0), (4, 4, 4), (1, 1, 1), orientation).matrix
                )
            )
        )
        for n in range(20)
    }
    flipped = tuple(-1.0 if n == axis else 1.0 for n in range(3))
    assert signs == {(1.0, 1.0, 1.0), flipped}


def test_the_elastic_field_is_as_smooth_as_it_says() -> None:
    sigma = 10.0
    field = torch.stack([smooth_field(3, (40, 40, 40), sigma, seed, CPU) for seed in range(12)]).numpy()
    assert field.std() == pytest.approx(1.0, abs=0.2)
    # White noise smoothed by a Gaussian has the correlation exp(-d^2 / (4 sigma^2)) at distance d.
    for distance in (5, 10, 20):
        a, b = field[..., distance:], field[..., :-distance]
        found = float((a * b).mean() / (field**2).mean())
        assert found == pytest.approx(np.exp(-(distance**2) / (4 * sigma**2)), abs=0.12)


def test_labels_follow_the_image() -> None:
    places = np.meshgrid(*(np.arange(24),) * 3, indexing="ij")
    ball = (sum((p - 12.0) ** 2 for p in places) < 36).astype(np.float32)
    warp = Warp(np.eye(3), (12.5, 11.5, 12.0), magnitude=2.0, seed=3)
    box = warp.box((16, 16, 16), ball.shape)
    grid = warp.grid((16, 16, 16), box, CPU)
    label = sample_label(torch.from_numpy(ball[box].astype(np.int32)), grid).numpy()
    image = sample(torch.from_numpy(ball[box])[None], grid, 0.0)[0].numpy()
    assert (label == (image > 0.5)).mean() > 0.97
    assert 0 < label.sum() < label.size


def test_gamma_keeps_mean_and_deviation() -> None:
    image = torch.rand(2, 8, 8, 8, generator=torch.Generator().manual_seed(0)) * 7 - 3
    changed = gamma(image, 1.4)
    assert not torch.allclose(changed, image, atol=0.05)
    torch.testing.assert_close(changed.mean((1, 2, 3)), image.mean((1, 2, 3)))
    torch.testing.assert_close(changed.std((1, 2, 3)), image.std((1, 2, 3)))
    torch.testing.assert_close(gamma(image, 1.0), image, atol=1e-4, rtol=1e-4)


def test_blur_equals_scipy() -> None:
    image = np.random.default_rng(3).normal(size=(12, 13, 14)).astype(np.float32)
    found = blur(torch.from_numpy(image)[None], 0.8)[0].numpy()
    np.testing.assert_allclose(found, gaussian_filter(image, 0.8, mode="nearest", truncate=3 / 0.8 + 0.1), atol=2e-3)


def test_low_resolution_loses_detail_but_not_the_mean() -> None:
    image = torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(4))
    low = low_resolution(image, 0.5)
    assert low.shape == image.shape
    assert float(low.std()) < 0.8 * float(image.std())


def test_another_scanner_keeps_order_and_range() -> None:
    image = torch.linspace(-1, 3, 512).reshape(1, 8, 8, 8)
    changed = other_scanner(image, Scanner(probability=1, bias=0, curve=0.3), np.random.default_rng(5))
    steps = changed.flatten().diff()
    assert float(steps.min()) >= -1e-5
    assert not torch.allclose(changed, image, atol=0.05)
    torch.testing.assert_close(changed.flatten()[[0, -1]], image.flatten()[[0, -1]], atol=1e-4, rtol=1e-4)


def test_a_flat_image_stays_flat() -> None:
    rng = np.random.default_rng(6)
    settings = Augmentation(turn_probability=1, scale_probability=1, shift_voxels=5, elastic=Elastic(probability=1))
    image = rng.normal(size=(1, 30, 30)).astype(np.float32)
    warp = draw_warp(rng, settings, (0.0, 14.5, 14.5), (1, 16, 16), (1, 1, 1), "LPS")
    found = cut(image, warp, (1, 16, 16))
    assert found.shape == (1, 16, 16)
    assert np.abs(found).mean() > 0.2
