"""How much of the fp32 answer survives another engine or a lower precision: trained weights, real scans.

A package reads the scans of a folder once per way, by the same code as ``hounsfield run``;
reported is the Dice between the label maps of each way and of OpenVINO in fp32, per
segment over all voxels of all scans, and the share of equal labels. It says nothing of the
truth: the evidence of each precision does.

    python benchmarks/precision_agreement.py hippocampus-mr ../shared/data/mr-hippocampus-msd/images --save
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from hounsfield.packages import open_package
from hounsfield.reading import scan
from hounsfield.usecases.job import Choices
from hounsfield.usecases.sessions import Sessions
from hounsfield.usecases.stages import infer_stage, load_stage

RESULTS = Path(__file__).parent / "results" / "precision_agreement.json"


def labels_of(package, paths: list[Path], way: str) -> tuple[list[np.ndarray], str]:
    """Label maps of all scans, and the precision that really ran."""
    sessions = Sessions()
    engine, precision = way.split("-")
    choices = replace(Choices(), precision=precision, engine=engine, allow_unproven=True)
    made, ran = [], ""
    for path in paths:
        with scan(path) as contents:
            loaded = load_stage(contents.choose(repair=False), package, choices)
        answer = infer_stage(loaded, package, choices, sessions, lambda _: None)
        made.append(answer.labels.array)
        ran = answer.precision
    sessions.close()
    return made, ran


def main() -> None:
    """Run, compare, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ways", nargs="+", default=["openvino-bf16", "onnxruntime-fp32", "torch-fp32"])
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--save", action="store_true")
    args = parser.parse_args()
    package = open_package(args.package)
    paths = sorted(p for p in args.folder.iterdir() if not p.name.startswith("."))[: args.limit]
    exact, ran = labels_of(package, paths, "openvino-fp32")
    rows = []
    for way in args.ways:
        lower, really = labels_of(package, paths, way)
        row = {"package": package.reference, "scans": len(paths), "openvino_fp32_ran_in": ran, "way": way}
        row["ran_in"] = really
        row["labels_equal"] = sum(int((a == b).sum()) for a, b in zip(exact, lower, strict=True)) / sum(
            a.size for a in exact
        )
        for segment in package.manifest.output.segments:
            n = segment.number
            both = sum(int(((a == n) & (b == n)).sum()) for a, b in zip(exact, lower, strict=True))
            sizes = sum(int((a == n).sum()) + int((b == n).sum()) for a, b in zip(exact, lower, strict=True))
            row[f"dice {segment.label}"] = round(2 * both / sizes, 6)
        rows.append(row)
        print(json.dumps(row, indent=1))
    if args.save:
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
        kept = [each for each in kept if each["package"] != package.reference] + rows
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
