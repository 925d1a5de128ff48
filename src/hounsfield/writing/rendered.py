"""A frame as a picture for any viewer: window, size, JPEG or PNG (PS3.3 C.11.2, PS3.18 8.3.5)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import SettingsError

PictureKind = Literal["jpeg", "png"]
_MOST_PIXELS: Final = 64_000_000


@dataclass(frozen=True)
class Window:
    """Which numbers become black and white.

    Parameters
    ----------
    function
        ``"linear"``, ``"linear-exact"`` or ``"sigmoid"`` (PS3.3 C.11.2.1.2 and C.11.2.1.3).
    """

    centre: float
    width: float
    function: Literal["linear", "linear-exact", "sigmoid"] = "linear"

    def __post_init__(self) -> None:
        if not np.isfinite([self.centre, self.width]).all() or self.width < (1 if self.function == "linear" else 1e-9):
            raise SettingsError("the window has no usable width or centre", "give a positive width")

    def shade(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Numbers to 0 (black) … 1 (white); same shape."""
        values = np.nan_to_num(np.asarray(values, np.float64), nan=-1e30, posinf=1e30, neginf=-1e30)
        if self.function == "sigmoid":
            power = np.clip(-4 * (values - self.centre) / self.width, -700, 700)
            found: NDArray[np.float64] = 1 / (1 + np.exp(power))
            return found
        if self.function == "linear" and self.width == 1:
            return (values > self.centre - 0.5).astype(np.float64)
        less = 1.0 if self.function == "linear" else 0.0
        return np.clip((values - (self.centre - less / 2)) / (self.width - less) + 0.5, 0.0, 1.0)


def whole_range(values: NDArray[Any]) -> Window:
    """The window that shows every number of an image."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return Window((low + high) / 2, max(high - low, 1e-6), "linear-exact")


def picture(
    values: NDArray[Any],
    window: Window | None,
    kind: PictureKind = "jpeg",
    *,
    inverted: bool = False,
    fit_px: tuple[int, int] | None = None,
    quality: int = 90,
) -> bytes:
    """An encoded picture.

    Parameters
    ----------
    values
        (rows, columns) numbers, or (rows, columns, 3) uint8 RGB.
    window
        ``None``: the whole range.
    inverted
        For MONOCHROME1: the smallest numbers are white.
    fit_px
        (width, height) of the room; the picture keeps its proportions.

    Raises
    ------
    SettingsError
        If the picture would be too large.
    """
    from PIL import Image

    if values.ndim == 3:
        shade = np.ascontiguousarray(values, np.uint8)
    else:
        grey = (window or whole_range(values)).shade(values)
        shade = np.rint((1 - grey if inverted else grey) * 255).astype(np.uint8)
    image = Image.fromarray(shade)
    if fit_px is not None:
        share = min(fit_px[0] / image.width, fit_px[1] / image.height)
        size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
        if size[0] * size[1] > _MOST_PIXELS:
            raise SettingsError("the picture would be too large", "ask for a smaller one")
        image = image.resize(size, Image.Resampling.BILINEAR)
    stream = io.BytesIO()
    if kind == "png":
        image.save(stream, format="PNG", compress_level=4)
    else:
        image.save(stream, format="JPEG", quality=quality)
    return stream.getvalue()
