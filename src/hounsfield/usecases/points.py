"""What the user says of points: X,Y,Z in LPS mm, index:K,J,I, or a file of points."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from hounsfield.errors import InputError, NotReadable, SettingsError
from hounsfield.volume import Place

MOST_POINTS: Final = 100
#: The middle of whatever scan it is resolved in.
MIDDLE: Final = Place(middle=True)
_INDEX: Final = "index:"
_MOST_BYTES: Final = 2**20
_SYNTAX: Final = "give X,Y,Z (LPS mm), index:K,J,I (voxel of the scan), or a file (JSON, DICOM SR or GSPS)"
_JSON: Final = 'write {"points": [{"lps_mm": [x, y, z]}]}; also "ras_mm", "index_kji", "label"'


def read_points(texts: Sequence[str]) -> tuple[Place, ...]:
    """All points of all texts, in order.

    Raises
    ------
    SettingsError
        If a text is none of the three forms.
    InputError
        If a file cannot be read or holds no point, or there are too many.
    """
    places = [place for text in texts for place in _of_text(text)]
    if len(places) > MOST_POINTS:
        raise InputError(f"{len(places)} points were given, at most {MOST_POINTS} are read at once", "give fewer")
    return tuple(places)


def _of_text(text: str) -> tuple[Place, ...]:
    path = Path(text)
    if path.is_file():
        return _of_file(path)
    numbers = _numbers(text.removeprefix(_INDEX).split(","))
    if numbers is None:
        raise SettingsError(f"{text!r} is neither a point nor a file", _SYNTAX)
    return (Place(index=numbers),) if text.startswith(_INDEX) else (Place(lps_mm=numbers),)


def _of_file(path: Path) -> tuple[Place, ...]:
    from hounsfield.reading.marks import read_marks

    with path.open("rb") as file:
        head = file.read(256)
    if head.lstrip()[:1] in (b"{", b"["):
        return _of_json(path)
    return read_marks(path)


def _of_json(path: Path) -> tuple[Place, ...]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise NotReadable("the file of points is larger than 1 MiB", _JSON, path)
        data = json.loads(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise NotReadable("it is not JSON", _JSON, path) from error
    rows = data.get("points") if isinstance(data, dict) else data
    if not isinstance(rows, list) or not rows:
        raise InputError("it has no list of points", _JSON, path)
    return tuple(_of_row(row, number, path) for number, row in enumerate(rows, start=1))


def _of_row(row: Any, number: int, path: Path) -> Place:
    if isinstance(row, dict):
        keys = [key for key in ("lps_mm", "ras_mm", "index_kji") if key in row]
        unknown = sorted(set(row) - {"lps_mm", "ras_mm", "index_kji", "label", "frame_of_reference_uid"})
        if len(keys) == 1 and not unknown and isinstance(row[keys[0]], list):
            found = _numbers(row[keys[0]])
            if found is not None:
                label, frame = str(row.get("label", ""))[:64], row.get("frame_of_reference_uid")
                if keys[0] == "index_kji":
                    return Place(index=found, label=label)
                x, y, z = found
                lps = found if keys[0] == "lps_mm" else (-x, -y, z)
                return Place(lps_mm=lps, frame_of_reference_uid=None if frame is None else str(frame), label=label)
    raise InputError(f"point {number} is not three numbers under one known name", _JSON, path)


def _numbers(parts: Sequence[Any]) -> tuple[float, float, float] | None:
    try:
        x, y, z = (float(part) for part in parts)
    except (ValueError, TypeError):
        return None
    return (x, y, z) if all(math.isfinite(value) for value in (x, y, z)) else None
