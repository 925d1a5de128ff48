"""Amounts of memory and of time as people write them: ``2GiB``, ``800MB``, ``60s``, ``2h``."""

from __future__ import annotations

import difflib
import math
import re

from hounsfield.errors import SettingsError

_BYTES = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
    "K": 2**10,
    "M": 2**20,
    "G": 2**30,
    "T": 2**40,
}
_SECONDS = {"ms": 0.001, "s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER_AND_UNIT = re.compile(r"\s*([+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*")
_SHOWN = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
_LARGEST_BYTES = 2**60
_LARGEST_SECONDS = 366 * 86400.0


def parse_bytes(text: str) -> int:
    """An amount of memory in bytes.

    ``KB MB GB TB`` are powers of 1000; ``KiB MiB GiB TiB`` and the bare letters ``K M G T`` are
    powers of 1024. Upper and lower case mean the same.

    Raises
    ------
    SettingsError
        If there is no number, no unit, an unknown unit, or less than one byte.
    """
    number, unit = _split(text, "an amount of memory", "2GiB or 800MB")
    factor = _BYTES.get(unit.upper())
    if factor is None:
        names = {"KB": "KB", "MB": "MB", "GB": "GB", "TB": "TB", "KIB": "KiB", "MIB": "MiB", "GIB": "GiB", "TIB": "TiB"}
        near = difflib.get_close_matches(unit.upper(), names, n=1, cutoff=0.4)
        raise _unknown_unit(text, unit, names[near[0]] if near else "GiB", "2GiB or 800MB")
    count = number * factor
    if not 1 <= count <= _LARGEST_BYTES:
        raise SettingsError(f"{text!r} is not a possible amount of memory", "write something like 2GiB or 800MB")
    return round(count)


def parse_seconds(text: str) -> float:
    """A length of time in seconds; units ``ms``, ``s``, ``min`` (or ``m``), ``h``, ``d``.

    Raises
    ------
    SettingsError
        If there is no number, no unit, an unknown unit, or no time at all.
    """
    number, unit = _split(text, "a length of time", "60s, 5min or 2h")
    factor = _SECONDS.get(unit.lower())
    if factor is None:
        near = difflib.get_close_matches(unit.lower(), ["s", "min", "h", "d", "ms"], n=1, cutoff=0.3)
        raise _unknown_unit(text, unit, near[0] if near else "s", "60s, 5min or 2h")
    seconds = number * factor
    if not 0 < seconds <= _LARGEST_SECONDS:
        raise SettingsError(f"{text!r} is not a possible length of time", "write something like 60s, 5min or 2h")
    return seconds


def format_bytes(count: int) -> str:
    """Bytes for people, to four significant digits; ``parse_bytes`` reads it back."""
    for name, size in _SHOWN:
        if count >= size * 0.99995:
            return f"{_four_digits(count / size)}{name}"
    return f"{count}B"


def format_seconds(seconds: float) -> str:
    """Seconds for people, to four significant digits; ``parse_seconds`` reads it back."""
    for name, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size * 2:
            return f"{_four_digits(seconds / size)}{name}"
    return f"{_four_digits(seconds)}s" if seconds >= 0.1 else f"{_four_digits(seconds * 1000)}ms"


def round_up_bytes(count: int) -> int:
    """The next amount that ``format_bytes`` shows exactly, so that typing it back is enough."""
    size = next((size for _, size in _SHOWN if count >= size), 1)
    step = max(1, size // 1000) if size > 1 else 1
    steps = math.ceil(count / step)
    while parse_bytes(format_bytes(steps * step)) < count:
        steps += 1
    return parse_bytes(format_bytes(steps * step))


def round_up_seconds(seconds: float) -> float:
    """The next time that ``format_seconds`` shows exactly, so that typing it back is enough."""
    shown = parse_seconds(format_seconds(seconds))
    return shown if shown >= seconds else parse_seconds(format_seconds(seconds * 1.001))


def _four_digits(value: float) -> str:
    if value == 0:
        return "0"
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _split(text: str, what: str, examples: str) -> tuple[float, str]:
    match = _NUMBER_AND_UNIT.fullmatch(text) if len(text) <= 64 else None
    if match is None:
        raise SettingsError(f"{text[:64]!r} is not {what}", f"write a number and a unit, such as {examples}")
    number, unit = float(match.group(1)), match.group(2)
    if not unit:
        raise SettingsError(f"{text!r} has no unit", f"add one, such as {examples}")
    if not math.isfinite(number):
        raise SettingsError(f"{text!r} is not {what}", f"write a number and a unit, such as {examples}")
    return number, unit


def _unknown_unit(text: str, unit: str, near: str, examples: str) -> SettingsError:
    return SettingsError(
        f"{unit!r} in {text.strip()!r} is not a unit that hounsfield knows",
        f"did you mean {near!r}? Write something like {examples}",
    )
