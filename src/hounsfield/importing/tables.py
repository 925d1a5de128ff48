"""Small JSON files of a source as plain data: bounded, strict, and never evaluated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hounsfield.errors import SourceRefused
from hounsfield.importing.claim import printable

MOST_BYTES = 4 * 1024**2
_MOST_DEPTH = 40


def read_table(path: Path, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """The object in a JSON file.

    Raises
    ------
    SourceRefused
        If it is a link, too large or too deep, no strict JSON, names a key twice, or is no object.
    """
    if path.is_symlink() or not path.is_file():
        raise SourceRefused("it is a link or no plain file", "give the file itself", path)
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise SourceRefused(f"it is larger than {most_bytes} bytes", "a description of a model is small", path)
    try:
        table = json.loads(data.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else printable(str(error), 120)
        raise SourceRefused(f"it is not strict JSON ({what})", "fetch the file again", path) from None
    if not isinstance(table, dict):
        raise SourceRefused("it is not a JSON object", "fetch the file again", path)
    if _depth(table) > _MOST_DEPTH:
        raise SourceRefused("it is nested too deeply", "do not trust the file", path)
    return table


def at(table: Mapping[str, Any], dotted: str, kind: type | tuple[type, ...], path: Path) -> Any:
    """The value of a dotted key, of the kind that it must have.

    Raises
    ------
    SourceRefused
        If it is absent or something else; names the key.
    """
    value: Any = table
    for part in dotted.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise SourceRefused(f"{dotted} is missing or not of the kind that it must be", "fetch the file again", path)
    return value


def whole(value: object, low: int, high: int) -> bool:
    """Whether a value is a whole number from ``low`` to ``high`` (True and False are none)."""
    return type(value) is int and low <= value <= high


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key is named twice")
    return table


def _depth(value: Any) -> int:
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        item, level = waiting.pop()
        deepest = max(deepest, level)
        if level > _MOST_DEPTH:
            return level
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        waiting += [(one, level + 1) for one in inner]
    return deepest
