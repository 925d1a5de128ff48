"""A process that reads scans: jobs as JSON lines in, events and results as JSON lines out.

    python -m hounsfield.usecases.worker FD

Jobs come on standard input, answers go to the file descriptor FD, so that nothing a library
prints can be taken for one. Before the network runs the worker asks for its turn, so that two
workers overlap reading and writing with the other's inference without sharing the processor.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import importlib
import json
import os
import signal
import sys
import tempfile
from typing import Any, Final

from hounsfield.errors import HounsfieldError, InternalError, NotReadable, OutputError
from hounsfield.inference import accelerator
from hounsfield.packages import ModelPackage, open_package
from hounsfield.reading import Series, scan_files
from hounsfield.usecases.events import Event, Note, Progress
from hounsfield.usecases.inferring import infer_stage
from hounsfield.usecases.job import Job, SeriesResult
from hounsfield.usecases.loading import load_stage
from hounsfield.usecases.resident import allow_growth, forget_peak, give_back_free_memory, lift_limit
from hounsfield.usecases.sessions import Sessions
from hounsfield.usecases.stages import result_name
from hounsfield.usecases.storing import write_stage

_MEMORY_WORDS: Final = (
    "bad_alloc",
    "out of memory",
    "cannot allocate",
    "failed to allocate",
    "memoryerror",
    "can't start new thread",
    "failed to map segment",
)


class Channel:
    """What the worker says to its supervisor."""

    def __init__(self, descriptor: int) -> None:
        self._out = os.fdopen(descriptor, "w", encoding="utf-8")

    def say(self, kind: str, **facts: Any) -> None:
        """Send one line."""
        self._out.write(json.dumps({"kind": kind, **facts}) + "\n")
        self._out.flush()

    def event(self, event: Event) -> None:
        """Pass on what a stage tells."""
        if isinstance(event, Progress):
            self.say("progress", stage=event.stage, done=event.done, total=event.total)
        elif isinstance(event, Note):
            self.say("note", message=event.message, severity=event.severity)

    def wait_for_turn(self) -> None:
        """Ask for the processor and wait until it is given."""
        self.say("turn")
        if not sys.stdin.readline():
            raise SystemExit(1)


class Worker:
    """Does one job after the other; package and network are kept between jobs."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._sessions = Sessions()
        self._package: ModelPackage | None = None

    def do(self, job: Job) -> None:
        """Read one series and say what became of it."""
        forget_peak()
        if job.budget_bytes is not None:
            _load_libraries()
            allow_growth(job.budget_bytes)
        try:
            device = job.choices.checked_device()
            if job.device_budget_bytes is not None and device != "cpu":
                accelerator.limit_memory(device, job.device_budget_bytes)
            self._channel.say("result", result=self._read(job).as_dict())
        except Exception as error:
            if _out_of_memory(error):
                self._channel.say("memory")
            else:
                self._channel.say("error", **_described(_in_our_words(error, job), job))
        finally:
            lift_limit()
            gc.collect()

    def _read(self, job: Job) -> SeriesResult:
        package = self._opened(job)
        series = _find(job)
        loaded = load_stage(series, package, job.choices, job.warnings)
        self._channel.wait_for_turn()
        try:
            labelled = infer_stage(loaded, package, job.choices, self._sessions, self._channel.event, job.plan)
        finally:
            self._channel.say("turn-over")
        if not job.keep_network:
            self._sessions.close()  # writing needs room of its own
            give_back_free_memory()
        return write_stage(job.name, series, loaded, labelled, package, job.choices, job.output)

    def _opened(self, job: Job) -> ModelPackage:
        if self._package is None or self._package.digest != job.package_digest:
            self._package = open_package(job.package)
            if self._package.digest != job.package_digest:
                raise NotReadable("the package changed since the run began", "start the run again", job.package)
        return self._package


def _load_libraries() -> None:
    """Load what brings an OpenBLAS before memory is limited: it tries for ever when it gets none while it starts."""
    for name in ("numpy.linalg", "scipy.linalg", "scipy.special", "scipy.ndimage", "scipy.spatial"):
        importlib.import_module(name)


def _find(job: Job) -> Series:
    """The job's series among those in its files."""
    for series in scan_files(job.files, source=job.source).series:
        if result_name(series) == job.name:
            return series
    raise NotReadable("the files of the series changed since the run began", "start the run again", job.source)


def _out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, was a failed allocation.

    An extension that does not expect one may end in a SystemError, or in an error of its own
    whose text says so.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, MemoryError | SystemError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        text = str(error).lower()
        if any(words in text for words in _MEMORY_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def _in_our_words(error: Exception, job: Job) -> HounsfieldError:
    if isinstance(error, HounsfieldError):
        return error
    if isinstance(error, OSError):
        return _refused_by_system(error)
    fact = f"reading this scan failed unexpectedly ({type(error).__name__}: {error})"
    return InternalError(fact, "please report it with the command that was run", job.source)


def _refused_by_system(error: OSError) -> HounsfieldError:
    """A full disk, where spill files or results should go, or another refusal, in plain words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        fact, remedy = "the disk is full", "free some space, or set TMPDIR to a folder with more of it"
        return OutputError(fact, remedy, error.filename or tempfile.gettempdir())
    reason = error.strerror or str(error)
    return OutputError(f"the system refused ({reason})", "check the path and its permissions", error.filename)


def _described(error: HounsfieldError, job: Job) -> dict[str, Any]:
    series = job.name
    return {"result": SeriesResult.not_done(job.name, series, error).as_dict()}


def main() -> None:
    """Do jobs until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    channel = Channel(int(sys.argv[1]))
    worker = Worker(channel)
    channel.say("ready")
    while line := sys.stdin.readline():
        worker.do(Job.from_json(line))


def _die_with_parent() -> None:
    """Ask the kernel to end this process when its supervisor is gone (prctl(2), PR_SET_PDEATHSIG)."""
    set_death_signal = 1
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)


if __name__ == "__main__":
    main()
