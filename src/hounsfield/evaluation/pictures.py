"""A case as a picture: the slice that differs most, with the outlines of reference and model.

Hung as radiologists read: rows grow to Posterior, columns to Left, on the nearest axial plane.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.evaluation.overlap import Mask
from hounsfield.volume import LabelMap, Quantity, Volume

REFERENCE_RGB: Final = (0, 200, 170)
FOUND_RGB: Final = (255, 138, 31)
_SIDE_PX: Final = 300
_MARGIN_MM: Final = 20.0


@dataclass(frozen=True)
class Picture:
    """A PNG of one slice.

    Parameters
    ----------
    png
        Encoded bytes.
    slice_index
        Slice along the head-foot axis, from 0 at the feet.
    slices
        How many slices there are along it.
    """

    png: bytes
    width: int
    height: int
    slice_index: int
    slices: int

    @property
    def data_url(self) -> str:
        """For ``<img src=...>``."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


def draw_case(scan: Volume, found: LabelMap, reference: LabelMap, number: int) -> Picture:
    """Draw the slice with the most voxels that differ (or the largest slice, if none does).

    Parameters
    ----------
    scan, found, reference
        On the same grid.
    number
        The segment to outline: reference in green, model in orange.
    """
    geometry, order, flips = scan.geometry.reoriented("LPS")
    grey, ours, truth = (
        _turned(array, order, flips) for array in (scan.array, found.array == number, reference.array == number)
    )
    differing = (ours ^ truth).sum(axis=(1, 2))
    counts = differing if differing.any() else (ours | truth).sum(axis=(1, 2))
    k = int(counts.argmax()) if counts.any() else grey.shape[0] // 2
    _, row_mm, column_mm = geometry.spacing_mm
    rows, columns = _window(ours[k] | truth[k], row_mm, column_mm)
    low, high = _grey_range(scan, grey[k])
    picture = np.clip((grey[k][rows, columns].astype(np.float64) - low) / (high - low), 0, 1)
    scale = _SIDE_PX / max(picture.shape[0] * row_mm, picture.shape[1] * column_mm)
    size = (max(1, round(picture.shape[0] * row_mm * scale)), max(1, round(picture.shape[1] * column_mm * scale)))
    rgb = np.repeat(_enlarged((picture * 255).astype(np.uint8), size)[..., None], 3, axis=2)
    for mask, colour in ((truth, REFERENCE_RGB), (ours, FOUND_RGB)):
        rgb[_outline(_enlarged(mask[k][rows, columns], size))] = colour
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "PNG", optimize=True)
    return Picture(stream.getvalue(), size[1], size[0], k, grey.shape[0])


def _turned(array: NDArray[Any], order: tuple[int, ...], flips: tuple[bool, ...]) -> NDArray[Any]:
    step = tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
    turned: NDArray[Any] = array.transpose(order)[step]
    return turned


def _window(mask: Mask, row_mm: float, column_mm: float) -> tuple[slice, slice]:
    """The outlined part with a margin; everything where there is none."""
    if not mask.any():
        return slice(None), slice(None)
    parts = []
    for axis, spacing in ((1, row_mm), (0, column_mm)):
        used = np.flatnonzero(mask.any(axis=axis))
        margin = int(np.ceil(_MARGIN_MM / spacing))
        parts.append(slice(max(0, int(used[0]) - margin), int(used[-1]) + margin + 1))
    return parts[0], parts[1]


def _grey_range(scan: Volume, values: NDArray[Any]) -> tuple[float, float]:
    """From black to white: the 1st to 99th percentile, for HU within a lung-to-bone window."""
    low, high = np.percentile(values.astype(np.float64), [1, 99]).tolist()
    if scan.quantity is Quantity.HU:
        low, high = max(low, -1100.0), min(high, 500.0)
    return (low, high) if high > low else (low, low + 1.0)


def _enlarged(array: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Nearest neighbour, so that voxels stay visible."""
    rows = np.minimum((np.arange(size[0]) + 0.5) * array.shape[0] / size[0], array.shape[0] - 1).astype(int)
    columns = np.minimum((np.arange(size[1]) + 0.5) * array.shape[1] / size[1], array.shape[1] - 1).astype(int)
    larger: NDArray[Any] = array[rows[:, None], columns[None, :]]
    return larger


def _outline(mask: Mask) -> Mask:
    """Pixels of the mask that touch its outside, two pixels thick."""
    inner = mask.copy()
    for _ in range(2):
        padded = np.pad(inner, 1)
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    edge: Mask = mask & ~inner
    return edge
