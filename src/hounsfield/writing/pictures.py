"""Slices as pictures: three planes of the patient, right proportions, labels on top.

Pictures follow the radiological convention: axial and coronal are seen from the feet and the
front, so the patient's Right is on the left of the picture; sagittal has Anterior on the left.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.volume import Geometry, LabelMap, Quantity, Volume

Rgb = tuple[int, int, int]
Point = tuple[float, float, float]

_SLIVER: Final = 0.12
_FILL: Final = 0.22
_DENSE: Final = 0.55
_SOFT_TISSUE: Final = (-160.0, 240.0)
_LUNG: Final = (-1350.0, 150.0)


class Plane(StrEnum):
    """The three planes of the patient; the value is the caption."""

    AXIAL = "Axial"
    CORONAL = "Coronal"
    SAGITTAL = "Sagittal"


# Plane: fixed axis of a (k to Superior, j to Posterior, i to Left) array, letters at the left,
# right, top and bottom of the picture, whether rows are turned so that Superior is on top.
_LAYOUT: Final[Mapping[Plane, tuple[int, str, bool]]] = {
    Plane.AXIAL: (0, "RLAP", False),
    Plane.CORONAL: (1, "RLSI", True),
    Plane.SAGITTAL: (2, "APSI", True),
}
_POSITION: Final = {Plane.AXIAL: ("S", "I"), Plane.CORONAL: ("P", "A"), Plane.SAGITTAL: ("L", "R")}


@dataclass(frozen=True)
class Picture:
    """One slice, ready for a page.

    Parameters
    ----------
    grey_png, overlay_png
        The scan alone, and the labels alone on a clear ground of the same size.
    size_px
        (width, height).
    letters
        What lies at the left, right, top and bottom: R, L, A, P, S or I.
    position
        Where the slice lies, such as ``"S 12.5 mm"``.
    px_per_mm
        For the scale bar.
    """

    plane: Plane
    grey_png: bytes
    overlay_png: bytes
    size_px: tuple[int, int]
    letters: str
    position: str
    px_per_mm: float


def data_uri(png: bytes) -> str:
    """A picture inside a page, without a second file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


@dataclass(frozen=True, eq=False)
class Stage:
    """A scan and its labels turned so that (k, j, i) run to Superior, Posterior, Left.

    Oblique volumes are turned to the nearest axes, not resampled.
    """

    array: NDArray[Any]
    labels: NDArray[Any]
    geometry: Geometry
    quantity: Quantity

    @classmethod
    def of(cls, volume: Volume, labels: LabelMap) -> Stage:
        """Views, no copies."""
        geometry, order, flips = labels.geometry.reoriented("LPS")
        axes = tuple(axis for axis, flip in enumerate(flips) if flip)
        turned = [np.flip(one.transpose(order), axes) for one in (volume.array, labels.array)]
        return cls(turned[0], turned[1], geometry, volume.quantity)

    def index_of(self, point_mm: Point) -> tuple[int, int, int]:
        """The voxel nearest to an LPS point, inside the array."""
        index = np.rint(self.geometry.mm_to_index(point_mm)).astype(int)
        k, j, i = np.clip(index, 0, np.asarray(self.geometry.shape) - 1).tolist()
        return k, j, i


def display_range(stage: Stage, start: tuple[int, int, int], stop: tuple[int, int, int]) -> tuple[float, float]:
    """Black and white values for the box: CT windows for HU, quantiles for other quantities."""
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    step = tuple(slice(None, None, max(1, (b - a) // 64)) for a, b in zip(start, stop, strict=True))
    values = np.asarray(stage.array[box][step], dtype=np.float64)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    if stage.quantity is Quantity.HU:
        aerated = float(np.mean((values < -500) & (values > -990)))
        return _LUNG if aerated > 0.35 else _SOFT_TISSUE
    low, high = np.quantile(values, [0.005, 0.998]).tolist()
    if stage.quantity is Quantity.SUV_BW:
        low, high = 0.0, max(high, 5.0)
    return low, (high if high > low else low + 1.0)


def box_around(
    stage: Stage, corners_mm: tuple[Point, Point], margin_mm: float, least_mm: float
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """First and past-last voxel of a box around two LPS corners with a margin, inside the array."""
    low, high = np.asarray(corners_mm[0]), np.asarray(corners_mm[1])
    grow = np.maximum(margin_mm, (least_mm - (high - low)) / 2)
    points = np.array(np.meshgrid(*zip(low - grow, high + grow, strict=True))).reshape(3, -1).T
    index = stage.geometry.mm_to_index(points)
    shape = np.asarray(stage.geometry.shape)
    start = np.clip(np.floor(index.min(axis=0)), 0, shape - 1).astype(int)
    stop = np.clip(np.ceil(index.max(axis=0)) + 1, start + 1, shape).astype(int)
    return (int(start[0]), int(start[1]), int(start[2])), (int(stop[0]), int(stop[1]), int(stop[2]))


@dataclass(frozen=True)
class View:
    """What part of a stage to show, how bright, how large, in which colours; ``filled`` draws no outlines."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]
    window: tuple[float, float]
    colours: Mapping[int, Rgb]
    longest_px: int = 340
    filled: bool = False


def richest_slice(
    stage: Stage, plane: Plane, start: tuple[int, int, int], stop: tuple[int, int, int], number: int | None = None
) -> int | None:
    """Index along the axis of ``plane`` of the slice in the box with most voxels of a label.

    ``number`` ``None`` counts every label; ``None`` comes back where the box holds none.
    """
    axis = _LAYOUT[plane][0]
    box = stage.labels[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
    areas = np.count_nonzero(box if number is None else box == number, axis=tuple(n for n in range(3) if n != axis))
    return start[axis] + int(areas.argmax()) if areas.any() else None


def useful_planes(stage: Stage, start: tuple[int, int, int], stop: tuple[int, int, int]) -> tuple[Plane, ...]:
    """The planes in which the box is more than a sliver; at least the largest one."""
    sides = [(b - a) * s for a, b, s in zip(start, stop, stage.geometry.spacing_mm, strict=True)]
    faces = {plane: [side for n, side in enumerate(sides) if n != _LAYOUT[plane][0]] for plane in Plane}
    largest = max(Plane, key=lambda plane: faces[plane][0] * faces[plane][1])
    return tuple(p for p in Plane if p is largest or min(faces[p]) >= _SLIVER * max(faces[p]))


def draw(stage: Stage, plane: Plane, index: tuple[int, int, int], view: View) -> Picture:
    """The slice of ``plane`` through voxel ``index``, cropped to the view, with its labels."""
    from PIL import Image

    axis, letters, upside_down = _LAYOUT[plane]
    cut = tuple(index[n] if n == axis else slice(view.start[n], view.stop[n]) for n in range(3))
    grey, labels = np.asarray(stage.array[cut], dtype=np.float64), np.asarray(stage.labels[cut])
    if upside_down:
        grey, labels = grey[::-1], labels[::-1]
    size, scale = _size(grey.shape, [s for n, s in enumerate(stage.geometry.spacing_mm) if n != axis], view.longest_px)
    low, high = view.window
    shade = np.clip((np.nan_to_num(grey, nan=low) - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    large = np.asarray(Image.fromarray(shade).resize(size, Image.Resampling.BICUBIC))
    marks = np.asarray(Image.fromarray(labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST))
    overlay = _overlay(marks, view.colours, view.filled)
    return Picture(plane, _png(large), _png(overlay), size, letters, _position(stage, plane, axis, index), scale)


def _png(array: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format="PNG", compress_level=6)
    return stream.getvalue()


def _size(shape: tuple[int, ...], spacing_mm: list[float], longest_px: int) -> tuple[tuple[int, int], float]:
    """(width, height) in true proportions, and pixels per mm."""
    height_mm, width_mm = shape[0] * spacing_mm[0], shape[1] * spacing_mm[1]
    scale = longest_px / max(height_mm, width_mm)
    return (max(1, round(width_mm * scale)), max(1, round(height_mm * scale))), scale


def _overlay(marks: NDArray[np.int32], colours: Mapping[int, Rgb], filled: bool) -> NDArray[np.uint8]:
    """(height, width, 4): a light fill and a full line just inside each label's border, or a denser fill alone."""
    picture = np.zeros((*marks.shape, 4), np.uint8)
    padded = np.pad(marks, 2, mode="edge")
    line = np.zeros(marks.shape, bool)
    for y, x in ((0, 2), (4, 2), (2, 0), (2, 4), (1, 2), (3, 2), (2, 1), (2, 3)):
        line |= padded[y : y + marks.shape[0], x : x + marks.shape[1]] != marks
    for number, colour in colours.items():
        inside = marks == number
        picture[inside, :3] = colour
        picture[inside, 3] = round(_DENSE * 255) if filled else np.where(line[inside], 245, round(_FILL * 255))
    return picture


def _position(stage: Stage, plane: Plane, axis: int, index: tuple[int, int, int]) -> str:
    middle = [(n - 1) / 2 for n in stage.geometry.shape]
    middle[axis] = index[axis]
    value = float(stage.geometry.index_to_mm(middle)[2 - axis])
    letter = _POSITION[plane][0 if value >= 0 else 1]
    return f"{letter} {abs(value):.1f} mm"
