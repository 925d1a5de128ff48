"""What a use case tells its door while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` units of ``stage`` are finished; total 0 means not known."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Note:
    """Something the user should know now, in plain words."""

    message: str
    severity: str = "note"


Event = Progress | Note
OnEvent = Callable[[Event], None]


def silent(event: Event) -> None:
    """Ignore the event."""
