"""Pages of small pictures: the slice of each case that shows most of its label, outlined."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TILE = 160
_TITLE = 14
_COLUMNS = 8
_COLOURS = np.array([(230, 60, 60), (60, 180, 75), (255, 200, 25), (70, 130, 230), (200, 90, 220)], np.uint8)


@dataclass(frozen=True, eq=False)
class Picture:
    """One tile: the case's id and (rows, columns, 3) uint8."""

    case_id: str
    pixels: NDArray[np.uint8]


def picture_of(case_id: str, array: NDArray[Any], label: NDArray[Any] | None) -> Picture:
    """The slice with the most labelled voxels (the middle one without a label), window 1 % to 99 %.

    Parameters
    ----------
    array
        (slices, rows, columns).
    label
        Same shape, or ``None``.
    """
    at = array.shape[0] // 2
    if label is not None and label.any():
        at = int((label > 0).sum((1, 2)).argmax())
    plane = np.nan_to_num(np.asarray(array[at], np.float64), posinf=0.0, neginf=0.0)
    low, high = np.percentile(plane, [1, 99])
    grey = (np.clip((plane - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)
    pixels = np.repeat(grey[:, :, None], 3, axis=2)
    if label is not None:
        values = np.asarray(label[at])
        edge = _edge(values)
        pixels[edge] = _COLOURS[(values[edge].astype(int) - 1) % len(_COLOURS)]
    return Picture(case_id, pixels)


def montage_png(pictures: Sequence[Picture]) -> bytes:
    """One page as PNG: eight tiles per row, each under its id."""
    from PIL import Image, ImageDraw

    rows = -(-len(pictures) // _COLUMNS)
    page = Image.new("RGB", (_COLUMNS * _TILE, rows * (_TILE + _TITLE)), "black")
    draw = ImageDraw.Draw(page)
    for number, picture in enumerate(pictures):
        x, y = number % _COLUMNS * _TILE, number // _COLUMNS * (_TILE + _TITLE)
        tile = Image.fromarray(picture.pixels)
        share = (_TILE - 4) / max(tile.size)
        size = (max(1, round(tile.width * share)), max(1, round(tile.height * share)))
        page.paste(tile.resize(size, Image.Resampling.NEAREST), (x + 2, y + _TITLE))
        draw.text((x + 3, y + 1), picture.case_id[:24], fill="white")
    out = io.BytesIO()
    page.save(out, "PNG")
    return out.getvalue()


def _edge(label: NDArray[Any]) -> NDArray[np.bool_]:
    """Labelled pixels with a neighbour of another value."""
    padded = np.pad(label, 1)
    inner = padded[1:-1, 1:-1]
    others = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    different = np.zeros(label.shape, np.bool_)
    for other in others:
        different |= other != inner
    return different & (label > 0)
