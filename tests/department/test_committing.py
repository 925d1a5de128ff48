"""Group commit: what comes together is written together, and nobody waits for what does not come."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

import pytest

from hounsfield.department.committing import GroupCommit


class _Book:
    """Remembers batches; refuses the item 13."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.may_write = threading.Event()
        self.may_write.set()

    def commit(self, batch: Sequence[int]) -> list[int]:
        self.may_write.wait(10)
        if 13 in batch:
            raise OSError("the storage failed")
        self.batches.append(list(batch))
        return [-one for one in batch]


@pytest.fixture
def book() -> _Book:
    return _Book()


@pytest.fixture
def group(book: _Book) -> Iterator[GroupCommit[int, int]]:
    made: GroupCommit[int, int] = GroupCommit(book.commit)
    yield made
    made.close()


def _send(group: GroupCommit[int, int], item: int) -> Future[int]:
    promise: Future[int] = Future()
    group.announce()
    group.submit(item, promise)
    return promise


def test_each_gets_the_outcome_of_its_own_item(group: GroupCommit[int, int], book: _Book) -> None:
    promises = {item: _send(group, item) for item in range(100, 400)}
    assert all(promise.result(10) == -item for item, promise in promises.items())
    assert sorted(item for batch in book.batches for item in batch) == list(range(100, 400))


def test_what_comes_while_one_is_written_goes_together_into_the_next(group: GroupCommit[int, int], book: _Book) -> None:
    book.may_write.clear()
    first = _send(group, 1)
    while not first.running():
        time.sleep(0.001)
    others = [_send(group, item) for item in (2, 3, 4)]
    book.may_write.set()
    assert [one.result(10) for one in (first, *others)] == [-1, -2, -3, -4]
    assert book.batches == [[1], [2, 3, 4]]


def test_what_was_announced_and_withdrawn_holds_up_nobody(group: GroupCommit[int, int]) -> None:
    group.announce()
    group.withdraw()
    assert _send(group, 5).result(10) == -5
    assert group._coming == 0


def test_what_was_announced_and_never_comes_holds_up_nobody_for_long(group: GroupCommit[int, int]) -> None:
    group.announce()
    assert _send(group, 6).result(10) == -6


def test_a_failed_commit_is_told_to_all_of_its_batch_and_to_nobody_else(
    group: GroupCommit[int, int], book: _Book
) -> None:
    book.may_write.clear()
    first = _send(group, 1)
    while not first.running():
        time.sleep(0.001)
    others = [_send(group, 13), _send(group, 14)]
    book.may_write.set()
    assert first.result(10) == -1
    for one in others:
        with pytest.raises(OSError, match="the storage failed"):
            one.result(10)
    assert _send(group, 15).result(10) == -15
