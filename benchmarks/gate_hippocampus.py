"""hippocampus-mr in bf16 through the gate against fp32, on the test part that its evidence was made on.

Writes the table of examples/hippocampus-mr/splits.json (the labels on the grid of their images, since
their stored origins differ by fractions of a millimetre; a column for the images' intensity depth), runs
``hounsfield gate`` on it and keeps the verdict.

    python benchmarks/gate_hippocampus.py ../shared/data/mr-hippocampus-msd --save
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np

from hounsfield.usecases.gate import GateRequest, run_gate

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "hippocampus-mr"
RESULTS = ROOT / "benchmarks" / "results"
PARTS = {"test": "test", "validation": "validation", "training": "train"}


def write_table(data: Path, folder: Path) -> Path:
    """All cases with their parts; a patient is an inferred person, as in the example."""
    sys.path.insert(0, str(EXAMPLE))
    from make_splits import subject_of

    splits = json.loads((EXAMPLE / "splits.json").read_text())
    rows = []
    for part, word in PARTS.items():
        for name in splits[part]:
            image = nibabel.load(data / "images" / f"{name}.nii.gz")
            labels = np.asarray(nibabel.load(data / "labels" / f"{name}.nii.gz").dataobj).astype(np.uint8)
            header = image.header.copy()
            header.set_data_dtype(np.uint8)
            header.set_slope_inter(1, 0)
            nibabel.save(nibabel.Nifti1Image(labels, image.affine, header), folder / f"{name}.nii.gz")
            depth = "8 bit" if image.get_data_dtype() == np.uint8 else "16 bit or float"
            place = str((data / "images" / f"{name}.nii.gz").resolve())
            rows.append((name, place, f"{name}.nii.gz", f"person-{subject_of(name)}", word, depth))
    table = folder / "hippocampus-msd.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("case_id", "image", "label", "patient_id", "split", "depth"), *rows])
    return table


def main() -> None:
    """Run, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--candidate", default="bf16")
    parser.add_argument("--save", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = write_table(args.data, Path(folder))
        request = GateRequest("hippocampus-mr", table, EXAMPLE / "gate.toml", Path(folder) / "out", args.candidate)
        result = run_gate(request)
        print(result.outputs["report"].read_text())
        if args.save:
            name = f"gate_hippocampus_{args.candidate}"
            for kind, ending in (("json", "json"), ("report", "md")):
                (RESULTS / f"{name}.{ending}").write_bytes(result.outputs[kind].read_bytes())


if __name__ == "__main__":
    main()
