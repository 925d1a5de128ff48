"""The record beside (or instead of) a scan: numbers by name, checked against the package's columns."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import DomainRefused, InputError, NotReadable
from hounsfield.packages.answers import ColumnSpec
from hounsfield.writing.facts import RecordValue

_MOST_BYTES: Final = 2**20
_SYNTAX: Final = 'write one JSON object of numbers, such as {"age": 64, "psa": 7.1}; null where a value is missing'


def read_record(path: Path) -> dict[str, Any]:
    """The object of a JSON file.

    Raises
    ------
    NotReadable
        If it cannot be read, or is no JSON object.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise NotReadable("the record is larger than 1 MiB", _SYNTAX, path)
        data = json.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise NotReadable(
            f"the record cannot be read ({(error.strerror or 'error').lower()})", _SYNTAX, path
        ) from error
    except (ValueError, RecursionError) as error:
        raise NotReadable("the record is not JSON", _SYNTAX, path) from error
    if not isinstance(data, dict):
        raise NotReadable("the record is not a JSON object", _SYNTAX, path)
    return data


def checked_record(
    data: Mapping[str, Any], columns: Sequence[ColumnSpec], path: Path | None = None
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """(1, columns) float32 in the package's order, NaN where missing; and the warnings.

    Raises
    ------
    InputError
        If a name is not a column of the package (with a proposal), a value is no number, or a required one
        is missing, or nothing is known at all.
    DomainRefused
        If a value lies outside what the package may read.
    """
    names = [one.name for one in columns]
    for name in data:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"its columns are: {', '.join(names)}"
            raise InputError(f"the package reads no {str(name)[:64]!r}", hint, path)
    values, warnings = [], []
    for one in columns:
        value = _number(data.get(one.name), one.name, path)
        values.append(value)
        if math.isnan(value):
            if one.required:
                raise InputError(f"{one.title} ({one.name}) is missing", "give it: this package needs it", path)
            warnings.append(f"{one.title} is not known and was filled in with the mean of the training data")
        else:
            warnings += _outside(one, value, path)
    if all(math.isnan(value) for value in values):
        raise InputError("not one value of the record is known", _SYNTAX, path)
    return np.array([values], np.float32), tuple(warnings)


def record_values(columns: Sequence[ColumnSpec], values: NDArray[np.float32]) -> tuple[RecordValue, ...]:
    """The record as it was read, for the result."""
    return tuple(
        RecordValue(one.name, one.title, one.unit, None if np.isnan(value) else float(f"{value:.7g}"))
        for one, value in zip(columns, values[0], strict=True)
    )


def _outside(one: ColumnSpec, value: float, path: Path | None) -> list[str]:
    low = one.low is not None and value < one.low
    if not low and not (one.high is not None and value > one.high):
        return []
    unit = "" if one.unit == "1" else f" {one.unit}"
    bound = f"at least {one.low:g}" if low else f"at most {one.high:g}"
    told = f"{one.title} is {value:g}{unit}, the model wants {bound}{unit}"
    if one.breach == "refuse":
        raise DomainRefused(told, "check the value and its unit", path)
    return [told]


def _number(value: Any, name: str, path: Path | None) -> float:
    if value is None or value == "":
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InputError(f"{name} is not a number", _SYNTAX, path)
    try:
        number = float(value)
    except ValueError:
        raise InputError(f"{name} is not a number", _SYNTAX, path) from None
    if not math.isfinite(number):
        raise InputError(f"{name} is not a finite number", "leave it out where it is missing", path)
    return number
