"""Frames of one series apart: by grid and orientation, then by what was measured (echo, phase, b-value ...)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from hounsfield.reading.instances import Frame
from hounsfield.reading.stacking import ABSOLUTE_TOLERANCE_MM, frame_of_reference, places

_ORIENTATION_TOLERANCE: Final = 1e-3
_SPACING_TOLERANCE: Final = 1e-3


def by_grid(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Groups of equal size, frame of reference, orientation and pixel spacing, within tolerance."""
    groups: list[list[Frame]] = []
    known: dict[Any, list[Frame]] = {}
    for frame in frames:
        exact = (_size(frame), frame.orientation, frame.spacing_mm)
        group = known.get(exact)
        if group is None:
            group = next((one for one in groups if _same_grid(one[0], frame)), None)
            if group is None:
                group = []
                groups.append(group)
            known[exact] = group
        group.append(frame)
    return groups


def _size(frame: Frame) -> tuple[int, int, str | None, str]:
    stored = frame.instance.format
    return stored.rows, stored.columns, frame_of_reference(frame), str(frame.get("StackID", ""))


def _same_grid(one: Frame, other: Frame) -> bool:
    return (
        _size(one) == _size(other)
        and np.allclose(one.orientation or 0, other.orientation or 1, rtol=0, atol=_ORIENTATION_TOLERANCE)
        and np.allclose(one.spacing_mm or 0, other.spacing_mm or 1, rtol=_SPACING_TOLERANCE, atol=0)
    )


def distinct_places(frames: Sequence[Frame]) -> int:
    """Number of different slice positions."""
    return int((np.diff(np.sort(places(frames))) > ABSOLUTE_TOLERANCE_MM).sum()) + 1


def partition(frames: Sequence[Frame], key: Callable[[Frame], Any]) -> list[list[Frame]]:
    """Frames by equal key, in the order of first sight."""
    parts: dict[Any, list[Frame]] = {}
    for frame in frames:
        parts.setdefault(key(frame), []).append(frame)
    return list(parts.values())


def _rounded(keyword: str) -> Callable[[Frame], float | None]:
    def key(frame: Frame) -> float | None:
        number = frame.number_of(keyword)
        return None if number is None else round(number, 3)

    return key


# What is measured, by the name shown to the user; each makes volumes of their own.
_MEASURED: Final[tuple[tuple[str, Callable[[Frame], Any]], ...]] = (
    ("image type", lambda frame: frame.image_type),
    ("echo time", lambda frame: None if frame.echo_time_ms is None else round(frame.echo_time_ms, 3)),
    ("b-value", _rounded("DiffusionBValue")),
    ("inversion time", _rounded("InversionTime")),
    ("flip angle", _rounded("FlipAngle")),
    ("kernel", lambda frame: tuple(frame.get("ConvolutionKernel", ()))),
    ("sequence name", lambda frame: frame.get("SequenceName")),
)


def by_measurement(frames: Sequence[Frame]) -> list[tuple[tuple[str, ...], list[Frame]]]:
    """Split frames that share positions by what was measured, where that is the reason.

    Returns
    -------
    list of (labels, frames)
        Labels such as ``("echo time 4.9",)``; empty where nothing was split.
    """
    repeated = len(frames) - distinct_places(frames)
    if repeated == 0 or distinct_places(frames) == 1:
        return [((), list(frames))]
    for name, key in _MEASURED:
        parts = partition(frames, key)
        if len(parts) > 1 and _explains(parts, repeated, distinct_places(frames)):
            split = []
            for part in parts:
                label = f"{name} {_shown(key(part[0]))}"
                split += [((label, *labels), rest) for labels, rest in by_measurement(part)]
            return split
    return [((), list(frames))]


def _explains(parts: list[list[Frame]], repeated: int, distinct: int) -> bool:
    """Whether the parts repeat fewer positions, and most parts cover most positions."""
    left = sum(len(part) - distinct_places(part) for part in parts)
    covers = sorted(distinct_places(part) for part in parts)
    return left < repeated and covers[len(covers) // 2] * 2 >= distinct


def _shown(value: Any) -> str:
    return "\\".join(str(part) for part in value) if isinstance(value, tuple) else str(value)
