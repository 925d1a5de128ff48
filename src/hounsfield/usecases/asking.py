"""Let a process of its own measure something, so that its memory is its own: one line of JSON in, one out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from hounsfield.errors import HounsfieldError


def ask(module: str, task: Mapping[str, Any], seconds: float) -> Any:
    """What ``python -m module`` answers; ``{"error": reason}`` where it has no answer.

    Parameters
    ----------
    module
        One that calls :func:`answer`.
    task
        Plain data for it.

    Raises
    ------
    TimeoutError
        If it takes longer than ``seconds``.
    """
    command = [sys.executable, "-m", module, json.dumps(task)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{module} took longer than {seconds:.0f} s") from error
    reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    try:
        told = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {"error": reason}
    explained = isinstance(told, dict) and "error" in told
    return told if done.returncode == 0 or explained else {"error": reason}


def answer(measure: Callable[[dict[str, Any]], Any]) -> int:
    """In the process that was asked: measure, and print the answer or why there is none; its exit status."""
    try:
        print(json.dumps(measure(json.loads(sys.argv[1]))))
    except HounsfieldError as error:
        print(json.dumps({"error": f"{error.fact}; {error.remedy}"}))
        return 1
    return 0
