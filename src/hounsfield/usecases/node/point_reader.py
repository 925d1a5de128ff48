"""A process that stays: it keeps the scan that a person looks at and the model that is asked, and so answers at once.

One job runs at a time (``point_process``). Where nobody asks for a while, it ends and gives its memory back.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from hounsfield.errors import EngineError, HounsfieldError
from hounsfield.usecases.job import Job

OnSeen = Callable[[dict[str, Any]], None]
IDLE_SECONDS: Final = 600.0
_LOOK_SECONDS: Final = 1.0
_SILENT_SECONDS: Final = 120.0


@dataclass
class PointReader:
    """The process, started when it is first needed.

    Attributes
    ----------
    idle_seconds
        After so long without a job the process ends.
    """

    idle_seconds: float = IDLE_SECONDS
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _process: subprocess.Popen[bytes] | None = None
    _pipe: int = -1
    _timer: threading.Timer | None = None
    _wanted: Job | None = None

    def prepare(self, job: Job) -> None:
        """Load a job's scan and network; of several that wait only the last is prepared.

        What goes wrong is told when the job itself is read.
        """
        self._wanted = job
        with self._lock:
            if self._wanted is job:
                with suppress(HounsfieldError):
                    self._do(job, True, lambda: True, _ignore)

    def read(self, job: Job, still_wanted: Callable[[], bool], on_seen: OnSeen) -> dict[str, Any]:
        """Read one series: ``{"result": SeriesResult.as_dict()}`` or ``{"error": HounsfieldError.as_dict()}``.

        Parameters
        ----------
        still_wanted
            Asked about once a second; when it says no, the process is ended.
        on_seen
            Told what the model found (``point_process.seen``), before it is written.

        Raises
        ------
        EngineError
            If the process ended or stuck, or the job is not wanted any more.
        """
        while not self._lock.acquire(timeout=_LOOK_SECONDS):
            _demand(still_wanted())
        try:
            return self._do(job, False, still_wanted, on_seen)
        finally:
            self._lock.release()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _do(self, job: Job, prepare: bool, still_wanted: Callable[[], bool], on_seen: OnSeen) -> dict[str, Any]:
        if self._timer is not None:
            self._timer.cancel()
        try:
            if self._process is None or self._process.poll() is not None:
                self._end()
                self._start()
            self._tell(json.dumps({"prepare": prepare, "job": job.to_json()}))
            return self._listen(still_wanted, on_seen)
        except BaseException:
            self._end()
            raise
        finally:
            self._timer = threading.Timer(self.idle_seconds, self.close)
            self._timer.daemon = True
            self._timer.start()

    def _start(self) -> None:
        reading, writing = os.pipe()
        command = [sys.executable, "-m", "hounsfield.usecases.node.point_process", str(writing)]
        self._process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(writing,),
            start_new_session=True,
        )
        os.close(writing)
        self._pipe = reading

    def _tell(self, line: str) -> None:
        if self._process is None or self._process.stdin is None:
            raise EngineError("the process that reads points is gone", "ask again")
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise EngineError("the process that reads points ended", "ask again") from error

    def _listen(self, still_wanted: Callable[[], bool], on_seen: OnSeen) -> dict[str, Any]:
        unread, heard = b"", time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            while True:
                if not selector.select(_LOOK_SECONDS):
                    _demand(still_wanted())
                    if time.monotonic() - heard > _SILENT_SECONDS:
                        raise EngineError("the process that reads points got stuck and was ended", "ask again")
                    continue
                data = os.read(self._pipe, 1 << 16)
                if not data:
                    raise EngineError("the process that reads points ended without an answer", "ask again")
                *lines, unread = (unread + data).split(b"\n")
                heard = time.monotonic()
                for line in lines:
                    said: dict[str, Any] = json.loads(line)
                    if "seen" not in said:
                        return said
                    on_seen(said["seen"])

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
        process.kill()
        process.wait()
        os.close(self._pipe)


def _ignore(seen: dict[str, Any]) -> None:
    """Preparing sees nothing."""


def _demand(wanted: bool) -> None:
    if not wanted:
        raise EngineError("the job was taken back", "ask again")
