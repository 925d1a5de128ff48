"""Every voxel in place: known shapes go through prepare, an exact network, and back.

The phantom's voxels are its labels (0 to 4), the network answers the nearest whole number, so
without resampling 100 % of the voxels must come back, in whatever order and direction the axes
lie in the patient. With resampling SimpleITK, in millimetres, says what must come back.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import SimpleITK as sitk

from hounsfield.inference import Decision, LoadSettings, OnnxGraph, RunSettings, Session, engine, segment
from hounsfield.packages.manifest import InputSpec
from hounsfield.preparing import prepare
from hounsfield.volume import Geometry, Volume, all_orientations

from .graphs import nearest_level

LEVELS = 5
WINDOW = (12, 16, 20)
SHAPE = (26, 41, 35)
SPACING = (3.0, 0.8, 1.25)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    made = engine("openvino").load(OnnxGraph(nearest_level(LEVELS)), LoadSettings("fp32", WINDOW, threads=1))
    yield made
    made.close()


def turn(a: float, b: float, c: float) -> np.ndarray:
    """A rotation by three angles in degrees."""
    out = np.eye(3)
    for axis, angle in enumerate(np.radians((a, b, c))):
        p, q = (n for n in range(3) if n != axis)
        one = np.eye(3)
        one[p, p] = one[q, q] = np.cos(angle)
        one[p, q], one[q, p] = -np.sin(angle), np.sin(angle)
        out = one @ out
    return out


def phantom(geometry: Geometry) -> np.ndarray:
    """Shapes drawn in millimetres: no two patient directions look alike; one voxel stands alone."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij"), -1)
    x, y, z = np.moveaxis(geometry.index_to_mm(index) - np.asarray(geometry.centre_mm), -1, 0)
    labels = np.zeros(geometry.shape, np.int16)
    labels[(x / 14) ** 2 + (y / 10) ** 2 + (z / 25) ** 2 < 1] = 1
    labels[(x > 2) & (x < 9) & (np.abs(y) < 4) & (z > 3)] = 2
    labels[(y + z / 3 > 8)] = 3
    labels[geometry.shape[0] // 4, geometry.shape[1] // 3, geometry.shape[2] // 2] = 4
    return labels


def spec(orientation: str, **more: object) -> InputSpec:
    return InputSpec.model_validate(
        {
            "channels": [{"name": "mr", "modality": "MR"}],
            "orientation": orientation,
            "window": {"shape": WINDOW, "overlap": 0.3, "positions": "even"},
            **more,
        }
    )


def geometry_along(code: str, rotation: np.ndarray) -> Geometry:
    """A grid of ``SHAPE`` and ``SPACING`` whose axes follow ``code``, turned by ``rotation``."""
    axes = np.stack([np.eye(3)["LPS".index(c)] if c in "LPS" else -np.eye(3)["RAI".index(c)] for c in code], axis=1)
    return Geometry.from_parts(SHAPE, SPACING, (12.0, -40.0, 700.0), rotation @ axes[:, ::-1], "1.2.3")


@pytest.mark.parametrize("code", all_orientations())
def test_every_voxel_is_in_place_in_all_orientations(code: str, session: Session) -> None:
    geometry = geometry_along(code, np.eye(3))
    labels = phantom(geometry)
    made = prepare(Volume(labels, geometry), spec("LPS"))
    assert made.geometry.orientation == "LPS"
    out = segment(made, session, spec("LPS").window, Decision("highest")).labels
    assert out.geometry == geometry
    np.testing.assert_array_equal(out.array, labels)
    assert np.unique(labels).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("code", ["LPS", "RAS", "AIR", "PSL"])
@pytest.mark.parametrize("angles", [(20, -35, 12), (44, 10, -40)])
def test_every_voxel_is_in_place_when_oblique(code: str, angles: tuple[int, int, int], session: Session) -> None:
    geometry = geometry_along(code, turn(*angles))
    labels = phantom(geometry)
    for network_axes in ("LPS", "IRP"):
        made = prepare(Volume(labels, geometry), spec(network_axes))
        out = segment(made, session, spec(network_axes).window, Decision("highest")).labels
        np.testing.assert_array_equal(out.array, labels)
        assert out.geometry == geometry


def image(array: np.ndarray, geometry: Geometry) -> sitk.Image:
    one = sitk.GetImageFromArray(array)
    one.SetSpacing(geometry.spacing_mm[::-1])
    one.SetOrigin(geometry.origin_mm)
    one.SetDirection(geometry.direction[:, ::-1].ravel().tolist())
    return one


def onto(array: np.ndarray, source: Geometry, target: Geometry, how: int) -> np.ndarray:
    grid = image(np.zeros(target.shape, np.float64), target)
    return sitk.GetArrayFromImage(sitk.Resample(image(array, source), grid, sitk.Transform(), how))


@pytest.mark.parametrize("code", ["LPS", "RAI", "SPL", "ARI"])
@pytest.mark.parametrize(("kind", "how"), [("linear", sitk.sitkLinear), ("cubic", sitk.sitkBSpline3)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 2.0, 0.9), (5.0, 3.0, 3.0)])
def test_resampled_voxels_are_what_simpleitk_says(
    code: str, kind: str, how: int, spacing: tuple[float, float, float], session: Session
) -> None:
    geometry = geometry_along(code, turn(20, -35, 12))
    labels = phantom(geometry)
    table = spec("LPS", spacing_mm=spacing, interpolation=kind)
    made = prepare(Volume(labels, geometry), table)
    there = onto(labels.astype(np.float64), geometry, made.geometry, how)
    np.testing.assert_allclose(made.array[0], there, atol=5e-5)
    scores = np.stack([onto(2 * c * there - c**2, made.geometry, geometry, sitk.sitkLinear) for c in range(LEVELS)])
    top = np.sort(scores, axis=0)
    clear = top[-1] - top[-2] > 1e-3
    for axis in (0, None):
        out = segment(made, session, table.window, Decision("highest"), settings=RunSettings(axis=axis)).labels
        assert out.geometry == geometry
        np.testing.assert_array_equal(out.array[clear], scores.argmax(0)[clear])
    assert clear.mean() > 0.97


@pytest.mark.parametrize("kind", ["linear", "cubic"])
def test_storing_lazy_or_on_disk_gives_the_same(kind: str, session: Session, tmp_path) -> None:
    geometry = geometry_along("RAI", turn(5, 6, 7))
    scan = Volume(phantom(geometry), geometry)
    table = spec("LPS", spacing_mm=(1.0, 1.1, 1.2), interpolation=kind)
    stored, lazy = prepare(scan, table), prepare(scan, table, lazy=True)
    on_disk = prepare(scan, table, store_in=tmp_path)
    assert lazy.stored is None
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(stored.array, on_disk.array)
    np.testing.assert_allclose(stored.array, lazy.array, atol=1e-5)
    answers = [
        segment(each, session, table.window, Decision("highest")).labels.array for each in (stored, lazy, on_disk)
    ]
    assert np.mean(answers[0] != answers[1]) < 1e-4
    np.testing.assert_array_equal(answers[0], answers[2])
