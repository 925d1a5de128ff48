"""The long part of the fault programme; ``make faults`` runs it and writes benchmarks/results/faults.json.

    python -m faults.programme [--share 1.0] [--output FILE]      (in the folder tests)

``--share`` is the part of the full numbers to run: 0.02 tries everything in a minute or two.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
RECEIVE_KILLS, CHAIN_KILLS, MALFORMED, POWER_CUTS = 500, 500, 10_000, 200


def main() -> None:
    """Run every part, write the results, and fail if anything was lost, doubled or left."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--share", type=float, default=1.0)
    asked.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "faults.json")
    asked.add_argument("--seed", type=int, default=2026)
    given = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        os.environ["HOUNSFIELD_HOME"] = f"{folder}/home"
        results = run(Path(folder), given.share, given.seed)
    results["machine"] = {"python": platform.python_version(), "cpus": os.cpu_count()}
    given.output.write_text(json.dumps(results, indent=1) + "\n")
    faults = [fault for part in results.values() if isinstance(part, dict) for fault in part.get("faults", [])]
    print(json.dumps(results, indent=1))
    sys.exit(1 if faults else 0)


def run(folder: Path, share: float, seed: int) -> dict[str, Any]:
    """Every part in turn."""
    from . import chain_kills, malformed, power_loss, receive_kills

    chain_kills.install_model(folder / "home")
    parts = {
        "kills_while_receiving": lambda: receive_kills.run(folder / "a", _part(RECEIVE_KILLS, share), seed, 4),
        "kills_over_the_chain": lambda: chain_kills.run(folder / "b" / "node", _part(CHAIN_KILLS, share), seed),
        "malformed_objects": lambda: malformed.run(folder / "c", SHARED, _part(MALFORMED, share), seed),
        "power_cuts": lambda: power_loss.run(folder / "d", 40, _part(POWER_CUTS, share), seed),
    }
    results: dict[str, Any] = {"share": share, "seed": seed}
    for name, part in parts.items():
        began = time.monotonic()
        results[name] = {**asdict(part()), "seconds": round(time.monotonic() - began, 1)}
        results[name]["faults"] += _too_slow(results[name])
        print(f"{name}: {results[name]['faults'] or 'no fault'}", file=sys.stderr)
    return results


def _too_slow(outcome: dict[str, Any]) -> list[str]:
    """What took longer than promised: ready again in 5 s, an answer in 5 s. Holds on a quiet machine only."""
    timed = ("longest_start_s", "longest_ready_s", "longest_s")
    return [f"{name} is {outcome[name]:.1f}" for name in timed if outcome.get(name, 0.0) > 5.0]


def _part(whole: int, share: float) -> int:
    return max(1, round(whole * share))


if __name__ == "__main__":
    main()
