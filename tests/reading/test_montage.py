"""The picture of a scan: sides, aspect, greys, and nothing half-written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reading_grids import rotation

from hounsfield.errors import OutputError, OutputExists
from hounsfield.reading.montage import GreyScale, display_plane, draw_montage, grey_scale, write_montage
from hounsfield.volume import Geometry, Quantity, TimeSeries, Volume, all_orientations

EDGE, BAR, GAP = 20, 26, 4


def phantom(code: str, spacing: tuple[float, float, float] = (2.0, 2.0, 2.0)) -> Volume:
    """Bright in the octant to the patient's left, front and head, in any storage order."""
    grid = Geometry.from_parts((EDGE, EDGE, EDGE), spacing, (0, 0, 0))
    array = np.zeros((EDGE, EDGE, EDGE), np.int16)
    array[EDGE // 2 :, : EDGE // 2, EDGE // 2 :] = 100
    moved, order, flips = grid.reoriented(code)
    return Volume(np.flip(array.transpose(order), [n for n in range(3) if flips[n]]), moved)


def first_tile(picture: Image.Image, number: int, count: int, size: tuple[int, int]) -> np.ndarray:
    """The grey values of one tile."""
    columns = (picture.width - GAP) // (size[0] + GAP)
    left = GAP + (number % columns) * (size[0] + GAP)
    top = BAR + GAP + (number // columns) * (size[1] + GAP)
    assert count >= number
    return np.asarray(picture.convert("L"))[top : top + size[1], left : left + size[0]]


def quadrants(tile: np.ndarray) -> tuple[bool, bool, bool, bool]:
    """Whether upper left, upper right, lower left, lower right are bright, away from the letters."""
    h, w = tile.shape
    spots = [(h // 3, w // 3), (h // 3, 2 * w // 3), (2 * h // 3, w // 3), (2 * h // 3, 2 * w // 3)]
    a, b, c, d = (bool(tile[y - 5 : y + 5, x - 5 : x + 5].mean() > 128) for y, x in spots)
    return a, b, c, d


@pytest.mark.parametrize("code", all_orientations())
def test_the_patients_left_is_on_the_right_however_stored(code: str) -> None:
    picture = draw_montage(phantom(code), tile_px=120)
    low, high = (quadrants(first_tile(picture, n, 20, (120, 120))) for n in (2, 17))
    assert low == (False, False, False, False)
    assert high == (False, True, False, False)


@pytest.mark.parametrize(
    ("spacing", "plane", "slices"),
    [
        # coronal: from front to back, the head up: bright up and right in the front slices
        ((2.0, 6.0, 2.0), "coronal", {2: (False, True, False, False), 17: (False,) * 4}),
        # sagittal: from right to left, the front on the left: bright up and left in the left slices
        ((2.0, 2.0, 6.0), "sagittal", {2: (False,) * 4, 17: (True, False, False, False)}),
        ((6.0, 2.0, 2.0), "axial", {2: (False,) * 4, 17: (False, True, False, False)}),
    ],
)
@pytest.mark.parametrize("code", ["LPS", "RAS", "PIR", "SLA"])
def test_thick_slices_are_shown_in_their_plane(
    spacing: tuple[float, float, float], plane: str, slices: dict[int, tuple[bool, ...]], code: str
) -> None:
    volume = phantom(code, spacing)
    assert display_plane(volume.geometry)[0] == plane
    picture = draw_montage(volume, tile_px=120)
    for number, expected in slices.items():
        assert quadrants(first_tile(picture, number, 20, (120, 120))) == expected


def test_oblique_scans_go_to_the_nearest_plane() -> None:
    grid = Geometry.from_parts((8, 64, 64), (5, 1, 1), (0, 0, 0), rotation((20, 10, 0)) @ np.eye(3)[:, ::-1])
    assert display_plane(grid) == ("axial", "LPS")


def test_pixels_have_the_aspect_of_the_patient() -> None:
    volume = Volume(np.zeros((1, 40, 40), np.int16), Geometry.from_parts((1, 40, 40), (9.0, 1.0, 3.0)))
    picture = draw_montage(volume, tile_px=300)
    assert picture.height == 100 + 2 * GAP + 2 * BAR
    assert picture.width == max(300 + 2 * GAP, 480)


def test_hu_is_seen_through_the_soft_tissue_window() -> None:
    grid = Geometry.from_parts((1, 2, 2))
    scale = grey_scale(Volume(np.zeros((1, 2, 2)), grid, Quantity.HU))
    np.testing.assert_array_equal(scale.apply(np.array([-1000, -160, 40, 240, 3000])), (0, 0, 128, 255, 255))


def test_pet_is_dark_where_it_is_hot_and_padding_is_background() -> None:
    grid = Geometry.from_parts((1, 30, 30))
    padding = np.zeros((1, 30, 30), bool)
    padding[:, 15:] = True
    array = np.full((1, 30, 30), 20.0)
    picture = draw_montage(Volume(array, grid, Quantity.SUV_BW, padding), tile_px=200)
    tile = first_tile(picture, 0, 1, (200, 200))
    assert tile[60, 60] == 0
    assert tile[140, 60] == 255


def test_the_background_does_not_set_the_scale_and_nan_is_black() -> None:
    array = np.zeros((4, 50, 50), np.float32)
    array[:, 20:30, 20:30] = np.random.default_rng(1).normal(500, 50, (4, 10, 10))
    array[0, 0, 0] = np.nan
    scale = grey_scale(Volume(array, Geometry.from_parts((4, 50, 50))))
    assert scale.low == 0.0
    assert 550 < scale.high < 700
    assert GreyScale(0, 1).apply(np.array([np.nan])) == 0


def test_a_time_series_shows_its_times() -> None:
    grid = Geometry.from_parts((3, 20, 20))
    array = np.stack([np.full((3, 20, 20), n, np.int16) for n in range(4)])
    picture = draw_montage(TimeSeries(array, grid, (0.0, 1.0, 2.0, 3.0)), tile_px=240)
    spots = [first_tile(picture, n, 4, (240, 240))[60, 60] for n in range(4)]
    assert spots == sorted(spots)
    assert spots[0] < 10
    assert spots[3] > 245


def test_it_does_not_write_over_a_file_nor_leave_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.png"
    assert write_montage(phantom("LPS"), path) == path
    with Image.open(path) as picture:
        assert picture.size == draw_montage(phantom("LPS")).size
    with pytest.raises(OutputExists):
        write_montage(phantom("LPS"), path)

    def full(self: Image.Image, name: Path, **_: object) -> None:
        Path(name).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OutputError, match="No space left"):
        write_montage(phantom("LPS"), tmp_path / "second.png")
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]
