"""Plots as inline SVG: intervals, points, curves, reliability. Plain text out, nothing to install."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

INK: Final = "#1f2933"
QUIET: Final = "#8a96a3"
GRID: Final = "#e3e8ee"
BLUE: Final = "#2563a8"
ORANGE: Final = "#c2570c"
_FONT: Final = "font-family='system-ui, sans-serif' font-size='12'"


@dataclass(frozen=True)
class Bar:
    """One line of an interval plot: label, value, its bounds (NaN: none), and a note at its right."""

    label: str
    value: float
    low: float
    high: float
    note: str = ""
    colour: str = BLUE


@dataclass(frozen=True)
class Curve:
    """A line through points; ``marks`` draws the points too."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str = BLUE
    marks: bool = False
    steps: bool = False


@dataclass(frozen=True)
class Frame:
    """Axes of a plot: ranges, names, size in pixels."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    x_name: str
    y_name: str
    width: int = 420
    height: int = 320
    left: int = 76
    bottom: int = 46
    top: int = 14
    right: int = 16

    def x(self, value: float) -> float:
        """Pixel of a value."""
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return self.left + share * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        """Pixel of a value."""
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return self.height - self.bottom - share * (self.height - self.bottom - self.top)


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that cover [low, high]: steps of 1, 2 or 5 times a power of ten."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low]
    raw = span / about
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 5, 10) if size * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def padded(values: Sequence[float], least: float = 1e-6) -> tuple[float, float]:
    """A range that shows all finite values with some room."""
    kept = [value for value in values if math.isfinite(value)]
    if not kept:
        return 0.0, 1.0
    low, high = min(kept), max(kept)
    room = max((high - low) * 0.06, abs(high) * 1e-3, least)
    return low - room, high + room


def interval_plot(bars: Sequence[Bar], name: str, low: float | None = None, high: float | None = None) -> str:
    """Values with their intervals, one below the other, sharing one axis (a forest plot)."""
    numbers = [value for bar in bars for value in (bar.value, bar.low, bar.high)]
    auto_low, auto_high = padded(numbers)
    label_width = 24 + 7 * max((len(bar.label) for bar in bars), default=0)
    note_width = 20 + 7 * max((len(bar.note) for bar in bars), default=0)
    frame = Frame(
        auto_low if low is None else low,
        auto_high if high is None else high,
        0.0,
        1.0,
        name,
        "",
        width=label_width + 360 + note_width,
        height=60 + 26 * len(bars),
        left=label_width,
        right=note_width,
    )
    parts = [_x_axis(frame)]
    for place, bar in enumerate(bars):
        y = frame.top + 13 + 26 * place
        parts.append(_text(frame.left - 10, y + 4, bar.label, "end"))
        parts.append(_text(frame.width - frame.right + 10, y + 4, bar.note, colour=QUIET))
        if math.isfinite(bar.low) and math.isfinite(bar.high):
            x1, x2 = frame.x(bar.low), frame.x(bar.high)
            parts.append(_line(x1, y, x2, y, bar.colour, 2))
            parts += [_line(x, y - 4, x, y + 4, bar.colour, 2) for x in (x1, x2)]
        if math.isfinite(bar.value):
            parts.append(_dot(frame.x(bar.value), y, bar.colour, 4.5, bar.label))
    return _svg(frame, parts, f"{name}: " + "; ".join(f"{bar.label} {bar.value:.3g}" for bar in bars))


def point_plot(
    groups: Sequence[Curve], frame: Frame, levels: Sequence[tuple[float, str]] = (), diagonal: bool = False
) -> str:
    """Points, with horizontal levels that have a name, or the diagonal."""
    parts = [_x_axis(frame), _y_axis(frame)]
    if diagonal:
        parts.append(_diagonal(frame))
    for level, label in levels:
        if frame.y_low <= level <= frame.y_high:
            y = frame.y(level)
            parts.append(_line(frame.left, y, frame.width - frame.right, y, QUIET, 1, "5 4"))
            parts.append(_text(frame.width - frame.right, y - 4, label, "end", QUIET))
    for group in groups:
        for x, y in zip(group.x, group.y, strict=True):
            if math.isfinite(x) and math.isfinite(y):
                parts.append(_dot(frame.x(x), frame.y(y), group.colour, 3, group.label, 0.55))
    return _svg(frame, [*parts, _legend(frame, groups)], f"{frame.y_name} against {frame.x_name}")


def curve_plot(curves: Sequence[Curve], frame: Frame, diagonal: bool = False) -> str:
    """Lines: ROC, FROC, reliability."""
    parts = [_x_axis(frame), _y_axis(frame)]
    if diagonal:
        parts.append(_diagonal(frame))
    for curve in curves:
        points = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
        if curve.steps:
            points = [p for a, b in itertools.pairwise(points) for p in (a, (b[0], a[1]))] + points[-1:]
        shown = [(frame.x(min(max(x, frame.x_low), frame.x_high)), frame.y(y)) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in shown)
        parts.append(f"<polyline points='{path}' fill='none' stroke='{curve.colour}' stroke-width='2'/>")
        if curve.marks:
            parts += [_dot(x, y, curve.colour, 3.5, curve.label) for x, y in shown]
    return _svg(frame, [*parts, _legend(frame, curves)], f"{frame.y_name} against {frame.x_name}")


def _svg(frame: Frame, parts: Sequence[str], description: str) -> str:
    label = escape(description, quote=True)
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {frame.width} {frame.height}' "
        f"width='{frame.width}' height='{frame.height}' role='img' aria-label='{label}' {_FONT}>"
    )
    return head + "".join(parts) + "</svg>"


def _x_axis(frame: Frame) -> str:
    floor = frame.height - frame.bottom
    parts = []
    for tick in nice_ticks(frame.x_low, frame.x_high):
        x = frame.x(tick)
        parts.append(_line(x, frame.top, x, floor, GRID, 1))
        parts.append(_text(x, floor + 16, f"{tick:g}", "middle", QUIET))
    parts.append(_line(frame.left, floor, frame.width - frame.right, floor, QUIET, 1))
    parts.append(_text((frame.left + frame.width - frame.right) / 2, frame.height - 10, frame.x_name, "middle"))
    return "".join(parts)


def _y_axis(frame: Frame) -> str:
    parts = []
    for tick in nice_ticks(frame.y_low, frame.y_high):
        y = frame.y(tick)
        parts.append(_line(frame.left, y, frame.width - frame.right, y, GRID, 1))
        parts.append(_text(frame.left - 8, y + 4, f"{tick:g}", "end", QUIET))
    parts.append(_line(frame.left, frame.top, frame.left, frame.height - frame.bottom, QUIET, 1))
    middle = (frame.top + frame.height - frame.bottom) / 2
    parts.append(
        f"<text x='14' y='{middle:.1f}' text-anchor='middle' fill='{INK}' "
        f"transform='rotate(-90 14 {middle:.1f})'>{escape(frame.y_name)}</text>"
    )
    return "".join(parts)


def _diagonal(frame: Frame) -> str:
    low, high = max(frame.x_low, frame.y_low), min(frame.x_high, frame.y_high)
    return _line(frame.x(low), frame.y(low), frame.x(high), frame.y(high), QUIET, 1, "5 4")


def _legend(frame: Frame, curves: Sequence[Curve]) -> str:
    named = [curve for curve in curves if curve.label]
    if len(named) < 2:
        return ""
    parts = []
    for place, curve in enumerate(named):
        y = frame.top + 12 + 18 * place
        parts.append(_dot(frame.left + 14, y, curve.colour, 4, curve.label))
        parts.append(_text(frame.left + 24, y + 4, curve.label))
    return "".join(parts)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float, dashes: str = "") -> str:
    dash = f" stroke-dasharray='{dashes}'" if dashes else ""
    return (
        f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{colour}' "
        f"stroke-width='{width:g}'{dash}/>"
    )


def _dot(x: float, y: float, colour: str, radius: float, title: str = "", opacity: float = 1.0) -> str:
    inside = f"<title>{escape(title)}</title>" if title else ""
    return (
        f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{radius:g}' fill='{colour}' fill-opacity='{opacity:g}'>{inside}</circle>"
    )


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = INK) -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' fill='{colour}'>{escape(text)}</text>"
