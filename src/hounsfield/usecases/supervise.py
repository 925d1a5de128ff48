"""Worker processes watched over: turns, memory, crashes; one result for every job.

The supervisor looks at each worker's resident memory many times a second. A worker that comes
near its budget is killed before it passes it, and its job starts again with a smaller plan;
when there is none the job ends with the facts.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from hounsfield.errors import DoesNotFit, EngineError, HounsfieldError
from hounsfield.planning import Plan, format_bytes
from hounsfield.usecases.events import Note, OnEvent, Progress
from hounsfield.usecases.job import Job, SeriesResult
from hounsfield.usecases.resident import tree_bytes

_LOOK_SECONDS: Final = 0.005
_NEAR: Final = 0.98
_TRIES: Final = 4
_SILENT_SECONDS: Final = 900.0

#: a smaller plan for a job, given the share of the budget that its prediction may take
Replan = Callable[[Job, float], Plan]


@dataclass
class _Watched:
    """One worker process, its job, and what was seen of it."""

    process: subprocess.Popen[bytes]
    pipe: int
    job: Job | None = None
    tries: int = 0
    peak_bytes: int = 0
    wants_turn: bool = False
    has_turn: bool = False
    over: bool = False
    unread: bytes = b""
    heard: float = field(default_factory=time.monotonic)
    silent: bool = False
    seen_bytes: int = 0


@dataclass
class Supervisor:
    """Runs jobs in ``workers`` processes.

    Parameters
    ----------
    replan
        Called when a worker came too near its budget; raises DoesNotFit when nothing is smaller.
    silent_seconds
        A worker that says nothing for so long is taken for stuck and killed.
    """

    on_event: OnEvent
    workers: int = 1
    replan: Replan | None = None
    silent_seconds: float = _SILENT_SECONDS
    _alive: list[_Watched] = field(default_factory=list)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def run(self, jobs: Iterable[Job]) -> Iterator[SeriesResult]:
        """One result per job, as they come; on leaving, every worker is gone."""
        waiting = deque(jobs)
        try:
            while waiting or any(one.job for one in self._alive):
                self._employ(waiting)
                for key, _ in self._selector.select(_LOOK_SECONDS):
                    yield from self._hear(key.data)
                for watched in list(self._alive):
                    self._look(watched)
                self._give_turn()
        finally:
            for watched in list(self._alive):
                self._dismiss(watched)
            self._selector.close()

    def _employ(self, waiting: deque[Job]) -> None:
        idle = [one for one in self._alive if one.job is None]
        while waiting and (idle or len(self._alive) < self.workers):
            watched = idle.pop() if idle else self._start()
            self._assign(watched, waiting.popleft(), 0)

    def _start(self) -> _Watched:
        reading, writing = os.pipe()
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "hounsfield.usecases.worker", str(writing)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(writing,),
            start_new_session=True,
        )
        os.close(writing)
        watched = _Watched(process, reading)
        self._alive.append(watched)
        self._selector.register(reading, selectors.EVENT_READ, watched)
        return watched

    def _assign(self, watched: _Watched, job: Job, tries: int) -> None:
        watched.job, watched.tries, watched.peak_bytes, watched.heard = job, tries, 0, time.monotonic()
        self._tell(watched, job.to_json())

    def _tell(self, watched: _Watched, line: str) -> None:
        if watched.process.stdin is None:
            return
        try:
            watched.process.stdin.write(line.encode() + b"\n")
            watched.process.stdin.flush()
        except BrokenPipeError:
            return  # it died; its closed pipe says so next

    def _give_turn(self) -> None:
        if any(one.has_turn for one in self._alive):
            return
        for watched in self._alive:
            if watched.wants_turn:
                watched.wants_turn, watched.has_turn = False, True
                self._tell(watched, "go")
                return

    def _hear(self, watched: _Watched) -> Iterator[SeriesResult]:
        """Whatever a worker said, or that it is gone."""
        data = os.read(watched.pipe, 1 << 16)
        if not data:
            yield from self._gone(watched)
            return
        watched.heard = time.monotonic()
        *lines, watched.unread = (watched.unread + data).split(b"\n")
        for line in lines:
            yield from self._understand(watched, json.loads(line))

    def _understand(self, watched: _Watched, said: dict[str, Any]) -> Iterator[SeriesResult]:
        kind = said["kind"]
        if kind == "progress":
            self.on_event(Progress(said["stage"], said["done"], said["total"]))
        elif kind == "note":
            self.on_event(Note(said["message"], said["severity"]))
        elif kind == "turn":
            watched.wants_turn = True
        elif kind == "turn-over":
            watched.has_turn = False
        elif kind == "memory":
            yield from self._shrink(watched)
        elif kind in ("result", "error"):
            yield self._finish(watched, SeriesResult.from_dict(said["result"]))

    def _finish(self, watched: _Watched, result: SeriesResult) -> SeriesResult:
        """The worker's result with what was seen from outside."""
        seen = {"attempts": watched.tries + 1}
        if watched.job is not None and watched.job.budget_bytes is not None:
            seen["budget_bytes"] = watched.job.budget_bytes
        peak = max(watched.peak_bytes / 2**20, result.figures.get("peak_resident_mib", 0.0))
        watched.job, watched.wants_turn, watched.has_turn = None, False, False
        return replace(result, figures={**result.figures, **seen, "peak_resident_mib": round(peak, 1)})

    def _look(self, watched: _Watched) -> None:
        """Kill a worker that comes near its budget, before it passes it."""
        job = watched.job
        if job is None or watched.over:
            return
        resident = tree_bytes(watched.process.pid)
        watched.peak_bytes = max(watched.peak_bytes, resident)
        growth, watched.seen_bytes = max(0, resident - watched.seen_bytes), resident
        if time.monotonic() - watched.heard > self.silent_seconds and not watched.wants_turn:
            watched.silent = True
            _kill(watched.process)
        elif job.budget_bytes is not None and _too_near(resident, growth, job.budget_bytes):
            watched.over = True
            _kill(watched.process)

    def _gone(self, watched: _Watched) -> Iterator[SeriesResult]:
        """A worker ended: because it was too large, or by itself."""
        job, over, tries, peak = watched.job, watched.over, watched.tries, watched.peak_bytes
        silent = watched.silent
        status = self._dismiss(watched)
        if job is None:
            return
        if over:
            yield from self._again(job, tries, peak)
            return
        if silent:
            error = EngineError("the process that read it got stuck and was ended", "run it again, with more memory")
            yield SeriesResult.not_done(job.name, job.name, error)
            return
        how = f"signal {-status} ({signal.Signals(-status).name})" if status < 0 else f"exit status {status}"
        error = EngineError(f"the process that read it ended by {how}", "run it again, with less memory if it recurs")
        yield SeriesResult.not_done(job.name, job.name, error)

    def _shrink(self, watched: _Watched) -> Iterator[SeriesResult]:
        """An allocation failed: the worker is replaced, its job starts again smaller."""
        job, tries, peak = watched.job, watched.tries, watched.peak_bytes
        self._dismiss(watched)
        if job is not None:
            yield from self._again(job, tries, peak)

    def _again(self, job: Job, tries: int, peak_bytes: int) -> Iterator[SeriesResult]:
        reached, limit = _reached(job, peak_bytes)
        try:
            if self.replan is None or tries + 1 >= _TRIES:
                raise DoesNotFit(f"{reached}, too near {limit}, after {tries + 1} plans", "give it more memory")
            smaller = self.replan(job, _share(job, peak_bytes, tries))
        except HounsfieldError as error:
            fact = f"{reached}, too near {limit}, and there is no smaller plan ({error.fact})"
            yield SeriesResult.not_done(job.name, job.name, DoesNotFit(fact, error.remedy))
            return
        self.on_event(Note(f"{job.name}: {reached}, too near {limit}; starting again with a smaller plan", "warn"))
        self._assign(self._start(), replace(job, plan=smaller), tries + 1)

    def _dismiss(self, watched: _Watched) -> int:
        """Make sure that a worker and its children are gone."""
        if watched in self._alive:
            self._alive.remove(watched)
            self._selector.unregister(watched.pipe)
            os.close(watched.pipe)
        if watched.job is not None:
            _kill(watched.process)
        if watched.process.stdin is not None:
            with suppress(BrokenPipeError):
                watched.process.stdin.close()
        try:
            return watched.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            _kill(watched.process)
            return watched.process.wait()


def _reached(job: Job, peak_bytes: int) -> tuple[str, str]:
    """How much a run took, and of what: of the GPU the plan's figure is all that is known once it was full."""
    if job.plan is not None and job.plan.device != "cpu" and job.budget_bytes is None:
        budget, took = job.device_budget_bytes, f"the run, planned for {format_bytes(job.plan.device_peak_bytes)}"
        return f"{took} on the GPU, came", "all it has" if budget is None else f"its budget of {format_bytes(budget)}"
    budget = job.budget_bytes
    limit = "all there is" if budget is None else f"its budget of {format_bytes(budget)}"
    return f"the run reached {format_bytes(peak_bytes)}", limit


def _too_near(resident: int, growth: int, budget: int) -> bool:
    """Whether the budget is nearly reached, or would be passed by twice the growth since the last look."""
    return resident >= budget * _NEAR or (resident > budget * 0.8 and resident + 2 * growth >= budget)


def _share(job: Job, peak_bytes: int, tries: int) -> float:
    """What part of the budget a new prediction may take, given how wrong the last one was."""
    wrong = 1.0
    if job.plan is not None and job.budget_bytes and peak_bytes:
        wrong = min(1.0, job.plan.host_peak_bytes / peak_bytes)
    return float(wrong * 0.95 * 0.85**tries)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker with everything it started (it leads a session of its own)."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
