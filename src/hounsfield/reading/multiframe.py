"""Enhanced multi-frame instances: shared and per-frame functional groups made flat (PS3.3 C.7.6.16)."""

from __future__ import annotations

from typing import Any, Final

from hounsfield.reading.elements import Malformed

Header = dict[str, Any]

_GROUPS: Final = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
# What describes a segment, a derivation or a reference, not the frame itself
_IGNORED: Final = ("DerivationCodeSequence",)


def split_frames(header: Header) -> tuple[Header, list[Header]]:
    """The header without its functional groups, and one flat header for each frame.

    A value of a frame's own groups goes before the shared one. The list is empty where there
    are no functional groups.

    Raises
    ------
    Malformed
        If the number of groups is not the number of frames.
    """
    rest = {keyword: value for keyword, value in header.items() if keyword not in _GROUPS}
    shared: Header = {}
    for item in header.get("SharedFunctionalGroupsSequence", [])[:1]:
        _flatten(item, shared)
    own = header.get("PerFrameFunctionalGroupsSequence", [])
    count = header.get("NumberOfFrames", 1)
    if not isinstance(count, int):
        raise Malformed("its number of frames is not a number")
    if not own:
        return rest, [dict(shared) for _ in range(count)] if shared and 0 < count <= 1 else []
    if len(own) != count:
        raise Malformed(f"it declares {count} frames and describes {len(own)}")
    frames = []
    for item in own:
        flat = dict(shared)
        _flatten(item, flat)
        frames.append(flat)
    return rest, frames


def _flatten(item: Header, into: Header) -> None:
    """All plain values of an item and of the first items below it, by keyword."""
    for keyword, value in item.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            if keyword not in _IGNORED:
                _flatten(value[0], into)
        else:
            into[keyword] = value
