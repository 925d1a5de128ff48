"""Time networks of a package side by side, in a process of their own so that its memory is theirs.

    python -m hounsfield.usecases.bench_process '{"package": ..., "variants": [["openvino", "fp32"], ...]}'

prints one line of JSON. The variants take turns window by window, so that whatever else the machine
does meanwhile falls on all of them alike.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hounsfield.inference.engine import Floats
from hounsfield.packages import ModelPackage, open_package
from hounsfield.usecases.asking import answer
from hounsfield.usecases.job import Choices
from hounsfield.usecases.resident import forget_peak, peak_bytes, tree_bytes
from hounsfield.usecases.sessions import Sessions

_RAPL = Path("/sys/class/powercap/intel-rapl:0")
_STREAMED = 8


def energy_joules(folder: Path = _RAPL) -> float | None:
    """The processor's energy counter in joules, or None where it cannot be read (it starts again now and then)."""
    try:
        return int((folder / "energy_uj").read_text(encoding="ascii")) / 1e6
    except (OSError, ValueError):
        return None


def measure(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Load every variant, let them take turns, and say what each took."""
    package = open_package(task["package"])
    windows = random_windows(package, 2)
    before = tree_bytes(os.getpid())
    loaded = [_load(package, engine, precision, task["threads"]) for engine, precision in task["variants"]]
    resident = tree_bytes(os.getpid())
    forget_peak()
    turns = take_turns([session for _, session, _ in loaded], [windows] * len(loaded), task["rounds"])
    peak = peak_bytes()
    apart = apart_from_first([name for _, name in task["variants"]], [one.infer(windows[0]) for _, one, _ in loaded])
    rows = []
    for (keeper, session, seconds), (taken, cpu), differs in zip(loaded, turns, apart, strict=True):
        energy, began = energy_joules(), time.perf_counter()
        list(session.stream(windows * (_STREAMED // 2)))
        streamed, after = time.perf_counter() - began, energy_joules()
        used_j = None if energy is None or after is None or after < energy else (after - energy) / _STREAMED
        rows.append(
            {
                **session.facts(),
                "load_seconds": seconds,
                "seconds": taken,
                "windows_per_second": _STREAMED / streamed,
                "utilisation": cpu / max(sum(taken), 1e-9) / (task["threads"] or len(os.sched_getaffinity(0))),
                "joules_per_window": used_j,
                "resident_before_bytes": before,
                "resident_loaded_bytes": resident,
                "peak_bytes": peak,
                "apart": differs,
            }
        )
        keeper.close()
    return rows


def apart_from_first(precisions: Sequence[str], answers: Sequence[Floats]) -> list[float | None]:
    """How far each answer is from the first one in the same precision: mean difference over its mean size, or None."""
    first: dict[str, Floats] = {}
    found: list[float | None] = []
    for precision, given in zip(precisions, answers, strict=True):
        if precision in first and first[precision].shape == given.shape:
            size = max(float(np.abs(first[precision]).mean()), 1e-12)
            found.append(float(np.abs(given - first[precision]).mean()) / size)
        else:
            first.setdefault(precision, np.array(given))
            found.append(None)
    return found


def random_windows(package: ModelPackage, count: int) -> list[Floats]:
    """Windows of the package's size, (1, channels, k, j, i) float32, of normal noise."""
    spec = package.manifest.input
    shape = (1, len(spec.channels), *spec.window.shape)
    return [np.random.default_rng(n).normal(size=shape).astype(np.float32) for n in range(count)]


def take_turns(
    sessions: Sequence[Any], windows: Sequence[Sequence[Floats]], rounds: int
) -> list[tuple[list[float], float]]:
    """Each session's seconds per window, and its processor seconds in all.

    Parameters
    ----------
    windows
        What each of them reads, in turn.
    """
    for session, own in zip(sessions, windows, strict=True):
        list(session.stream(own))  # the first is slower: buffers are made
    times: list[list[float]] = [[] for _ in sessions]
    busy = [0.0] * len(sessions)
    for turn in range(rounds):
        for place, (session, own) in enumerate(zip(sessions, windows, strict=True)):
            used, began = time.process_time(), time.perf_counter()
            session.infer(own[turn % len(own)])
            times[place].append(time.perf_counter() - began)
            busy[place] += time.process_time() - used
    return list(zip(times, busy, strict=True))


def _load(package: Any, engine: str, precision: str, threads: int) -> tuple[Sessions, Any, float]:
    keeper, began = Sessions(), time.perf_counter()
    opened = keeper.open(package, Choices(precision, engine, threads=threads, allow_unproven=True))
    return keeper, opened.session, time.perf_counter() - began


if __name__ == "__main__":
    raise SystemExit(answer(measure))
