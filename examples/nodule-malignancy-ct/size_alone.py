"""How well the outlined volume alone tells rated malignant from rated benign nodules: what any network has to beat.

Usage: python size_alone.py ../lung-nodule-ct/data DATA_FOLDER OUT.json
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import nibabel
import numpy as np

from hounsfield.evaluation.classification import auc_interval

SEED = 20261122


def main() -> None:
    outlines, data, out = (Path(argument) for argument in sys.argv[1:4])
    with (outlines / "cases.csv").open(encoding="utf-8") as file:
        label = {row["case_id"]: row["label"] for row in csv.DictReader(file)}
    found = {}
    with (data / "cases.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    for part in ("validation", "test"):
        rows = [row for row in table if row["split"] == part]
        images = [nibabel.load(outlines / label[row["case_id"]]) for row in rows]
        volumes = [float(np.asarray(image.dataobj).sum() * np.prod(image.header.get_zooms())) for image in images]
        positive = [row["finding"] == "rated malignant" for row in rows]
        auc = auc_interval(np.array(positive), np.array(volumes), [row["patient_id"] for row in rows], SEED)
        found[f"volume_auc_{part}"] = f"{auc.mean:.3f} ({auc.low:.3f} to {auc.high:.3f}; n = {len(rows)})"
    out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
