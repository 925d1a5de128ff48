"""The curves of a training as a picture: loss on the left axis, validation score on the right."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

_SIZE = (960, 540)
_FRAME = (90, 40, 870, 480)
_LOSS, _SCORE, _GREY = (31, 119, 180), (214, 39, 40), (120, 120, 120)
Points = list[tuple[float, float]]


def curves_png(curve: Sequence[Mapping[str, Any]], metric: str) -> bytes:
    """A PNG of ``curve``: entries with ``step`` and ``loss``, or ``step`` and ``score``."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", _SIZE, "white")
    draw = ImageDraw.Draw(image)
    losses = [(float(p["step"]), float(p["loss"])) for p in curve if "loss" in p]
    scores = [(float(p["step"]), float(p["score"])) for p in curve if "score" in p]
    last = max([1.0, *(step for step, _ in losses + scores)])
    draw.rectangle(_FRAME, outline=_GREY)
    draw.text((_FRAME[0], 14), "training loss", fill=_LOSS)
    draw.text((_FRAME[2] - 130, 14), f"validation {metric}", fill=_SCORE)
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = _FRAME[0] + share * (_FRAME[2] - _FRAME[0])
        draw.line((x, _FRAME[3], x, _FRAME[3] + 5), fill=_GREY)
        draw.text((x - 14, _FRAME[3] + 10), f"{share * last:.0f}", fill=_GREY)
    draw.text(((_FRAME[0] + _FRAME[2]) / 2 - 12, _FRAME[3] + 32), "step", fill=_GREY)
    _line(draw, losses, last, _LOSS, left=True)
    _line(draw, scores, last, _SCORE, left=False)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _line(draw: ImageDraw, points: Points, last: float, colour: tuple[int, int, int], left: bool) -> None:
    if not points:
        return
    low, high = min(value for _, value in points), max(value for _, value in points)
    low = min(0.0, low) if left else low
    high = high if high > low else low + 1.0
    x0, y0, x1, y1 = _FRAME
    places = [(x0 + step / last * (x1 - x0), y1 - (v - low) / (high - low) * (y1 - y0)) for step, v in points]
    if len(places) > 1:
        draw.line(places, fill=colour, width=2)
    for x, y in places[-1:]:
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
    for share in (0, 0.5, 1):
        y = y1 - share * (y1 - y0)
        draw.text((20 if left else x1 + 12, y - 6), f"{low + share * (high - low):.4g}", fill=colour)
