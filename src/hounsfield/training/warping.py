"""Where the voxels of a training patch come from: turn, scale, flip, shift and elastic field in one grid.

A patch is sampled once, whatever happens to it, so nothing is interpolated twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hounsfield.training.recipe import Augmentation, Elastic
from hounsfield.volume import parse_orientation

Shape = tuple[int, int, int]
_SIDES = {"left-right": 0, "anterior-posterior": 1, "superior-inferior": 2}
_FIELD_LIMIT = 4.0


@dataclass(frozen=True, eq=False)
class Warp:
    """A patch voxel p (relative to the patch's middle) comes from ``matrix @ p + centre + field(p)``.

    Parameters
    ----------
    matrix
        (3, 3) float64, in voxels.
    centre
        (k, j, i) fractional voxel of the case.
    magnitude
        Largest-typical displacement of the elastic field in voxels; 0 for none.
    seed
        Of the field's noise.
    """

    matrix: NDArray[np.float64]
    centre: tuple[float, float, float]
    magnitude: float = 0.0
    sigma: float = 10.0
    seed: int = 0

    def box(self, patch: Shape, case: Shape) -> tuple[slice, slice, slice]:
        """The voxels of the case that the patch can depend on; never empty."""
        half = (np.asarray(patch) - 1) / 2
        reach = np.abs(self.matrix) @ half + self.magnitude * _FIELD_LIMIT
        parts = []
        for middle, extent, size in zip(self.centre, reach, case, strict=True):
            low = min(max(0, math.floor(middle - extent)), size - 1)
            high = min(size, math.ceil(middle + extent) + 1)
            parts.append(slice(low, max(low + 1, high)))
        return parts[0], parts[1], parts[2]

    def grid(self, patch: Shape, box: tuple[slice, slice, slice], device: torch.device) -> Tensor:
        """The sampling grid (1, *patch, 3) for ``grid_sample`` on the box, ``align_corners=True``."""
        axes = [torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2 for n in patch]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        matrix = torch.tensor(self.matrix, dtype=torch.float32, device=device)
        offset = [middle - part.start for middle, part in zip(self.centre, box, strict=True)]
        places = places @ matrix.T + torch.tensor(offset, dtype=torch.float32, device=device)
        if self.magnitude > 0:
            field = smooth_field(3, patch, self.sigma, self.seed, device) * self.magnitude
            places = places + field.clamp(-_FIELD_LIMIT * self.magnitude, _FIELD_LIMIT * self.magnitude).movedim(0, -1)
        sizes = torch.tensor([max(1, part.stop - part.start - 1) for part in box], device=device)
        return (2 * places / sizes - 1).flip(-1)[None]


def smooth_field(channels: int, shape: Shape, sigma: float, seed: int, device: torch.device) -> Tensor:
    """(channels, *shape): Gaussian noise smoothed by a Gaussian of ``sigma`` voxels, unit deviation.

    Made on a control grid with a step of sigma / 2, smoothed there with 2 steps, and enlarged
    linearly, which costs a small fraction of smoothing at full size (Simard 2003 for the idea).
    """
    step = max(1.0, sigma / 2)
    width = sigma / step
    radius = math.ceil(3 * width)
    size = [1 if n == 1 else math.ceil((n - 1) / step) + 2 for n in shape]
    noise_size = [1 if n == 1 else m + 2 * radius for n, m in zip(shape, size, strict=True)]
    generator = torch.Generator().manual_seed(seed)
    field = torch.randn(1, channels, *noise_size, generator=generator)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / width) ** 2)
    kernel = kernel / kernel.square().sum().sqrt()
    for axis, n in enumerate(shape):
        if n > 1:
            view = [1, 1, 1, 1, 1]
            view[axis + 2] = len(kernel)
            field = F.conv3d(field.flatten(0, 1)[:, None], kernel.view(view)).view(
                1, channels, *_after(field, axis, radius)
            )
    field = field.to(device)
    # The patch begins at control point 0; what the control grid has beyond the patch is cut away.
    places = [torch.arange(n, dtype=torch.float32, device=device) / step for n in shape]
    scaled = [2 * p / max(1, m - 1) - 1 for p, m in zip(places, size, strict=True)]
    grid = torch.stack(torch.meshgrid(*scaled, indexing="ij"), -1).flip(-1)[None]
    return F.grid_sample(field, grid, mode="bilinear", padding_mode="border", align_corners=True)[0]


def _after(field: Tensor, axis: int, radius: int) -> list[int]:
    shape = list(field.shape[2:])
    shape[axis] -= 2 * radius
    return shape


def draw_warp(
    rng: np.random.Generator,
    settings: Augmentation,
    centre: tuple[float, float, float],
    patch: Shape,
    spacing_mm: tuple[float, float, float],
    orientation: str,
) -> Warp:
    """A random warp; turns and scales happen in millimetres, so anisotropic voxels are not sheared."""
    flat = patch[0] == 1
    turn = _turn(rng, settings, flat)
    scale = np.ones(3)
    for axis in range(3):
        if rng.random() < settings.scale_probability and not (flat and axis == 0):
            scale[axis] = rng.uniform(*settings.scale)
    for axis, (side, _) in enumerate(parse_orientation(orientation)):
        wanted = any(_SIDES[name] == side for name in settings.flip)
        if wanted and rng.random() < 0.5:
            scale[axis] = -scale[axis]
    shift = rng.uniform(-1, 1, 3) * settings.shift_voxels
    if flat:
        shift[0] = 0.0
    unit = np.diag(spacing_mm)
    matrix = np.linalg.inv(unit) @ turn @ unit @ np.diag(scale)
    elastic: Elastic = settings.elastic
    magnitude = rng.uniform(0.3, 1.0) * elastic.magnitude_voxels if rng.random() < elastic.probability else 0.0
    k, j, i = (float(c + s) for c, s in zip(centre, shift, strict=True))
    return Warp(matrix, (k, j, i), float(magnitude), elastic.sigma_voxels, int(rng.integers(2**31)))


def no_warp(centre: tuple[float, float, float]) -> Warp:
    """The patch as it is."""
    return Warp(np.eye(3), centre)


def _turn(rng: np.random.Generator, settings: Augmentation, flat: bool) -> NDArray[np.float64]:
    """A rotation about the axes k, j, i (flat images turn about k only)."""
    turn = np.eye(3)
    for axis in range(1 if flat else 3):
        if rng.random() >= settings.turn_probability:
            continue
        angle = math.radians(rng.uniform(-settings.turn_degrees, settings.turn_degrees))
        a, b = [n for n in range(3) if n != axis]
        one = np.eye(3)
        one[a, a] = one[b, b] = math.cos(angle)
        one[a, b], one[b, a] = -math.sin(angle), math.sin(angle)
        turn = turn @ one
    return turn


def sample(image: Tensor, grid: Tensor, pad_value: float) -> Tensor:
    """(channels, *box) at the grid: (channels, *patch), linear, ``pad_value`` outside."""
    taken = F.grid_sample(image[None] - pad_value, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return taken[0] + pad_value


def sample_label(label: Tensor, grid: Tensor) -> Tensor:
    """(*box) integers at the grid: (*patch) int64, nearest, 0 outside."""
    taken = F.grid_sample(label[None, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=True)
    return taken[0, 0].long()
