"""Measure the real peak and time of a training step, in a process of its own.

Run as ``python -m hounsfield.training.probe``: a JSON question on standard input, a JSON answer on
standard output. The process ends afterwards, so the measurement leaves nothing behind.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hounsfield.errors import TrainingError
from hounsfield.training.live_memory import StepSetting, StepShape

_STATUS = "/proc/self/status"
_DAMAGED = (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGILL)


@dataclass(frozen=True)
class Measured:
    """Bytes at the peak beyond what the process held before the network, and seconds of a step."""

    peak: int
    seconds: float


def measure_step(
    description: Mapping[str, Any],
    shape: StepShape,
    setting: StepSetting,
    device: str,
    threads: int,
    timeout_s: float = 300.0,
) -> Measured | None:
    """Two real steps on zeros in a child process; ``None`` if they took too long or did not fit.

    Raises
    ------
    TrainingError
        If the child could not be started or its answer cannot be read.
    """
    done = _ask(description, shape, setting, device, threads, timeout_s)
    if done is None or done.returncode != 0:
        return None
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def step_survives(
    description: Mapping[str, Any],
    shape: StepShape,
    setting: StepSetting,
    device: str,
    threads: int,
    timeout_s: float = 300.0,
) -> bool:
    """Whether a child process lives through two steps, its memory undamaged.

    On processors with AMX, torch 2.13 (oneDNN) writes past its own buffers when it computes the gradient of
    some convolutions in bf16, of wide and thin windows above all. A process that ran out of memory, or of
    time, tells nothing of this and counts as alive.

    Raises
    ------
    TrainingError
        If the child could not be started.
    """
    done = _ask(description, shape, setting, device, threads, timeout_s)
    return done is None or done.returncode not in _DAMAGED


def _ask(
    description: Mapping[str, Any],
    shape: StepShape,
    setting: StepSetting,
    device: str,
    threads: int,
    timeout_s: float,
) -> subprocess.CompletedProcess[str] | None:
    question = {
        "description": dict(description),
        "shape": asdict(shape),
        "setting": asdict(setting),
        "device": device,
        "threads": threads,
    }
    try:
        return subprocess.run(
            [sys.executable, "-m", "hounsfield.training.probe"],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    except OSError as error:
        raise TrainingError(fact=f"the probe cannot be started ({error})", remedy="set compute.memory") from error


def _answer(question: Mapping[str, Any]) -> Measured:
    import torch

    from hounsfield.architectures import build
    from hounsfield.training.allocator import return_memory_at_once
    from hounsfield.training.live_memory import example, make_optimiser, one_step
    from hounsfield.training.recompute import recompute_blocks

    return_memory_at_once()
    torch.set_num_threads(max(1, int(question["threads"])))
    device = torch.device(question["device"])
    given: dict[str, Any] = question["shape"]
    shape = StepShape(**{**given, "image": tuple(given["image"]), "target": tuple(given["target"])})
    setting = StepSetting(**question["setting"])
    _warm_up(device)
    before = _resident("VmRSS") if device.type == "cpu" else 0
    network = build(question["description"]).train().to(device)
    average = [parameter.detach().clone() for parameter in network.parameters()]
    if setting.recompute:
        recompute_blocks(network, str(question["description"]["name"]))
    optimiser = make_optimiser(network.parameters(), shape.optimiser)
    inputs, target = example(question["description"], shape, setting.batch)
    inputs, target = tuple(tensor.to(device) for tensor in inputs), target.to(device)
    for _ in range(2):
        start = time.perf_counter()
        one_step(network, optimiser, inputs, target, shape, setting)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - start
    del average
    peak = _resident("VmHWM") - before if device.type == "cpu" else int(torch.cuda.max_memory_allocated(device))
    return Measured(peak, seconds)


def _warm_up(device: Any) -> None:
    """What libraries allocate once is no part of a step."""
    import torch

    small = torch.nn.Conv3d(1, 1, 3).to(device)
    small(torch.zeros(1, 1, 4, 4, 4, device=device)).sum().backward()


def _resident(field: str) -> int:
    """Bytes of a field of /proc/self/status, which counts in KiB."""
    with open(_STATUS, encoding="ascii", errors="replace") as file:  # noqa: PTH123 - a kernel file
        for line in file:
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    print(json.dumps(asdict(_answer(json.load(sys.stdin)))))
