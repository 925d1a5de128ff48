"""Grids that every format is tried on: all 48 orientations, oblique and anisotropic ones."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from hounsfield.volume import Geometry, Volume, all_orientations, parse_orientation

SHAPE = (4, 5, 6)


def rotation(degrees_xyz: tuple[float, float, float]) -> NDArray[np.float64]:
    """A rotation about x, then y, then z."""
    result = np.eye(3)
    for axis, degrees in enumerate(degrees_xyz):
        a, b = [n for n in range(3) if n != axis]
        turn = np.eye(3)
        turn[[a, a, b, b], [a, b, a, b]] = (
            np.cos(np.radians(degrees)),
            -np.sin(np.radians(degrees)),
            np.sin(np.radians(degrees)),
            np.cos(np.radians(degrees)),
        )
        result = turn @ result
    return result


def _direction(code: str) -> NDArray[np.float64]:
    direction = np.zeros((3, 3))
    for column, (axis, sign) in enumerate(parse_orientation(code)):
        direction[axis, column] = sign
    return direction


def _grids() -> dict[str, Geometry]:
    grids = {
        code: Geometry.from_parts(SHAPE, (2.5, 0.7, 0.9), (-31.5, 12.25, 870.125), _direction(code))
        for code in all_orientations()
    }
    for name, degrees in {"tilted": (12.0, 0.0, 0.0), "oblique": (17.0, -23.0, 41.0)}.items():
        grids[name] = Geometry.from_parts(
            SHAPE, (5.0, 0.41, 0.43), (3.5, -200.25, 40.0), rotation(degrees) @ _direction("LPS")
        )
    grids["oblique-mirrored"] = Geometry.from_parts(
        SHAPE, (0.3, 4.0, 1.1), (0.0, 0.0, 0.0), rotation((-35.0, 8.0, 61.0)) @ _direction("RPS")
    )
    return grids


GRIDS = _grids()
every_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())


def voxels(shape: tuple[int, ...] = SHAPE, dtype: str = "int16", seed: int = 1) -> NDArray[np.generic]:
    """Random voxels over the whole range of an integer dtype (or normal numbers), each one telling."""
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return random.normal(size=shape).astype(dtype)
    info = np.iinfo(dtype)
    return random.integers(info.min, info.max, size=shape, dtype=dtype, endpoint=True)


def as_sitk(array: NDArray[np.generic], geometry: Geometry) -> sitk.Image:
    """The volume as SimpleITK's image, by its own rules: indices (i, j, k), LPS mm."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing_mm[::-1])
    image.SetOrigin(geometry.origin_mm)
    image.SetDirection(geometry.direction[:, ::-1].ravel().tolist())
    return image


def assert_as_sitk_reads(volume: Volume, path: Path) -> None:
    """Same voxels, and the centres of all voxels at the same mm, as SimpleITK reads the file."""
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(image))
    k_n, j_n, i_n = volume.shape
    for k, j, i in itertools.product((0, k_n - 1), (0, j_n - 1), (0, i_n - 1)):
        theirs = image.TransformIndexToPhysicalPoint((i, j, k))
        assert np.abs(volume.geometry.index_to_mm((k, j, i)) - theirs).max() < 1e-3


def every_index(shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """All indices (k, j, i) of an array, one a row."""
    return np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1).reshape(-1, 3).astype(float)
