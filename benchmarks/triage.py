"""Simulate a reading room: who waits how long when a model flags studies, against first in, first out.

    .venv/bin/python benchmarks/triage.py [benchmarks/triage.toml]

Pure arithmetic on simulated arrivals; nothing is measured on patients. The same arrivals and the
same findings go through every rule, so that the differences are the rule's.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
import statistics
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hounsfield.department.triage import reading_key

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Study:
    """One simulated study; times in minutes."""

    arrived: float
    known: float
    reading: float
    urgent: bool
    flagged: bool


@dataclass(frozen=True)
class Room:
    """What the file says of one reading room."""

    name: str
    arrivals_per_hour: tuple[float, ...]
    readers: tuple[int, ...]
    reading_min: float
    reading_spread: float
    prevalence: float
    sensitivity: float
    specificity: float
    inference_min: float
    head_start_min: float
    days: int


def studies_of(room: Room, seed: int) -> list[Study]:
    """Poisson arrivals whose rate changes by the hour; log-normal reading times."""
    chance, found = random.Random(seed), []
    sigma = math.sqrt(math.log(1 + room.reading_spread**2))
    most, now = max(room.arrivals_per_hour), 0.0
    while (now := now + chance.expovariate(most / 60)) < room.days * 1440:
        if chance.random() * most > room.arrivals_per_hour[int(now / 60) % 24]:
            continue
        urgent = chance.random() < room.prevalence
        flagged = chance.random() < (room.sensitivity if urgent else 1 - room.specificity)
        reading = chance.lognormvariate(math.log(room.reading_min) - sigma**2 / 2, sigma)
        found.append(Study(now, now + room.inference_min, reading, urgent, flagged))
    return found


def turnaround(studies: list[Study], room: Room, rule: str) -> list[float]:
    """Minutes from arrival to the end of reading, per study, under a rule.

    A reader who is free takes the first of the list; a flag counts from the moment it is known.
    The number of readers changes by the hour; who reads goes on to the end of the study.
    """
    done, waiting, busy = [0.0] * len(studies), list[int](), list[float]()
    upcoming, now = 0, 0.0
    while upcoming < len(studies) or waiting:
        while busy and busy[0] <= now:
            heapq.heappop(busy)
        while upcoming < len(studies) and studies[upcoming].arrived <= now:
            waiting.append(upcoming)
            upcoming += 1
        while waiting and len(busy) < room.readers[int(now / 60) % 24]:
            chosen = min(waiting, key=lambda n: _key(studies[n], rule, room, now))
            waiting.remove(chosen)
            end = now + studies[chosen].reading
            done[chosen] = end - studies[chosen].arrived
            heapq.heappush(busy, end)
        moments = [studies[upcoming].arrived] if upcoming < len(studies) else []
        moments += [busy[0]] if busy else []
        if waiting:
            moments.append((math.floor(now / 60) + 1) * 60.0)
        now = min((one for one in moments if one > now), default=now + 1.0)
    return done


def _key(study: Study, rule: str, room: Room, now: float) -> tuple[float, float]:
    flagged = study.flagged and study.known <= now
    if rule == "first in, first out":
        return (study.arrived, 0.0)
    if rule == "flagged first":
        return (0.0 if flagged else 1.0, study.arrived)
    return (reading_key(study.arrived, room.head_start_min if flagged else 0.0), study.arrived)


RULES = ("first in, first out", "flagged first", "head start")


def summary(values: list[float]) -> dict[str, float]:
    """Mean, median, 95th percentile and longest, minutes."""
    if not values:
        return {"n": 0}
    ordered = sorted(values)
    return {
        "n": len(ordered),
        "mean": round(statistics.fmean(ordered), 1),
        "median": round(statistics.median(ordered), 1),
        "p95": round(ordered[min(len(ordered) - 1, math.ceil(0.95 * len(ordered)) - 1)], 1),
        "longest": round(ordered[-1], 1),
    }


def simulate(room: Room, seeds: range) -> dict[str, Any]:
    """Turnaround by rule and group, over several seeds together."""
    found: dict[str, dict[str, list[float]]] = {rule: {} for rule in RULES}
    for seed in seeds:
        studies = studies_of(room, seed)
        for rule in RULES:
            for study, minutes in zip(studies, turnaround(studies, room, rule), strict=True):
                truth = "urgent" if study.urgent else "not urgent"
                flag = "flagged" if study.flagged else "not flagged"
                for group in ("all", truth, flag, f"{truth}, {flag}"):
                    found[rule].setdefault(group, []).append(minutes)
    return {
        rule: {group: summary(values) for group, values in sorted(groups.items())} for rule, groups in found.items()
    }


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Triage, simulated",
        "",
        "Minutes from arrival to the end of reading. Made by `benchmarks/triage.py` from",
    ]
    lines += [
        "`benchmarks/triage.toml`; simulated arrivals, no patients. *Head start* is the rule of the node: a flagged"
    ]
    lines += ["study counts as arrived that much earlier, so nobody can be passed for longer than that.", ""]
    for name, one in results["rooms"].items():
        room = one["room"]
        lines += [f"## {name}", ""]
        lines += [
            f"{room['prevalence']:.1%} urgent; sensitivity {room['sensitivity']:.2f}, specificity "
            f"{room['specificity']:.2f}; head start {room['head_start_min']:g} min; {one['studies']} studies.",
            "",
            "|group|rule|n|mean|median|95 %|longest|",
            "|---|---|---|---|---|---|---|",
        ]
        for group in ("all", "flagged", "not flagged", "urgent", "urgent, not flagged", "not urgent"):
            for rule in RULES:
                row = one["turnaround"][rule][group]
                if row["n"]:
                    cells = [row[key] for key in ("n", "mean", "median", "p95", "longest")]
                    lines.append(f"|{group}|{rule}|" + "|".join(str(cell) for cell in cells) + "|")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Simulate every room of the file and write the results."""
    asked = argparse.ArgumentParser()
    asked.add_argument("file", type=Path, nargs="?", default=HERE / "triage.toml")
    asked.add_argument("--output", type=Path, default=HERE / "results" / "triage.json")
    given = asked.parse_args()
    told = tomllib.loads(given.file.read_text())
    seeds = range(int(told["seeds"]))
    results: dict[str, Any] = {"seeds": len(seeds), "rooms": {}}
    for table in told["room"]:
        lists = {key: tuple(value) for key, value in table.items() if isinstance(value, list)}
        room = Room(**{**table, **lists})
        found = simulate(room, seeds)
        number = found[RULES[0]]["all"]["n"]
        results["rooms"][room.name] = {"room": table, "studies": number, "turnaround": found}
    given.output.write_text(json.dumps(results, indent=1) + "\n")
    given.output.with_suffix(".md").write_text(page(results))


if __name__ == "__main__":
    main()
