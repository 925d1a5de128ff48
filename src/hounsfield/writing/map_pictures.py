"""Maps of numbers over the scan, in colours with a scale, for the report."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.findings.maps import ParameterMap
from hounsfield.volume import LabelMap
from hounsfield.writing.facts import Result
from hounsfield.writing.figure import chip, figure
from hounsfield.writing.files import Written, same, write_checked
from hounsfield.writing.pictures import Picture, Rgb, Stage, View, display_range, draw, richest_slice, useful_planes

LEVELS: Final = 24
_PX: Final = 390
_TOP: Final = 0.98
_STOPS: Final = ((0.0, (40, 60, 190)), (0.35, (40, 190, 200)), (0.65, (250, 220, 60)), (1.0, (220, 40, 30)))


def map_section(title: str, maps: Sequence[ParameterMap], note: str, result: Result, clear_zero: bool = False) -> str:
    """A picture per map in the plane that shows most, with its scale; nothing where there is no map."""
    if not maps:
        return ""
    parts = [_article(one, result, clear_zero) for one in maps]
    return f'<section><h2>{escape(title)}</h2><p class="note">{escape(note)}</p>{"".join(parts)}</section>'


def write_picture(result: Result, one: ParameterMap, path: Path, *, overwrite: bool = False) -> Written:
    """The map over the scan as one PNG (RGB), clear where it is 0; read back and compared.

    Raises
    ------
    OutputError, OutputExists, ReadBackFailed
        See ``hounsfield.writing.files``.
    """
    from PIL import Image

    picture = _drawn(one, result, True)
    grey, overlay = (Image.open(io.BytesIO(png)) for png in (picture.grey_png, picture.overlay_png))
    whole = Image.alpha_composite(grey.convert("RGBA"), overlay).convert("RGB")

    def check(temporary: Path) -> None:
        with Image.open(temporary) as back:
            same("the picture", np.array_equal(np.asarray(back), np.asarray(whole)), path)

    return write_checked(path, "picture", lambda temporary: whole.save(temporary, "PNG"), check, overwrite=overwrite)


def levels_of(values: NDArray[np.float32], limits: tuple[float, float]) -> NDArray[np.uint8]:
    """1 to 24 from the lower to the upper limit, clipped; 0 where nothing is known."""
    low, high = limits
    share = np.clip((np.nan_to_num(values, nan=low) - low) / (high - low), 0, 1)
    return np.where(np.isfinite(values), 1 + np.rint(share * (LEVELS - 1)), 0).astype(np.uint8)


def ramp() -> dict[int, Rgb]:
    """The colour of each level: blue over yellow to red."""
    places = [place for place, _ in _STOPS]
    channels = [
        np.interp(np.linspace(0, 1, LEVELS), places, [colour[n] for _, colour in _STOPS]).round().astype(int).tolist()
        for n in range(3)
    ]
    return {n + 1: (channels[0][n], channels[1][n], channels[2][n]) for n in range(LEVELS)}


def limits_of(one: ParameterMap) -> tuple[float, float]:
    """What the colours span: from 0 (or the least value) to the 98th percentile."""
    known = one.array[np.isfinite(one.array)]
    if not known.size:
        return 0.0, 1.0
    low, high = min(0.0, float(known.min())), float(np.quantile(known, _TOP))
    return low, high if high > low else low + 1.0


def _drawn(one: ParameterMap, result: Result, clear_zero: bool) -> Picture:
    """The plane that shows most of the map."""
    limits = limits_of(one)
    shown = np.where(one.array == 0, np.float32(np.nan), one.array) if clear_zero else one.array
    stage = Stage.of(result.volume, LabelMap(levels_of(shown, limits), result.labels.geometry))
    start, stop = (0, 0, 0), stage.geometry.shape
    view = View(start, stop, display_range(stage, start, stop), ramp(), _PX, filled=True)
    plane = useful_planes(stage, start, stop)[0]
    k, j, i = (n // 2 for n in stage.geometry.shape)
    index = [k, j, i]
    axis = ("Axial", "Coronal", "Sagittal").index(plane.value)
    best = richest_slice(stage, plane, start, stop)
    index[axis] = index[axis] if best is None else best
    return draw(stage, plane, (index[0], index[1], index[2]), view)


def _article(one: ParameterMap, result: Result, clear_zero: bool) -> str:
    limits, colours = limits_of(one), ramp()
    bar = "".join(chip(colours[n]) for n in range(1, LEVELS + 1))
    unit = "" if one.unit.value == "1" else f" {one.unit.value}"
    scale = f"{limits[0]:.3g} {bar} {limits[1]:.3g}{escape(unit)}"
    head = f"<h3>{escape(one.label)} <small>{scale}</small></h3>"
    return f'<article>{head}<div class="row">{figure(_drawn(one, result, clear_zero))}</div></article>'
