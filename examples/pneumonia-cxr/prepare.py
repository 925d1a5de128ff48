"""Unpack the chest X-rays and write ``cases.csv`` and ``splits.json``.

The source's validation part becomes the untouched test part; of the source's training patients,
15 % (seeded, whole patients) become validation.

Usage: python prepare.py ../../../shared/data/cxr-nih-pneumonia OUT_FOLDER
"""

from __future__ import annotations

import csv
import json
import random
import re
import sys
import zipfile
from pathlib import Path

SEED = 20261122
SHARE = 0.15


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    (out / "images").mkdir(parents=True, exist_ok=True)
    with (source / "labels.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    patients = sorted({row["patient"] for row in table if row["split"] == "train"})
    random.Random(SEED).shuffle(patients)
    validation = set(patients[: round(SHARE * len(patients))])
    rows, splits = [], {"train": [], "validation": [], "test": []}
    with zipfile.ZipFile(source / "images.zip") as archive:
        for row in table:
            if not re.fullmatch(r"[0-9_]+\.jpg", row["file"]):
                sys.exit(f"unexpected file name {row['file']!r}")
            (out / "images" / row["file"]).write_bytes(archive.read(row["file"]))
            part = "test" if row["split"] != "train" else "validation" if row["patient"] in validation else "train"
            case = row["file"].removesuffix(".jpg")
            splits[part].append(case)
            finding = "pneumonia" if row["label"] == "1" else "no finding"
            rows.append(
                {
                    "case_id": case,
                    "image": f"images/{row['file']}",
                    "patient_id": row["patient"],
                    "split": part,
                    "finding": finding,
                    "follow_up": row["follow_up"],
                }
            )
    with (out / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    text = json.dumps({part: sorted(ids) for part, ids in splits.items()}, indent=1) + "\n"
    Path(__file__).with_name("splits.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
