"""Make ``cases.csv`` and ``splits.json`` of nodules that radiologists rated malignant or benign.

The images and the split are those of examples/lung-nodule-ct (run its prepare.py first). The class is the mean of
the readers' ratings from 1 (highly unlikely malignant) to 5 (highly suspicious): above 3 or below 3; nodules with a
mean of exactly 3 are left out, and so are those whose link between outlines and ratings is unsure
(``link_cost`` 0.15 or more). These are opinions from the same CT, not pathology.

Usage: python prepare.py ../lung-nodule-ct/data OUT_FOLDER
"""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

UNDECIDED, MOST_LINK_COST = 3.0, 0.15
KEPT = ("case_id", "patient_id", "split", "manufacturer", "kernel", "malignancy", "readers")


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    with (source / "cases.csv").open(encoding="utf-8") as file:
        table = [row for row in csv.DictReader(file) if not row["case_id"].endswith("-continued")]
    rows = []
    for row in table:
        if not row["malignancy"] or float(row["link_cost"] or 1) >= MOST_LINK_COST:
            continue
        rating = float(row["malignancy"])
        if rating != UNDECIDED:
            image = os.path.relpath(source / row["image"], out)
            finding = "rated malignant" if rating > UNDECIDED else "rated benign"
            rows.append({**{key: row[key] for key in KEPT}, "image": image, "finding": finding})
    with (out / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    splits: dict[str, list[str]] = {part: [] for part in ("train", "validation", "test")}
    for row in rows:
        splits[row["split"]].append(row["case_id"])
    text = json.dumps({part: sorted(ids) for part, ids in splits.items()}, indent=1) + "\n"
    Path(__file__).with_name("splits.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
