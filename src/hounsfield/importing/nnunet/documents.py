"""Read ``plans.json`` and ``dataset.json``: bounded, without duplicates, and typed access that names the key."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hounsfield.errors import SourceRefused
from hounsfield.importing.claim import printable

MOST_BYTES = 64 * 1024**2


def read_document(path: Path) -> Document:
    """The JSON object in a file.

    Raises
    ------
    SourceRefused
        If it is missing, linked, too large, or no JSON object.
    """
    if path.is_symlink() or not path.is_file():
        raise SourceRefused(f"there is no plain file {path.name}", "give the model's results folder", path.parent)
    if path.stat().st_size > MOST_BYTES:
        raise SourceRefused(f"{path.name} is larger than {MOST_BYTES} bytes", "check the folder", path)
    try:
        table = json.loads(path.read_bytes(), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise SourceRefused(f"{path.name} is not valid JSON ({printable(what)})", "fetch it again", path) from error
    if not isinstance(table, dict):
        raise SourceRefused(f"{path.name} holds no table", "fetch it again", path)
    return Document(path, table)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key appears twice")
    return dict(pairs)


def _no_constant(name: str) -> float:
    """Statistics of unused channels may be NaN; they become NaN and are refused where they are used."""
    return float(name.replace("Infinity", "inf"))


class Document:
    """A table of a JSON file; every access says what it expects and names the key when it is wrong.

    Parameters
    ----------
    path
        The file.
    table
        The part of its content.
    place
        Dotted key of the part.
    """

    def __init__(self, path: Path, table: Mapping[str, Any], place: str = "") -> None:
        self.path, self.table, self.place = path, table, place

    def __contains__(self, key: str) -> bool:
        return key in self.table

    def refuse(self, key: str, what: str) -> SourceRefused:
        """The error that a key is not as it must be."""
        where = printable(f"{self.place}.{key}" if self.place else key, 100)
        return SourceRefused(
            f"{self.path.name}: {where} {what}",
            "this import reads nnU-Net 2 as published; see docs/how-to/import.md",
            self.path,
        )

    def of(self, key: str) -> Document:
        """A table within."""
        value = self.table.get(key)
        if not isinstance(value, Mapping):
            raise self.refuse(key, "is missing or no table")
        return Document(self.path, value, f"{self.place}.{key}" if self.place else key)

    def text(self, key: str, default: str | None = None) -> str:
        """A text."""
        value = self.table.get(key, default)
        if not isinstance(value, str) or len(value) > 200:
            raise self.refuse(key, "is missing or no text")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        value = self.table.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.refuse(key, "is missing or no finite number")
        return float(value)

    def numbers(self, key: str, count: tuple[int, ...], low: float, high: float) -> list[float]:
        """A list of numbers within bounds, of one of the allowed lengths (none given: any up to 64)."""
        value = self.table.get(key)
        if not isinstance(value, list) or len(value) > 64 or (count and len(value) not in count):
            raise self.refuse(key, f"is no list of {' or '.join(map(str, count)) or 'at most 64'} numbers")
        for one in value:
            if isinstance(one, bool) or not isinstance(one, int | float) or not low <= one <= high:
                raise self.refuse(key, f"holds what is no number from {low:g} to {high:g}")
        return [float(one) for one in value]

    def wholes(self, key: str, count: tuple[int, ...], low: int, high: int) -> list[int]:
        """A list of whole numbers within bounds."""
        value = self.numbers(key, count, low, high)
        if any(one != int(one) for one in value):
            raise self.refuse(key, "holds what is no whole number")
        return [int(one) for one in value]

    def per_level(self, key: str, levels: int, low: int, high: int) -> list[int]:
        """A whole number per level, or one for all."""
        if isinstance(self.table.get(key), int):
            return [int(self.table[key])] * levels
        return self.wholes(key, (levels,), low, high)

    def triples(self, key: str, levels: int, low: int, high: int) -> list[list[int]]:
        """Whole numbers (k, j, i) per level; pairs get a 1 in front (2-D networks)."""
        value = self.table.get(key)
        if not isinstance(value, list) or len(value) != levels:
            raise self.refuse(key, f"does not have one entry for each of {levels} levels")
        out = []
        for entry in value:
            entry = entry if isinstance(entry, list) else [entry] * 3
            inner = Document(self.path, {key: entry}, self.place).wholes(key, (2, 3), low, high)
            out.append([1, *inner] if len(inner) == 2 else inner)
        return out

    def none_of(self, *keys: str) -> None:
        """Refuse keys that must be absent or null."""
        for key in keys:
            if self.table.get(key) is not None:
                raise self.refuse(key, f"is {printable(str(self.table[key]), 60)!r}, which is not known here")
