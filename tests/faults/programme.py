"""The long part of the fault programme; ``make faults`` runs it and writes benchmarks/results/faults.json and .md.

    python -m faults.programme [--share 1] [--only PART ...] [--NAME COUNT ...] [--go-on] [--output FILE]  (in tests/)

``--share`` is the part of the full numbers to run: 0.02 tries everything in a minute or two. Each
number can be given by itself, such as ``--malformed-objects 2000``. A part runs in batches, each
with a node and a seed of its own, and what it came to is written after each: ``--go-on`` starts
where the file says that a part stopped. Parts that are not run keep what the file said of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
#: The full numbers, by part, and how many of them one batch takes.
FULL = {
    "kills_while_receiving": (500, 100),
    "kills_while_sending": (500, 100),
    "kills_over_the_chain": (500, 100),
    "malformed_objects": (10_000, 1_000),
    "malformed_pdus": (1_000, 250),
    "bombs": (1, 1),
    "silent_sockets": (200, 200),
    "associations_at_once": (100, 100),
    "odd_web_requests": (20_000, 2_000),
    "schema_examples": (1_000, 100),
    "power_cuts": (200, 50),
}
_SAID_APART = ("ran", "full", "seed", "python", "cpus", "seconds", "faults")
_MOST_FAULTS = 100


def main() -> None:
    """Run every part, write the results, and fail if anything was lost, doubled or left."""
    given = _asked()
    counts = {name: getattr(given, name) or max(1, round(FULL[name][0] * given.share)) for name in given.only}
    results = json.loads(given.output.read_text()) if given.output.is_file() else {}
    if not given.go_on:
        results = {name: one for name, one in results.items() if name not in counts}
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        os.environ["HOUNSFIELD_HOME"] = f"{folder}/home"
        found = parts(Path(folder))
        for name, count in counts.items():
            for outcome in run(name, found[name], count, given.seed, results.get(name, {})):
                results[name] = outcome
                write(given.output, results)
    sys.exit(1 if any(results[name]["faults"] for name in counts) else 0)


def _asked() -> argparse.Namespace:
    asked = argparse.ArgumentParser()
    asked.add_argument("--share", type=float, default=1.0)
    asked.add_argument("--only", nargs="*", choices=list(FULL), default=list(FULL))
    asked.add_argument("--go-on", action="store_true")
    asked.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "faults.json")
    asked.add_argument("--seed", type=int, default=2026)
    for name in FULL:
        asked.add_argument(f"--{name.replace('_', '-')}", type=int, default=0)
    return asked.parse_args()


def write(path: Path, results: Mapping[str, Any]) -> None:
    """Keep the results, as JSON and as a page."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({name: results[name] for name in FULL if name in results}, indent=1) + "\n")
    fresh.replace(path)
    path.with_suffix(".md").write_text(page(results))


Part = Callable[[Path, int, int], Any]


def parts(folder: Path) -> dict[str, Part]:
    """Every part, as a function of an empty folder, a count and a seed."""
    from . import chain_kills, hostile, malformed, power_loss, receive_kills, schema_fuzz, sending_kills, web_fuzz

    chain_kills.install_model(folder / "home")

    def placed(run: Part) -> Part:
        return lambda where, count, seed: run(folder / f"{where}-{seed}" / "node", count, seed)

    found: dict[str, Part] = {
        "kills_while_receiving": lambda root, count, seed: receive_kills.run(root, count, seed, 4),
        "kills_while_sending": sending_kills.run,
        "kills_over_the_chain": chain_kills.run,
        "malformed_objects": lambda root, count, seed: malformed.run(root, SHARED, count, seed),
        "malformed_pdus": hostile.broken_pdus,
        "bombs": lambda root, count, seed: hostile.bombs(root),
        "silent_sockets": lambda root, count, seed: hostile.silent_sockets(root, count, 30.0),
        "associations_at_once": lambda root, count, seed: hostile.crowd(root, count, 100),
        "odd_web_requests": web_fuzz.run,
        "schema_examples": schema_fuzz.run,
        "power_cuts": lambda root, count, seed: power_loss.run(root, 40, count, seed),
    }
    return {name: placed(part) for name, part in found.items()}


def run(name: str, part: Part, count: int, seed: int, before: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Run a part batch by batch up to ``count``; what it came to so far, after each of them."""
    full, batch = FULL[name]
    so_far: dict[str, Any] = dict(before)
    while so_far.get("ran", 0) < count:
        began, done = time.monotonic(), int(so_far.get("ran", 0))
        wanted = min(batch, count - done)
        found = told(part(Path(name), wanted, seed + done))
        found["faults"] += _too_slow(found)
        about = {"ran": wanted, "seconds": round(time.monotonic() - began, 1)}
        fixed = {"full": full, "seed": seed, "python": platform.python_version(), "cpus": os.cpu_count()}
        so_far = {**fixed, **merged(so_far, {**about, **found})}
        print(f"{name}: {so_far['ran']} of {count}: {found['faults'] or 'no fault'}", file=sys.stderr, flush=True)
        yield so_far


def told(outcome: Any) -> dict[str, Any]:
    """What a part says of itself, in plain values."""
    return {name: dict(value) if isinstance(value, dict) else value for name, value in vars(outcome).items()}


def merged(before: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Two batches as one: counts add up, of what is longest or has grown most the larger stays."""
    return {name: _both(name, before.get(name), value) for name, value in found.items()}


def _both(name: str, before: Any, value: Any) -> Any:
    if before is None:
        return value
    if isinstance(value, dict):
        return {key: before.get(key, 0) + value.get(key, 0) for key in sorted({*before, *value})}
    if isinstance(value, list):
        return [*before, *value][:_MOST_FAULTS]
    if name.startswith(("longest", "growth", "settled", "routes", "operations")):
        return max(before, value)
    return round(before + value, 1)


def _too_slow(outcome: Mapping[str, Any]) -> list[str]:
    """What took longer than promised: ready again in 5 s, an answer in 5 s. Holds on a quiet machine only."""
    timed = ("longest_start_s", "longest_ready_s", "longest_s")
    return [f"{name} is {outcome[name]:.1f}" for name in timed if outcome.get(name, 0.0) > 5.0]


def page(results: Mapping[str, Any]) -> str:
    """The results as Markdown: how much ran, what the full number would be, what was found."""
    lines = [
        "# The fault programme, as it ran",
        "",
        "Made by `make faults` (`tests/faults/programme.py`), on a machine that did other work too. *Ran* is how much",
        "really ran; *full* is the aim.",
        "",
        "|part|ran|full|found|faults|seconds|",
        "|---|---|---|---|---|---|",
    ]
    for name in (name for name in FULL if name in results):
        one = results[name]
        told = ", ".join(f"{key} {_shown(value)}" for key, value in one.items() if key not in _SAID_APART)
        cells = (name.replace("_", " "), one["ran"], one["full"], told, len(one["faults"]), one["seconds"])
        lines.append("|" + "|".join(map(str, cells)) + "|")
    faults = [f"- {name}: {fault}" for name, one in results.items() for fault in one["faults"][:10]]
    missing = [name.replace("_", " ") for name in FULL if name not in results]
    lines += ["", *([f"Not run: {', '.join(missing)}.", ""] if missing else [])]
    return "\n".join([*lines, *(["Faults:", "", *faults] if faults else ["No fault was found."])]) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}:{number}" for key, number in sorted(value.items()))
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
