"""How small may a student of lung-nodule-ct be? Sizes against what is lost, on the validation part.

Each size is pruned from the package and taught for as few steps as ``--steps`` says, without steering, so the
validation part is free to be looked at; the test part stays untouched. Short teaching shows the shape of the curve, not
what a size can do: ``examples/lung-nodule-ct/recipe-small.toml`` is taught longer, and judged on the test part.

    python benchmarks/student_sizes.py --steps 200 --share 0.5 --share 0.8 --share 0.9 --save

It wants the example's data prepared (``examples/lung-nodule-ct/prepare.py``). Every size stays in ``--out`` and is not
made again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from hounsfield.cli.progress import ProgressBars
from hounsfield.usecases.job import Choices
from hounsfield.usecases.student import StudentRequest, make_student

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "lung-nodule-ct"
RESULTS = ROOT / "benchmarks" / "results"


def short_recipe(folder: Path, steps: int) -> Path:
    """The example's student, taught for a few steps, nothing steered."""
    text = (EXAMPLE / "recipe-small.toml").read_text(encoding="utf-8")
    changes = {
        'table = "data/cases.csv"': f'table = "{EXAMPLE / "data" / "cases.csv"}"\nvalidation = ""',
        'split_file = "splits.json"': f'split_file = "{EXAMPLE / "splits.json"}"',
        "steps = 2400": f"steps = {steps}",
    }
    for old, new in changes.items():
        if text.count(old) != 1:
            raise SystemExit(f"the recipe has no line {old!r}")
        text = text.replace(old, new)
    path = folder / f"recipe-{steps}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def one_size(share: float, recipe: Path, out: Path, threads: int) -> dict[str, Any]:
    """Prune, teach, judge; what was found before is read."""
    place = out / f"pruned-{share:g}"
    if not place.is_dir():
        run, cache = out / f"{place.name}-training", out / "cache"
        for folder in (run, cache):
            folder.mkdir(exist_ok=True)
        if not (run / "cache").exists():
            (run / "cache").symlink_to(cache, target_is_directory=True)  # the cases are prepared once for all sizes
        request = StudentRequest(
            model="lung-nodule-ct",
            recipe=recipe,
            gate=EXAMPLE / "gate-small.toml",
            output=place,
            run=run,
            prune=share,
            part="validation",
            keep_failed=True,
            choices=Choices(threads=threads),
        )
        with ProgressBars(not sys.stderr.isatty()) as bars:
            make_student(request, bars)
    student = json.loads((place / "student.json").read_text(encoding="utf-8"))
    gate = json.loads((place / "gate" / "gate.json").read_text(encoding="utf-8"))
    return {"student": student, "verdict": gate["verdict"], "strata": gate["strata"], "cases": gate["cases"]}


def page(rows: list[dict[str, Any]], steps: int) -> str:
    """A table: size, speed, and the mean loss of every stratum with its bound."""
    strata = [f"{one['metric']}, {one['stratum']}" for one in rows[0]["strata"]]
    teacher = rows[0]["student"]["teacher"]
    lines = [
        "# How small may a student of lung-nodule-ct be?",
        "",
        f"Pruned from {teacher['reference']} ({teacher['parameters']:,} parameters, filters "
        f"{', '.join(map(str, teacher['architecture']['filters']))}) and taught for {steps} steps; the student averages over",
        f"two flips, its teacher over eight. {rows[0]['cases']} cases of the **validation** part, which steered nothing here. Means",
        "of student minus teacher, in brackets the one-sided 95 % bound; bold where examples/lung-nodule-ct/gate-small.toml",
        "finds it less than its margin worse. Steps are few: longer teaching gives more (docs/how-to/compress.md).",
        "",
        f"|filters|parameters|fewer|times as fast|{'|'.join(strata)}|verdict|",
        "|---" * (5 + len(strata)) + "|",
    ]
    for row in rows:
        made = row["student"]
        cells = [
            ", ".join(map(str, made["student"]["architecture"]["filters"])),
            f"{made['student']['parameters']:,}",
            f"{made['parameters_removed']:.1%}",
            f"{made['speed_up']:.1f}",
        ]
        for one in row["strata"]:
            told = f"{one['mean_difference']:+.4f} ({one['bound']:+.4f})"
            cells.append(f"**{told}**" if one["verdict"] == "pass" else told)
        lines.append(f"|{'|'.join([*cells, row['verdict']])}|")
    made = rows[0]["student"]
    lines += [
        "",
        f"Speed: {made['engine']}, fp32, {made['threads']} thread(s), in turns with the teacher.",
        "",
        "Research use only.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, action="append", required=True, help="of the parameters that go")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "student-sizes")
    parser.add_argument("--save", action="store_true", help="keep the page in benchmarks/results")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    recipe = short_recipe(args.out, args.steps)
    rows = [one_size(share, recipe, args.out, args.threads) for share in sorted(args.share)]
    text = page(rows, args.steps)
    print(text)
    if args.save:
        (RESULTS / "student_sizes.md").write_text(text, encoding="utf-8")
        (RESULTS / "student_sizes.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
