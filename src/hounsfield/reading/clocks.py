"""DICOM dates, times and ages as numbers (PS3.5 table 6.2-1)."""

from __future__ import annotations

import re
from datetime import date
from typing import Final

_TIME: Final = re.compile(r"^(\d{2})(?::?(\d{2})(?::?(\d{2})(?:\.(\d{1,9}))?)?)?$")
_AGE: Final = re.compile(r"^(\d{1,3})([DWMY]?)$")
_YEARS: Final = {"": 1.0, "D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
DAY_S: Final = 86400.0


def time_s(text: str | None) -> float | None:
    """Seconds after midnight of a TM such as ``"130244.12"``; ``None`` if it is not one."""
    match = _TIME.match(text or "")
    if match is None:
        return None
    hours, minutes, seconds, fraction = match.groups()
    whole = int(hours) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    return whole + (float(f"0.{fraction}") if fraction else 0.0)


def day_of(text: str | None) -> date | None:
    """The day of a DA such as ``"20161122"`` (or ``"2016.11.22"``); ``None`` if it is not one."""
    digits = (text or "").replace(".", "")
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])) if len(digits) == 8 else None
    except ValueError:
        return None


def moment_s(day: str | None, time: str | None) -> float | None:
    """Seconds on one scale from a DA and a TM; without a day, seconds after midnight."""
    seconds = time_s(time)
    if seconds is None:
        return None
    known = day_of(day)
    return seconds if known is None else known.toordinal() * DAY_S + seconds


def datetime_s(text: str | None) -> float | None:
    """Seconds on the scale of ``moment_s`` of a DT; ``None`` without a time. Offsets are local time."""
    bare = re.split(r"[+-]", text or "")[0]
    return moment_s(bare[:8], bare[8:]) if len(bare) > 8 else None


def age_years(age: str | None, birth: str | None, study: str | None) -> float | None:
    """Age from PatientAge, else from the birth and study dates; ``None`` if neither tells.

    A number without its unit (as public chest X-ray sets have) is years; a stated age of 0 with
    dates that say otherwise is taken from the dates.
    """
    match = _AGE.match(age or "")
    stated = None if match is None else int(match.group(1)) * _YEARS[match.group(2)]
    if stated:
        return stated
    born, then = day_of(birth), day_of(study)
    if born is None or then is None or then < born:
        return stated
    return (then - born).days / 365.25
