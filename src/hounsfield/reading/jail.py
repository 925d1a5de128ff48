"""Work on untrusted bytes in forked children with limits on memory, processor and wall time.

A child answers JSON over a pipe and voxels through shared memory (``memfd_create``), never a
pickle. A child that crashes, hangs or runs out of memory becomes a ``Failure`` that names the
item it was working on; the others go on.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import mmap
import os
import resource
import selectors
import signal
import struct
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hounsfield.reading.limits import Limits

FailureKind = Literal["refused", "limit", "crash"]
_LENGTH: Final = struct.Struct("<I")
_PATIENCE_S: Final = 1.0


@dataclass(frozen=True)
class Failure:
    """Why one item has no answer.

    ``kind`` is ``"refused"`` (the work itself said no), ``"limit"`` (memory or time), or
    ``"crash"`` (the child died). ``code`` is the issue code that the work gave, if any.
    """

    kind: FailureKind
    reason: str
    code: str = ""


class Refused(Exception):
    """Raised inside a child to answer a ``Failure`` on purpose."""

    def __init__(self, reason: str, code: str = "pixels", kind: FailureKind = "refused") -> None:
        super().__init__(reason)
        self.failure = Failure(kind, reason, code)


def shared_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An uninitialised (zero) array in anonymous shared memory that forked children write into.

    The memory is given back when the last array over it is gone.
    """
    dtype = np.dtype(dtype)
    size = max(1, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
    descriptor = os.memfd_create("hounsfield", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, size)
        mapped = mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)
    return np.frombuffer(mapped, dtype=dtype, count=size // dtype.itemsize)[: int(np.prod(shape))].reshape(shape)


def run_each(
    work: Callable[[int], Any], count: int, limits: Limits, *, workers: int = 1, stall_s: float | None = None
) -> list[Any | Failure]:
    """``work(n)`` for each n below ``count`` in forked children; answers in order.

    Parameters
    ----------
    work
        Called in the child; returns what JSON can carry, or raises ``Refused``.
    workers
        Number of children at a time; each takes every ``workers``-th item.
    stall_s
        Longest time without an answer from a child before it counts as hanging; ``wall_s`` by
        default.

    Returns
    -------
    list
        For each item its answer, or the ``Failure``.
    """
    answers: dict[int, Any | Failure] = {}
    workers = max(1, min(workers, count))
    deadline = time.monotonic() + limits.wall_s
    stall = limits.wall_s if stall_s is None else min(stall_s, limits.wall_s)
    with _Pool(work, limits, stall, deadline, answers) as pool:
        for first in range(workers):
            pool.start(tuple(range(first, count, workers)))
        pool.wait()
    return [answers.get(n, Failure("limit", "there was no time left to read it", "limit")) for n in range(count)]


def run_one(work: Callable[[], Any], limits: Limits) -> Any | Failure:
    """``work()`` in one forked child: its answer, or the ``Failure``."""
    return run_each(lambda _: work(), 1, limits)[0]


@dataclass
class _Child:
    """A running child: what it still owes, and when it last answered."""

    pid: int
    pipe: int
    todo: list[int]
    heard: float
    buffer: bytearray = field(default_factory=bytearray)


class _Pool:
    """Children, their pipes and their ends."""

    def __init__(
        self,
        work: Callable[[int], Any],
        limits: Limits,
        stall_s: float,
        deadline: float,
        answers: dict[int, Any | Failure],
    ) -> None:
        self.work = work
        self.limits = limits
        self.stall_s = stall_s
        self.deadline = deadline
        self.answers = answers
        self.children: dict[int, _Child] = {}
        self.selector = selectors.DefaultSelector()

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for child in list(self.children.values()):
            os.kill(child.pid, signal.SIGKILL)
            self._forget(child)
        self.selector.close()

    def start(self, todo: Sequence[int]) -> None:
        """Fork a child for these items."""
        if not todo:
            return
        reading, writing = os.pipe2(os.O_CLOEXEC)
        with warnings.catch_warnings():
            # The child touches only its own work; Python warns of any fork beside threads.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _be_child(self.work, todo, writing, self.limits)
        os.close(writing)
        child = _Child(pid, reading, list(todo), time.monotonic())
        self.children[reading] = child
        self.selector.register(reading, selectors.EVENT_READ)

    def wait(self) -> None:
        """Collect answers until all children are done, dead or late."""
        while self.children:
            for key, _ in self.selector.select(min(_PATIENCE_S, self.stall_s / 4)):
                self._receive(self.children[key.fd])
            now = time.monotonic()
            for child in list(self.children.values()):
                if now > self.deadline or now - child.heard > self.stall_s:
                    self._fail(child, Failure("limit", "reading it takes more time than allowed", "limit"))

    def _receive(self, child: _Child) -> None:
        data = os.read(child.pipe, 1 << 20)
        child.heard = time.monotonic()
        if not data:
            self._ended(child)
            return
        child.buffer += data
        for number, answer in _messages(child.buffer):
            self.answers[number] = Failure(**answer["failure"]) if "failure" in answer else answer["value"]
            child.todo.remove(number)

    def _ended(self, child: _Child) -> None:
        status = self._forget(child)
        if child.todo:
            self._blame(child, _reason(status))

    def _fail(self, child: _Child, failure: Failure) -> None:
        os.kill(child.pid, signal.SIGKILL)
        self._forget(child)
        if child.todo:
            self._blame(child, failure)

    def _blame(self, child: _Child, failure: Failure) -> None:
        """The item under work gets the failure; a new child takes the rest."""
        self.answers[child.todo[0]] = failure
        if time.monotonic() < self.deadline:
            self.start(child.todo[1:])

    def _forget(self, child: _Child) -> int:
        """Close the pipe, wait for the end, and give the exit status."""
        self.selector.unregister(child.pipe)
        os.close(child.pipe)
        del self.children[child.pipe]
        return os.waitpid(child.pid, 0)[1]


def _reason(status: int) -> Failure:
    code = os.waitstatus_to_exitcode(status)
    if code in (-signal.SIGXCPU, -signal.SIGALRM):
        return Failure("limit", "reading it takes more time than allowed", "limit")
    if code < 0:
        return Failure("crash", f"the decoder crashed on it ({signal.Signals(-code).name})", "pixels")
    return Failure("crash", f"the reading process ended early (exit code {code})", "pixels")


def _messages(buffer: bytearray) -> Iterator[tuple[int, dict[str, Any]]]:
    """Whole messages at the front of a buffer, which are taken out of it."""
    position = 0
    while len(buffer) - position >= _LENGTH.size:
        size = _LENGTH.unpack_from(buffer, position)[0]
        if len(buffer) - position - _LENGTH.size < size:
            break
        start = position + _LENGTH.size
        number, answer = json.loads(bytes(buffer[start : start + size]))
        position = start + size
        yield number, answer
    del buffer[:position]


def _be_child(work: Callable[[int], Any], todo: Sequence[int], pipe: int, limits: Limits) -> None:
    """The whole life of a child; never returns."""
    code = 1
    try:
        _confine(limits)
        for number in todo:
            _send(pipe, number, _answer(work, number))
        code = 0
    finally:
        os._exit(code)


def _confine(limits: Limits) -> None:
    """Limits on what the child may take, silence, and default reactions to signals."""
    gc.disable()
    faulthandler.disable()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    space = _address_space() + limits.headroom_bytes
    for kind, soft in (
        (resource.RLIMIT_AS, space),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
        resource.setrlimit(kind, (soft, hard))
    signal.setitimer(signal.ITIMER_REAL, limits.wall_s + _PATIENCE_S)


def _address_space() -> int:
    """Bytes of address space that this process has now."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[0]) * mmap.PAGESIZE


def _answer(work: Callable[[int], Any], number: int) -> dict[str, Any]:
    try:
        return {"value": work(number)}
    except Refused as refused:
        return {"failure": vars(refused.failure)}
    except (MemoryError, RecursionError):
        return {"failure": vars(Failure("limit", "reading it takes more memory than allowed", "limit"))}
    except Exception as error:
        # The type of an unforeseen error is safe to show, its text may quote the file.
        return {"failure": vars(Failure("refused", f"its content is not valid ({type(error).__name__})", "header"))}


def _send(pipe: int, number: int, answer: dict[str, Any]) -> None:
    data = json.dumps((number, answer)).encode()
    message = memoryview(_LENGTH.pack(len(data)) + data)
    while message:
        message = message[os.write(pipe, message) :]
