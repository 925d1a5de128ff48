"""A picture of a scan: slices across it, seen the way radiologists hang them.

Axial slices are seen from the feet (the patient's left on the right of the picture), coronal
ones from the front, sagittal ones from the left with the front of the patient on the left.
Pixels have the aspect ratio of the patient, and letters at the edges say which side is which.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import OutputError, OutputExists
from hounsfield.volume import Geometry, Quantity, TimeSeries, Volume

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

_OPPOSITE: Final = {"L": "R", "R": "L", "A": "P", "P": "A", "S": "I", "I": "S"}
# plane -> orientation (columns, rows, slices) of its display, by the patient axis of its normal
_DISPLAYS: Final = {"S": ("axial", "LPS"), "A": ("coronal", "LIP"), "L": ("sagittal", "PIL")}
_THICK: Final = 1.4
_FLAT: Final = 0.2
_AIR_HU: Final = -900.0
_BONE_HU: Final = 4000.0
_SAMPLE: Final = 500_000
_GAP: Final = 4
_Colours = tuple[tuple[int, int, int], tuple[int, int, int]]
_LIGHT: Final[_Colours] = ((255, 221, 87), (0, 0, 0))
_DARK: Final[_Colours] = ((120, 60, 0), (255, 255, 255))
_BAR: Final = 26


@dataclass(frozen=True)
class GreyScale:
    """Which values become black and white.

    Parameters
    ----------
    low, high
        Black and white, in the volume's unit.
    unit
        For the caption.
    inverted
        Whether high values are dark, as in PET.
    """

    low: float
    high: float
    unit: str = ""
    inverted: bool = False

    def apply(self, array: NDArray[Any]) -> NDArray[np.uint8]:
        """Grey values 0 to 255 of an array of any shape."""
        grey = (np.asarray(array, dtype=np.float64) - self.low) / (self.high - self.low) * 255.0
        grey = np.clip(np.nan_to_num(grey, nan=0.0, posinf=255.0, neginf=0.0), 0.0, 255.0)
        result: NDArray[np.uint8] = np.rint(255.0 - grey if self.inverted else grey).astype(np.uint8)
        return result

    @property
    def caption(self) -> str:
        """The range in words."""
        return f"{self.low:.4g} to {self.high:.4g} {self.unit}".strip()


@dataclass(frozen=True, eq=False)
class _Tile:
    """One picture: (rows, columns) values, and the words in its corner."""

    values: NDArray[Any]
    padding: NDArray[np.bool_] | None
    caption: str


def grey_scale(scan: Volume | TimeSeries) -> GreyScale:
    """A sensible grey scale: soft tissue for HU, 0 to 7 for SUV, else the middle 99 % of the values."""
    if scan.quantity is Quantity.HU:
        return GreyScale(-160.0, 240.0, "HU")
    if scan.quantity is Quantity.SUV_BW:
        return GreyScale(0.0, 7.0, "SUVbw", inverted=True)
    values = scan.array.reshape(-1)[:: max(1, scan.array.size // _SAMPLE)].astype(np.float64)
    padding = scan.padding if isinstance(scan, Volume) else None
    if padding is not None:
        values = values[~padding.reshape(-1)[:: max(1, padding.size // _SAMPLE)]]
    values = values[np.isfinite(values)]
    if values.size == 0:
        return GreyScale(0.0, 1.0)
    # background would fill the middle of the values of a label map or a masked scan
    telling = values[values != values.min()]
    low, high = float(values.min()), float(values.max())
    if telling.size > 100:
        low, high = (float(value) for value in np.percentile(telling, (0.5, 99.5)))
        low = min(low, float(values.min())) if low > 0 and values.min() == 0 else low
    if scan.quantity is Quantity.ARBITRARY and low <= _AIR_HU and high < _BONE_HU:
        return GreyScale(-160.0, 240.0, "(taken as HU for the picture)")
    unit = "" if scan.quantity is Quantity.ARBITRARY else scan.quantity.value
    return GreyScale(low, high if high > low else low + 1.0, unit)


def display_plane(geometry: Geometry) -> tuple[str, str]:
    """The plane to show ("axial", "coronal" or "sagittal") and its display orientation code.

    It is the plane across the thickest voxels, in which the scan was made; or else across the
    shortest side of a flat block; axial where neither stands out.
    """
    spacing, extent = geometry.spacing_mm, geometry.extent_mm
    if min(extent) < _FLAT * sorted(extent)[1]:
        axis = int(np.argmin(extent))
    elif max(spacing) > _THICK * sorted(spacing)[1]:
        axis = int(np.argmax(spacing))
    else:
        return _DISPLAYS["S"]
    letter = geometry.orientation[2 - axis]
    return _DISPLAYS.get(letter) or _DISPLAYS[_OPPOSITE[letter]]


def draw_montage(
    scan: Volume | TimeSeries, *, title: str = "", tiles: int = 20, tile_px: int | None = None, oriented: bool = True
) -> Image.Image:
    """Slices spread over a volume, or time points of the middle slice of a time series.

    Parameters
    ----------
    title
        Words above the picture; keep names and ids out.
    tiles
        The most slices to show.
    tile_px
        Length of the longer side of a tile, pixels; by default the fewer the larger.
    oriented
        ``False`` for pictures without a place in the patient: shown as stored, without letters.

    Returns
    -------
    An 8-bit RGB Pillow image.
    """
    from PIL import Image, ImageDraw, ImageFont

    plane, code = display_plane(scan.geometry) if oriented else ("as stored", scan.geometry.orientation)
    geometry, order, flips = scan.geometry.reoriented(code)
    scale = grey_scale(scan)
    pictures = _pictures(scan, geometry, order, flips, tiles)
    width, height = _tile_size(geometry, tile_px or {1: 768, 2: 512, 3: 384, 4: 384}.get(len(pictures), 256))
    columns = _columns(len(pictures), width, height)
    rows = -(-len(pictures) // columns)
    canvas_width = max(columns * (width + _GAP) + _GAP, 480)
    canvas = Image.new("RGB", (canvas_width, rows * (height + _GAP) + _GAP + 2 * _BAR), (24, 24, 24))
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=13)
    for number, tile in enumerate(pictures):
        left = _GAP + (number % columns) * (width + _GAP)
        top = _BAR + _GAP + (number // columns) * (height + _GAP)
        grey = scale.apply(tile.values)
        if tile.padding is not None:
            grey = np.where(tile.padding, np.uint8(255 if scale.inverted else 0), grey)
        picture = Image.fromarray(grey).resize((width, height), Image.Resampling.BILINEAR)
        canvas.paste(picture.convert("RGB"), (left, top))
        colours = _DARK if scale.inverted else _LIGHT
        _write(pen, (left + 4, top + height - 4), tile.caption, font, "ls", colours)
        if oriented:
            _letters(pen, (left, top, width, height), code, font, colours)
    heading = " · ".join(part for part in (title, _size(scan), plane) if part)
    _write(pen, (_GAP + 4, _BAR // 2 + 1), heading, font, "lm")
    footer = f"grey: {scale.caption} · research use only"
    _write(pen, (_GAP + 4, canvas.height - _BAR // 2), footer, font, "lm")
    return canvas


def write_montage(scan: Volume | TimeSeries, path: Path, *, title: str = "", oriented: bool = True) -> Path:
    """Draw a montage into a PNG file, whole or not at all.

    Raises
    ------
    OutputExists
        If there is such a file.
    OutputError
        If it cannot be written.
    """
    if path.exists():
        raise OutputExists("there is such a file already", "give another name, or remove it", path)
    picture = draw_montage(scan, title=title, oriented=oriented)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(temporary, format="PNG", optimize=True)
        temporary.rename(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(
            f"the picture cannot be written ({error.strerror or error})", "check the folder and its free space", path
        ) from error
    return path


def _pictures(
    scan: Volume | TimeSeries,
    geometry: Geometry,
    order: tuple[int, int, int],
    flips: tuple[bool, bool, bool],
    tiles: int,
) -> list[_Tile]:
    axes = tuple(axis for axis in range(3) if flips[axis])
    slices = geometry.shape[0]
    if isinstance(scan, TimeSeries):
        middle = slices // 2
        return [
            _Tile(np.flip(scan.array[n].transpose(order), axes)[middle], None, f"{scan.times_s[n]:.4g} s")
            for n in _spread(len(scan.times_s), tiles, whole=True)
        ]
    array = np.flip(scan.array.transpose(order), axes)
    padding = None if scan.padding is None else np.flip(scan.padding.transpose(order), axes)
    stored = [slices - 1 - n if flips[0] else n for n in range(slices)]
    return [
        _Tile(array[n], None if padding is None else padding[n], f"{'kji'[order[0]]} {stored[n]}")
        for n in _spread(slices, tiles)
    ]


def _spread(count: int, wanted: int, whole: bool = False) -> list[int]:
    """At most ``wanted`` indices spread over ``count``; with ``whole`` the first and last too."""
    if count <= wanted:
        return list(range(count))
    if whole:
        return [int(n) for n in np.rint(np.linspace(0, count - 1, wanted))]
    return [int((n + 0.5) * count / wanted) for n in range(wanted)]


def _tile_size(geometry: Geometry, tile_px: int) -> tuple[int, int]:
    """(width, height) in pixels with the aspect ratio of the patient."""
    _, height_mm, width_mm = geometry.extent_mm
    scale = tile_px / max(height_mm, width_mm)
    return max(16, round(width_mm * scale)), max(16, round(height_mm * scale))


def _columns(count: int, width: int, height: int) -> int:
    """Columns that make the picture about 4 to 3."""
    best = range(1, count + 1)
    return min(best, key=lambda n: abs(np.log(n * width / (-(-count // n) * height) / (4 / 3))))


def _letters(pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], code: str, font: Any, colours: _Colours) -> None:
    """The patient's sides at the edges: ``code`` is where columns and rows grow to."""
    left, top, width, height = box
    right_letter, bottom_letter = code[0], code[1]
    middle, centre = top + height // 2, left + width // 2
    _write(pen, (left + 4, middle), _OPPOSITE[right_letter], font, "lm", colours)
    _write(pen, (left + width - 4, middle), right_letter, font, "rm", colours)
    _write(pen, (centre, top + 3), _OPPOSITE[bottom_letter], font, "mt", colours)
    _write(pen, (centre, top + height - 4), bottom_letter, font, "ms", colours)


def _write(
    pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, font: Any, anchor: str, colours: _Colours = _LIGHT
) -> None:
    """Words with a rim, to be read on any grey."""
    fill, rim = colours
    pen.text(place, text, fill=fill, font=font, anchor=anchor, stroke_width=1, stroke_fill=rim)


def _size(scan: Volume | TimeSeries) -> str:
    shape = " x ".join(str(n) for n in scan.geometry.shape)
    spacing = " x ".join(f"{mm:.3g}" for mm in scan.geometry.spacing_mm)
    times = f"{len(scan.times_s)} times x " if isinstance(scan, TimeSeries) else ""
    return f"{times}{shape} · {spacing} mm · {scan.geometry.orientation}"
