"""Group commit: what arrives while one transaction is being written goes together into the next."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
_MOST: Final = 256


class GroupCommit(Generic[Item, Outcome]):
    """A thread that commits batches; each submitter learns the outcome once its batch is on disk.

    Parameters
    ----------
    commit
        Writes a batch durably and answers with one outcome per item, in order. What it raises,
        every submitter of the batch gets.
    """

    def __init__(self, commit: Callable[[Sequence[Item]], Sequence[Outcome]]) -> None:
        self._commit = commit
        self._waiting: queue.SimpleQueue[tuple[Item, Future[Outcome]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
        self._thread.start()
        self.batches = 0

    def submit(self, item: Item) -> Future[Outcome]:
        """Hand over one item."""
        promise: Future[Outcome] = Future()
        self._waiting.put((item, promise))
        return promise

    def close(self) -> None:
        """Commit what waits, and end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        open_ = True
        while open_:
            batch = [self._waiting.get()]
            while len(batch) < _MOST:
                try:
                    batch.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            open_ = None not in batch
            self._write([one for one in batch if one is not None])

    def _write(self, batch: list[tuple[Item, Future[Outcome]]]) -> None:
        if not batch:
            return
        self.batches += 1
        asked = [promise.set_running_or_notify_cancel() for _, promise in batch]
        try:
            outcomes = self._commit([item for item, _ in batch])
        except Exception as error:
            for (_, promise), wanted in zip(batch, asked, strict=True):
                if wanted:
                    promise.set_exception(error)
            return
        for (_, promise), wanted, outcome in zip(batch, asked, outcomes, strict=True):
            if wanted:
                promise.set_result(outcome)
