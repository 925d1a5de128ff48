"""A worker that says nothing more is ended, and its job fails in plain words."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from hounsfield.usecases.events import silent
from hounsfield.usecases.job import Choices, Job
from hounsfield.usecases.supervise import Supervisor


def test_a_stuck_worker_is_ended(tmp_path: Path) -> None:
    job = Job(tmp_path / "package", "0" * 64, tmp_path, (), "series-x", tmp_path / "out", Choices())
    supervisor = Supervisor(silent, silent_seconds=1.0)

    def stop() -> None:
        while not supervisor._alive:
            time.sleep(0.01)
        os.kill(supervisor._alive[0].process.pid, signal.SIGSTOP)

    stopper = threading.Thread(target=stop)
    stopper.start()
    results = list(supervisor.run([job]))
    stopper.join()
    assert [result.status for result in results] == ["failed"]
    assert results[0].error is not None
    assert "got stuck" in results[0].error["fact"]
    assert supervisor._alive == []
