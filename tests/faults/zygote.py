"""Starts parts of a node quickly: a process that has imported everything and forks when told to.

    python -m faults.zygote  (in the folder tests)

Lines on standard input: ``DATA PART``; the answer is the process id. The children are real
processes of the node in all but how they began, and are killed like them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path


def main() -> None:
    import sqlalchemy.dialects.sqlite  # noqa: F401

    import hounsfield.usecases.node.job_process  # noqa: F401
    from hounsfield.usecases.node.serving import ServeRequest, serve

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        data, part = line.rstrip("\n").rsplit(" ", 1)
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            sys.stdin.close()
            quiet = os.open(f"{data}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(quiet, 2)
            try:
                serve(ServeRequest(Path(data), part))  # type: ignore[arg-type]
            except BaseException:
                traceback.print_exc()  # into the log: a part that never came up must say why
            finally:
                os._exit(0)
        print(child, flush=True)


class Zygote:
    """The tests' handle on it."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "faults.zygote"]
        root = Path(__file__).resolve().parents[1]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root, text=True)

    def start(self, data: Path, part: str) -> int:
        """Start a part of the node in ``data``; its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{data} {part}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


def kill(pid: int) -> None:
    """SIGKILL, and wait until all of it is gone.

    A thread that is within an fsync ends when that does; until then the process has its port, though
    its first thread is a zombie already.
    """
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    about = Path(f"/proc/{pid}")
    try:
        while _state(about) not in "ZX" or len(list((about / "task").iterdir())) > 1:
            time.sleep(0.001)
    except OSError:
        return


def _state(process: Path) -> str:
    return (process / "stat").read_text().rsplit(")", 1)[1].split()[0]


if __name__ == "__main__":
    main()
