"""Ways to spoil a package, and how each must be refused: filled by the modules ``spoiled_*``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hounsfield.errors import PackageError

MARKER = "HOSTILE_CODE_RAN"
Spoil = Callable[[Path], None]
CASES: dict[str, tuple[Spoil, type[PackageError], str, bool]] = {}


def hostile(error: type[PackageError], words: str, *, digests: bool = True) -> Callable[[Spoil], Spoil]:
    """Register a variant: how it is spoilt, and how it must be refused."""

    def register(spoil: Spoil) -> Spoil:
        assert spoil.__name__ not in CASES
        CASES[spoil.__name__] = (spoil, error, words, digests)
        return spoil

    return register


class Payload:
    """Leaves a marker when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {MARKER}",))
