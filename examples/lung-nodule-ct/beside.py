"""Write what the comparison with nnU-Net's form showed, as JSON and as a page.

Usage: python beside.py EVALUATION.json TRAINING.json OUT   (writes OUT.json and OUT.md)
(``evaluation.json`` of ``hounsfield evaluate lung-nodule-ct ... --against``, ``training.json`` of the comparison)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

NAMES = {"Dice": "dice", "IoU": "iou", "NSD": "nsd"}  # in the comparison, in the summary


def rows(evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    """Per metric: the mean of the package, of the comparison, their difference with its interval, and p."""
    own = {one["metric"]: one["mean"]["mean"] for one in evaluation["summary"]["metrics"]}
    found = []
    for row in evaluation["comparison"]["rows"]:
        if row["metric"] in NAMES:
            gap, mean = row["difference"], own[NAMES[row["metric"]]]
            figures = {"package": mean, "comparison": mean - gap["mean"], "difference": gap["mean"]}
            interval = {"low": gap["low"], "high": gap["high"], "p": row["p_value_holm"], "nodules": row["cases"]}
            found.append({"metric": row["metric"], **figures, **interval})
    return found


def facts_of(evaluation: dict[str, Any], training: dict[str, Any]) -> dict[str, Any]:
    """What is kept: who was compared on what, the table, and how the comparison was trained."""
    kept = ("model", "data", "seed", "software_version", "code_sha256")
    learned = ("steps", "seconds", "seed", "best_score", "recipe_sha256", "data_sha256")
    return {
        **{key: evaluation[key] for key in kept},
        "with": evaluation["comparison"]["with"],
        "patients": evaluation["summary"]["patients"],
        "rows": rows(evaluation),
        "training": {key: training[key] for key in learned},
    }


def page(facts: dict[str, Any]) -> str:
    """The facts for people."""
    table, training = facts["rows"], facts["training"]
    minutes = training["seconds"] / 60
    lines = [
        f"# {facts['model']['reference']} beside a network in nnU-Net's form",
        "",
        f"Both on the test part ({table[0]['nodules']} nodules of {facts['patients']} patients), with the same flips",
        f"and clean-up, in {facts['model']['precision']}. The comparison (examples/lung-nodule-ct/recipe-nnunet.toml)",
        f"was trained from scratch on the same patients: {training['steps']} steps of eight patches on one core",
        f"({minutes:.0f} min). The package had 8,000 in two stages, its version 1.0.0 (test Dice 0.795) 4,400: some of",
        "the difference is time. It is nnU-Net's network and recipe in this trainer, with half its features, not",
        "nnU-Net's own program.",
        "",
        "|mean|package|comparison|difference (95 % over patients)|p, swaps over patients, Holm|",
        "|---|---|---|---|---|",
    ]
    for one in table:
        gap = f"{one['difference']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"
        lines.append(f"|{one['metric']}|{one['package']:.3f}|{one['comparison']:.3f}|{gap}|{one['p']:.2g}|")
    best = (
        f"The comparison's best validation Dice, on whole crops with nothing cleaned up: {training['best_score']:.3f}."
    )
    return "\n".join([*lines, "", best, ""])


def main() -> None:
    evaluation, training = (json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:3])
    facts, out = facts_of(evaluation, training), Path(sys.argv[3])
    out.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(page(facts), encoding="utf-8")


if __name__ == "__main__":
    main()
