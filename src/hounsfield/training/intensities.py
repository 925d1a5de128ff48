"""Random changes of the numbers of a patch: noise, blur, low resolution, gamma, contrast, another scanner."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hounsfield.training.recipe import Augmentation, Scanner
from hounsfield.training.warping import smooth_field

_TINY = 1e-8


def change_intensities(image: Tensor, settings: Augmentation, rng: np.random.Generator) -> Tensor:
    """A changed copy of a patch (channels, k, j, i), on its own device; decisions come from ``rng``."""

    def happens(probability: float) -> bool:
        return bool(rng.random() < probability)

    if happens(settings.low_resolution.probability):
        image = low_resolution(image, rng.uniform(*settings.low_resolution.range))
    if happens(settings.blur.probability):
        image = blur(image, rng.uniform(*settings.blur.range))
    if happens(settings.scanner.probability):
        image = other_scanner(image, settings.scanner, rng)
    if happens(settings.gamma.probability):
        image = gamma(image, rng.uniform(*settings.gamma.range), invert=happens(0.15))
    if happens(settings.contrast.probability):
        mean = image.mean((1, 2, 3), keepdim=True)
        image = (image - mean) * rng.uniform(*settings.contrast.range) + mean
    if happens(settings.brightness.probability):
        image = image + rng.uniform(*settings.brightness.range)
    if happens(settings.noise.probability):
        generator = torch.Generator(image.device).manual_seed(int(rng.integers(2**31)))
        deviation = rng.uniform(*settings.noise.range)
        image = image + torch.randn(image.shape, generator=generator, device=image.device) * deviation
    return image


def gamma(image: Tensor, exponent: float, invert: bool = False) -> Tensor:
    """``x ** exponent`` on each channel's range [0, 1]; mean and deviation of the patch are kept."""
    image = -image if invert else image
    flat = image.flatten(1)
    low, high = flat.amin(1)[:, None, None, None], flat.amax(1)[:, None, None, None]
    mean, std = _moments(image)
    changed = ((image - low) / (high - low + _TINY)) ** exponent
    new_mean, new_std = _moments(changed)
    changed = (changed - new_mean) / (new_std + _TINY) * std + mean
    return -changed if invert else changed


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian smoothing by ``sigma`` voxels along every axis that has more than one."""
    radius = max(1, math.ceil(3 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=image.device) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    for axis in range(1, 4):
        if image.shape[axis] > 1:
            view = [1, 1, 1, 1, 1]
            view[axis + 1] = len(kernel)
            padding = [0, 0, 0, 0, 0, 0]
            padding[2 * (3 - axis)] = padding[2 * (3 - axis) + 1] = radius
            padded = F.pad(image[:, None], padding, mode="replicate")
            image = F.conv3d(padded, kernel.view(view))[:, 0]
    return image


def low_resolution(image: Tensor, factor: float) -> Tensor:
    """As if acquired with ``1 / factor`` times the voxel size: shrunk, then enlarged again."""
    size = [n if n == 1 else max(2, round(n * factor)) for n in image.shape[1:]]
    small = F.interpolate(image[None], size=size, mode="nearest-exact")
    return F.interpolate(small, size=image.shape[1:], mode="trilinear", align_corners=False)[0]


def other_scanner(image: Tensor, settings: Scanner, rng: np.random.Generator) -> Tensor:
    """A smooth multiplicative field (coil sensitivity) and a random monotone curve per channel."""
    shape = (image.shape[1], image.shape[2], image.shape[3])
    low = image.flatten(1).amin(1)[:, None, None, None]
    high = image.flatten(1).amax(1)[:, None, None, None]
    scaled = (image - low) / (high - low + _TINY)
    field = smooth_field(1, shape, max(shape) / 2, int(rng.integers(2**31)), image.device)
    scaled = scaled * torch.exp(settings.bias * field)
    knots = 6
    steps = np.exp(rng.normal(0, 4 * settings.curve, (image.shape[0], knots)))
    curve = np.concatenate([np.zeros((image.shape[0], 1)), np.cumsum(steps, 1) / steps.sum(1, keepdims=True)], 1)
    table = torch.tensor(curve, dtype=scaled.dtype, device=image.device)
    place = scaled.clamp(0, 1) * knots
    below = place.floor().clamp(max=knots - 1).long()
    rows = torch.arange(image.shape[0], device=image.device)[:, None, None, None]
    start, end = table[rows, below], table[rows, below + 1]
    changed = start + (end - start) * (place - below) + (scaled - scaled.clamp(0, 1))
    return changed * (high - low) + low


def _moments(image: Tensor) -> tuple[Tensor, Tensor]:
    return image.mean((1, 2, 3), keepdim=True), image.std((1, 2, 3), keepdim=True)
