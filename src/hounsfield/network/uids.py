"""The grammar of unique identifiers (PS3.5 section 9.1)."""

from __future__ import annotations

import re
from typing import Final

_LONGEST: Final = 64
_UID: Final = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")


def is_uid(text: str) -> bool:
    """Whether a text is a UID: at most 64 characters, digits and dots, no component with a leading zero."""
    return len(text) <= _LONGEST and _UID.fullmatch(text) is not None
