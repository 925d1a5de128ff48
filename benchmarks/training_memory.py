"""Peak memory and time of a training step: fp32 against BF16 with recomputed blocks, predicted and measured.

Usage: python benchmarks/training_memory.py [--window 96] [--device cpu] [--out FILE]

For each way: the peak that the training plan predicts (a replay on tensors without values, plus
the overhead of one measured step of a smaller patch), the peak that a process of its own then
really took, and the time of its second step.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import torch

from hounsfield.training.live_memory import StepSetting, StepShape, replay_step
from hounsfield.training.probe import measure_step

NETWORK = {
    "name": "attention-unet",
    "channels_in": 1,
    "channels_out": 3,
    "filters": [32, 64, 128, 256],
    "deep_supervision": 2,
}
WAYS = (
    StepSetting(1, "fp32", False),
    StepSetting(1, "bf16", False),
    StepSetting(1, "fp32", True),
    StepSetting(1, "bf16", True),
)


def shape_of(window: int) -> StepShape:
    return StepShape((1,) + (window,) * 3, (window,) * 3, True, "dice-ce", "adamw")


def row(setting: StepSetting, window: int, calibration: int, device: str) -> dict[str, object]:
    threads = torch.get_num_threads()
    small = measure_step(NETWORK, shape_of(calibration), setting, device, threads)
    if small is None:
        raise SystemExit("the calibration step did not run")
    overhead = small.peak - replay_step(NETWORK, shape_of(calibration), setting).peak
    alive = replay_step(NETWORK, shape_of(window), setting).peak
    measured = measure_step(NETWORK, shape_of(window), setting, device, threads, 500.0)
    answer: dict[str, object] = {
        "precision": setting.precision,
        "recompute": setting.recompute,
        "alive_mib": round(alive / 2**20),
        "predicted_mib": round((alive + overhead) / 2**20),
    }
    if measured is not None:
        answer |= {
            "measured_mib": round(measured.peak / 2**20),
            "error": round((alive + overhead) / measured.peak - 1, 3),
            "seconds": round(measured.seconds, 2),
        }
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--window", type=int, default=96)
    parser.add_argument("--calibration", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    for setting in WAYS:
        rows.append(row(setting, given.window, given.calibration, given.device))
        print(json.dumps(rows[-1]), flush=True)
    facts = {
        "window": given.window,
        "calibration": given.calibration,
        "network": NETWORK,
        "device": given.device,
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "rows": rows,
    }
    if given.out is not None:
        given.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
