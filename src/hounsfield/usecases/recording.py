"""Keep the windows that a network is given while a package reads scans: what it really reads, to calibrate with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from hounsfield.inference.engine import Floats
from hounsfield.packages import ModelPackage
from hounsfield.planning import Plan
from hounsfield.usecases.job import Choices
from hounsfield.usecases.sessions import Opened, Sessions

MOST_BYTES = 512 * 2**20


class RecordingSessions(Sessions):
    """Opens networks as :class:`Sessions` does, and keeps copies of windows they are given, evenly spread.

    Parameters
    ----------
    most
        Windows that are wanted in the end.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most, self._every, self._seen = most, 1, 0
        self._kept: list[Floats] = []

    def open(self, package: ModelPackage, choices: Choices, plan: Plan | None = None) -> Opened:
        """The network, listened to."""
        opened = super().open(package, choices, plan)
        return replace(opened, session=_Listened(opened.session, self))

    def keep(self, batch: Floats) -> None:
        """Keep every n-th window; n doubles when there are twice as many as wanted, or too many bytes."""
        for window in batch:
            if self._seen % self._every == 0:
                self._kept.append(window[None].copy())
            self._seen += 1
            if len(self._kept) > max(2 * self._most, 2) or len(self._kept) * window.nbytes > MOST_BYTES:
                self._kept, self._every = self._kept[::2], 2 * self._every

    @property
    def windows(self) -> list[Floats]:
        """At most as many as wanted, (1, channels, k, j, i) float32 each, from all that was read."""
        if len(self._kept) <= self._most:
            return self._kept
        return [self._kept[round(n * (len(self._kept) - 1) / max(1, self._most - 1))] for n in range(self._most)]


class _Listened:
    """A session that hands every batch on, and to the recorder."""

    def __init__(self, session: Any, recorder: RecordingSessions) -> None:
        self._session, self._recorder = session, recorder
        self.precision = session.precision

    def infer(self, batch: Floats) -> Floats:
        self._recorder.keep(batch)
        answer: Floats = self._session.infer(batch)
        return answer

    def stream(self, batches: Iterable[Floats]) -> Iterator[Floats]:
        def heard() -> Iterator[Floats]:
            for batch in batches:
                self._recorder.keep(batch)
                yield batch

        return iter(self._session.stream(heard()))

    def facts(self) -> dict[str, str | int]:
        found: dict[str, str | int] = self._session.facts()
        return found

    def close(self) -> None:
        self._session.close()
