"""How often the gate errs: simulated sets of patients whose true difference is known.

Type-I error: the candidate is exactly the margin worse, and passes all the same (wanted: at most
5 % at 95 % confidence). Power: the candidate is really alike, or really worse, and the gate says so.
Differences are drawn per patient: normal, skewed (a few patients lose much), and lesions that are
lost at a true rate. Only the rule of the gate runs; no network.

    python benchmarks/gate_power.py --save
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hounsfield.compression import Differences, judge_differences, parse_gate

RESULTS = Path(__file__).parent / "results"
RUNS, RESAMPLES, SEED = 1000, 1000, 20261122
MARGIN, SD, LOST_MARGIN = 0.01, 0.02, 0.05
Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


def normal(mean: float) -> Draw:
    """Dice differences, one per patient, normal with a standard deviation of ``SD``."""
    return lambda random, n: (random.normal(mean, SD, n), np.ones(n))


def skewed(mean: float) -> Draw:
    """The same mean and spread, but the losses are the long tail (a gamma distribution turned round)."""
    return lambda random, n: (mean + SD - random.exponential(SD, n), np.ones(n))


def lesions(rate: float, each: int) -> Draw:
    """``each`` lesions per patient, lost independently at a rate."""
    return lambda random, n: (-random.binomial(each, rate, n).astype(float), np.full(n, float(each)))


SCENES: tuple[tuple[str, str, Draw, bool, float, tuple[int, ...]], ...] = (
    ("type-I error", "Dice, normal, exactly the margin worse", normal(-MARGIN), False, MARGIN, (10, 20, 40, 80)),
    ("type-I error", "Dice, skewed, exactly the margin worse", skewed(-MARGIN), False, MARGIN, (10, 20, 40, 80)),
    ("type-I error", "one lesion each, 5 % lost", lesions(0.05, 1), True, LOST_MARGIN, (40, 80, 160)),
    ("type-I error", "three lesions each, 5 % lost", lesions(0.05, 3), True, LOST_MARGIN, (40, 80, 160)),
    ("power to pass", "Dice, normal, truly alike", normal(0.0), False, MARGIN, (10, 20, 40, 80)),
    ("power to pass", "one lesion each, none lost", lesions(0.0, 1), True, LOST_MARGIN, (40, 60, 80, 160)),
    ("power to pass", "three lesions each, 1 % lost", lesions(0.01, 3), True, LOST_MARGIN, (40, 80, 160)),
    ("damage", "Dice, normal, three margins worse", normal(-3 * MARGIN), False, MARGIN, (10, 20, 40, 80)),
    ("damage", "one lesion each, 20 % lost", lesions(0.2, 1), True, LOST_MARGIN, (20, 40, 80)),
)


def verdicts(draw: Draw, patients: int, counts: bool, margin: float) -> Counter[str]:
    """The verdicts on ``RUNS`` simulated sets."""
    criteria = [{"metric": "dice", "margin": margin}]
    settings = {"format": 1, "resamples": RESAMPLES, "minimum_patients": 10, "criteria": criteria}
    rule = parse_gate(settings, Path("GATE.toml"))
    random, names = np.random.default_rng([SEED, patients]), [f"p{n}" for n in range(patients)]
    found: Counter[str] = Counter()
    for _ in range(RUNS):
        tops, bottoms = draw(random, patients)
        found[judge_differences(Differences(tops.tolist(), bottoms.tolist(), names, counts), margin, rule).verdict] += 1
    return found


def table(rows: list[dict]) -> str:
    """The rows as a page."""
    head = [
        "# How often the gate errs",
        "",
        f"`python benchmarks/gate_power.py --save`: {RUNS} simulated sets each, {RESAMPLES} draws, seed {SEED};",
        f"margin {MARGIN} Dice (paired standard deviation {SD}), {LOST_MARGIN} of the lesions. 95 % confidence.",
        "",
        "|question|truth|patients|pass|undecided|fail|",
        "|---|---|---|---|---|---|",
    ]
    body = [
        f"|{r['question']}|{r['truth']}|{r['patients']}|{r['pass']:.1%}|{r['undecided']:.1%}|{r['fail']:.1%}|"
        for r in rows
    ]
    return "\n".join([*head, *body]) + "\n"


def main() -> None:
    """Simulate, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true")
    args = parser.parse_args()
    rows = []
    for question, truth, draw, counts, margin, sizes in SCENES:
        for patients in sizes:
            found = verdicts(draw, patients, counts, margin)
            shares = {name: found[name] / RUNS for name in ("pass", "undecided", "fail")}
            rows.append({"question": question, "truth": truth, "patients": patients, **shares})
            print(json.dumps(rows[-1]), flush=True)
    if args.save:
        (RESULTS / "gate_power.json").write_text(json.dumps(rows, indent=1) + "\n")
        (RESULTS / "gate_power.md").write_text(table(rows))


if __name__ == "__main__":
    main()
