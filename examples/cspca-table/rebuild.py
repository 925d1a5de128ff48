"""One command: three models, each tested on the hospital that it never saw; the package, its evidence and card.

Inputs are age, PSA, PSA density and prostate volume. ``lesion_*``, ``histopath_type`` and ISUP are results
of the same examinations and are never read. Patients are split as wholes; of those outside the tested hospital,
15 % (seeded) steer the training. The package is the model that never saw ZGT. Training takes about a
minute in all, on one thread.

Usage: python rebuild.py ../../../shared/data/tabular-picai OUT
"""

from __future__ import annotations

import csv
import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

from hounsfield.packages import build, open_package
from hounsfield.packages.manifest import EvidenceSpec
from hounsfield.training.loop import Hooks
from hounsfield.training.recipe_text import read_recipe
from hounsfield.training.train import Job, train
from hounsfield.usecases.evaluate import EvaluateRequest, evaluate

HERE = Path(__file__).resolve().parent
HOSPITALS, SHIPPED, SEED, SHARE = ("PCNN", "RUMC", "ZGT"), "ZGT", 20261122, 0.15
INPUTS = {"age": "patient_age", "psa": "psa", "psad": "psad", "volume": "prostate_volume"}


def prepare(source: Path) -> Path:
    """``data/cases.csv`` and one split file per hospital."""
    with (source / "marksheet.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    table = HERE / "data" / "cases.csv"
    table.parent.mkdir(exist_ok=True)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case_id", "patient_id", *INPUTS, "csPCa", "site"])
        for row in rows:
            record = [row[name] for name in INPUTS.values()]
            writer.writerow([row["study_id"], row["patient_id"], *record, row["case_csPCa"], row["center"]])
    for hospital in HOSPITALS:
        write_split(rows, hospital)
    return table


def write_split(rows: list[dict[str, str]], hospital: str) -> None:
    """Everybody who was ever in the hospital is tested, nobody of them is learnt from."""
    tested = {row["patient_id"] for row in rows if row["center"] == hospital}
    others = sorted({row["patient_id"] for row in rows} - tested)
    random.Random(SEED).shuffle(others)
    steering = set(others[: round(SHARE * len(others))])
    parts: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for row in rows:
        patient = row["patient_id"]
        part = "test" if patient in tested else "validation" if patient in steering else "train"
        if part != "test" or row["center"] == hospital:
            parts[part].append(row["study_id"])
    text = json.dumps({part: sorted(ids) for part, ids in parts.items()}, indent=1) + "\n"
    (HERE / f"splits-{hospital}.json").write_text(text, encoding="utf-8")


def fold(hospital: str, table: Path, out: Path) -> tuple[Path, Any]:
    """Train without a hospital and evaluate on it."""
    recipe = read_recipe(HERE / "recipe.toml", {"data.split_file": f"splits-{hospital}.json"})
    run = out / f"without-{hospital}"
    shutil.rmtree(run, ignore_errors=True)
    trained = train(Job(recipe, HERE, run, measure=False), Hooks(), lambda stage, done, total: None)
    package = trained.finished.package.root  # type: ignore[union-attr]
    shutil.rmtree(out / f"evaluation-{hospital}", ignore_errors=True)
    request = EvaluateRequest(
        package, table, out / f"evaluation-{hospital}", HERE / f"splits-{hospital}.json", strata=(), seed=SEED
    )
    return package, evaluate(request)


def shown(interval: Any) -> str:
    """``0.712 (0.650 to 0.770)``."""
    return f"{interval.mean:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    table = prepare(source)
    found = {hospital: fold(hospital, table, out) for hospital in HOSPITALS}
    lines = [
        "",
        "## How good it is",
        "",
        "AUC on the hospital that took no part in the training, 95 % interval over patients:",
        "",
    ]
    lines += ["|left-out hospital|patients|with csPCa|AUC|Brier score|calibration error|", "|---|---|---|---|---|---|"]
    for hospital, (_, result) in found.items():
        summary = result.record.summary
        (one,) = summary.classes
        cells = [hospital, str(summary.patients), str(one.positives), shown(one.auc)]
        lines.append("|" + "|".join([*cells, shown(one.calibration.brier), shown(one.calibration.ece)]) + "|")
    lines += ["", f"The package is the model that never saw {SHIPPED}; its evidence is that line.", ""]
    root, result = found[SHIPPED]
    package = open_package(root)
    before, _, after = package.card().partition("## How good it is")
    card = before.rstrip() + "\n" + "\n".join(lines) + "\n## Licences" + after.partition("## Licences")[2]
    manifest = package.manifest.model_copy(
        update={"evidence": (EvidenceSpec(precision="fp32", file="evidence/fp32.json"),)}
    )
    files: dict[str, Path | bytes] = {
        name: root / name for name in package.files if name.startswith(("graphs", "weights"))
    }
    files |= {"card.md": card.encode("utf-8"), "evidence/fp32.json": result.outputs["evidence"]}
    shutil.rmtree(out / "package", ignore_errors=True)
    made = build(out / "package", replace_manifest(manifest), files)
    (HERE / "card.md").write_text(card, encoding="utf-8")
    shutil.copyfile(result.outputs["evidence"], HERE / "evidence-fp32.json")
    print("\n".join(lines))
    print(made.root)


def replace_manifest(manifest: Any) -> Any:
    """The manifest, checked again as a whole."""
    return type(manifest).model_validate(manifest.model_dump(mode="json", exclude_none=True))


if __name__ == "__main__":
    main()
