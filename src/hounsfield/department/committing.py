"""Group commit: what arrives while one transaction is being written goes together into the next.

So does what is about to arrive: a commit takes longer than an instance takes from its announcement to
here, so waiting for it, two milliseconds at most, saves a transaction and costs nobody anything who
sends alone.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
_MOST: Final = 256
_PATIENCE_S: Final = 0.002


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
        self._coming = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
        self._thread.start()
        self.batches = 0

    def announce(self) -> None:
        """Say that an item is on its way; :meth:`submit` or :meth:`withdraw` must follow."""
        with self._lock:
            self._coming += 1

    def withdraw(self) -> None:
        """The announced item does not come."""
        with self._lock:
            self._coming -= 1

    def submit(self, item: Item, promise: Future[Outcome]) -> None:
        """Hand over an announced item, and the promise that tells its outcome."""
        self._waiting.put((item, promise))

    def close(self) -> None:
        """Commit what waits, and end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        open_ = True
        while open_:
            batch = self._gather()
            open_ = None not in batch
            self._write([one for one in batch if one is not None])

    def _gather(self) -> list[tuple[Item, Future[Outcome]] | None]:
        """Everything that waits, and what was announced if it comes soon; ``None`` is the end."""
        batch = [self._waiting.get()]
        until = time.monotonic() + _PATIENCE_S
        while len(batch) < _MOST:
            patience = until - time.monotonic() if self._coming > len(batch) else 0.0
            try:
                batch.append(self._waiting.get(timeout=max(0.0, patience)))
            except queue.Empty:
                break
        with self._lock:
            self._coming -= sum(one is not None for one in batch)
        return batch

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
