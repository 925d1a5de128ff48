"""The long part of the fault programme; ``make faults`` runs it and writes benchmarks/results/faults.json and .md.

    python -m faults.programme [--share 1.0] [--only PART ...] [--NAME COUNT ...] [--output FILE]   (in tests/)

``--share`` is the part of the full numbers to run: 0.02 tries everything in a minute or two. Each
number can be given by itself, such as ``--malformed-objects 2000``. What was run is in the results;
parts that are not run keep what the file said of them before.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
#: The full numbers, by part.
FULL = {
    "kills_while_receiving": 500,
    "kills_over_the_chain": 500,
    "malformed_objects": 10_000,
    "malformed_pdus": 1_000,
    "bombs": 1,
    "silent_sockets": 200,
    "associations_at_once": 100,
    "odd_web_requests": 20_000,
    "power_cuts": 200,
}


def main() -> None:
    """Run every part, write the results, and fail if anything was lost, doubled or left."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--share", type=float, default=1.0)
    asked.add_argument("--only", nargs="*", choices=list(FULL), default=list(FULL))
    asked.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "faults.json")
    asked.add_argument("--seed", type=int, default=2026)
    for name in FULL:
        asked.add_argument(f"--{name.replace('_', '-')}", type=int, default=0)
    given = asked.parse_args()
    counts = {name: getattr(given, name) or max(1, round(FULL[name] * given.share)) for name in given.only}
    results = json.loads(given.output.read_text()) if given.output.is_file() else {}
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        os.environ["HOUNSFIELD_HOME"] = f"{folder}/home"
        for name, part in parts(Path(folder), counts, given.seed).items():
            results[name] = run(name, part, counts[name], given.seed)
            given.output.write_text(json.dumps(results, indent=1) + "\n")
            given.output.with_suffix(".md").write_text(page(results))
    sys.exit(1 if any(results[name]["faults"] for name in counts) else 0)


def parts(folder: Path, counts: Mapping[str, int], seed: int) -> dict[str, Callable[[], Any]]:
    """Every part that is asked for, as a function."""
    from . import chain_kills, hostile, malformed, power_loss, receive_kills, web_fuzz

    def number(name: str) -> int:
        return counts[name]

    chain_kills.install_model(folder / "home")
    found: dict[str, Callable[[], Any]] = {
        "kills_while_receiving": lambda: receive_kills.run(folder / "a", number("kills_while_receiving"), seed, 4),
        "kills_over_the_chain": lambda: chain_kills.run(folder / "b" / "node", number("kills_over_the_chain"), seed),
        "malformed_objects": lambda: malformed.run(folder / "c", SHARED, number("malformed_objects"), seed),
        "malformed_pdus": lambda: hostile.broken_pdus(folder / "e", number("malformed_pdus"), seed),
        "bombs": lambda: hostile.bombs(folder / "f"),
        "silent_sockets": lambda: hostile.silent_sockets(folder / "g", number("silent_sockets"), 30.0),
        "associations_at_once": lambda: hostile.crowd(folder / "h", number("associations_at_once"), 100),
        "odd_web_requests": lambda: web_fuzz.run(folder / "i", number("odd_web_requests"), seed),
        "power_cuts": lambda: power_loss.run(folder / "d", 40, number("power_cuts"), seed),
    }
    return {name: part for name, part in found.items() if name in counts}


def run(name: str, part: Callable[[], Any], count: int, seed: int) -> dict[str, Any]:
    """One part, with what it was asked and what it came to."""
    began = time.monotonic()
    asked = {"asked": count, "full": FULL[name], "seed": seed, "python": platform.python_version()}
    outcome = {**asked, **asdict(part()), "seconds": round(time.monotonic() - began, 1), "cpus": os.cpu_count()}
    outcome["faults"] += _too_slow(outcome)
    print(f"{name}: {outcome['faults'] or 'no fault'}", file=sys.stderr)
    return outcome


def _too_slow(outcome: dict[str, Any]) -> list[str]:
    """What took longer than promised: ready again in 5 s, an answer in 5 s. Holds on a quiet machine only."""
    timed = ("longest_start_s", "longest_ready_s", "longest_s")
    return [f"{name} is {outcome[name]:.1f}" for name in timed if outcome.get(name, 0.0) > 5.0]


def page(results: Mapping[str, Any]) -> str:
    """The results as Markdown: what was asked, what the full number would be, what was found."""
    lines = [
        "# The fault programme, as it ran",
        "",
        "Made by `make faults` (`tests/faults/programme.py`). *Asked* is what",
    ]
    lines += [
        "really ran; *full* is the aim.",
        "",
        "|part|asked|full|found|faults|seconds|",
        "|---|---|---|---|---|---|",
    ]
    silent = ("asked", "full", "seed", "python", "cpus", "seconds", "faults")
    for name, one in results.items():
        told = ", ".join(f"{key} {_shown(value)}" for key, value in one.items() if key not in silent)
        cells = (name.replace("_", " "), one["asked"], one["full"], told, len(one["faults"]), one["seconds"])
        lines.append("|" + "|".join(map(str, cells)) + "|")
    faults = [f"- {name}: {fault}" for name, one in results.items() for fault in one["faults"][:10]]
    return "\n".join([*lines, "", *(["Faults:", "", *faults] if faults else ["No fault was found."])]) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}:{number}" for key, number in sorted(value.items()))
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
