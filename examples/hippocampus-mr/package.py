"""Turn trained weights into the package ``hippocampus-mr``: export, evaluate, build, verify.

The evaluation reads each case of the chosen part as a user would (NIfTI in, labels on the scan's
own grid out, through the package's own steps), for every precision that the package claims.
Figures carry 95 % bootstrap intervals over persons.

Usage: python package.py WEIGHTS_FOLDER DATA_FOLDER OUT_FOLDER [--part test]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from make_splits import subject_of
from safetensors.torch import load_file

from hounsfield.architectures import build as build_network
from hounsfield.architectures import load_weights
from hounsfield.architectures.export import export_onnx
from hounsfield.evaluation import bootstrap_mean, dice, hausdorff95_mm, surface_dice, volume_error_ml
from hounsfield.inference import segment
from hounsfield.inference.clean_up import clean_up
from hounsfield.inference.deciding import decision
from hounsfield.inference.engine import LoadSettings, OnnxGraph, engine
from hounsfield.packages import Manifest, build, evidence_json, parse_manifest
from hounsfield.packages.evidence import Cost, DataUsed, Evidence, Score
from hounsfield.planning.machine import read_machine
from hounsfield.preparing import prepare
from hounsfield.reading import read
from hounsfield.volume import LabelMap

HERE = Path(__file__).parent
PRECISIONS = ("fp32", "bf16")
UNITS = {"Dice": "1", "HD95": "mm", "NSD at 1 mm": "1", "volume error": "ml", "absolute volume error": "ml"}


def case_scores(found: LabelMap, reference: np.ndarray, label: int) -> dict[str, float]:
    """All metrics of one label of one case."""
    one, other = found.array == label, reference == label
    spacing = found.geometry.spacing_mm
    error = volume_error_ml(one, other, found.geometry.voxel_volume_mm3)
    return {
        "Dice": dice(one, other),
        "HD95": hausdorff95_mm(one, other, spacing),
        "NSD at 1 mm": surface_dice(one, other, spacing, 1.0),
        "volume error": error,
        "absolute volume error": abs(error),
    }


def evaluate(manifest: Manifest, graph: Path, precision: str, data: Path, names: list[str]) -> tuple[list[dict], dict]:
    """Scores per case and label, and what the engine said of itself."""
    window = manifest.input.window
    session = engine("openvino").load(OnnxGraph(graph), LoadSettings(precision, window.shape))
    rows = []
    for name in names:
        scan = read(data / "images" / f"{name}.nii.gz")
        reference = read(data / "labels" / f"{name}.nii.gz")
        began = time.perf_counter()
        answer = segment(prepare(scan, manifest.input), session, window, decision(manifest.output, 3))
        labels = clean_up(answer.labels, manifest.output.clean_up)
        seconds = time.perf_counter() - began
        # Same grid: the images of this data set carry inconsistent qform offsets beside their labels.
        if labels.array.shape != reference.array.shape:
            raise SystemExit(f"{name}: image and label differ in shape")
        depth = "8 bit" if scan.array.dtype == np.uint8 else "16 bit or float"
        for label in (1, 2):
            scores = case_scores(labels, np.asarray(reference.array), label)
            rows.append({"case": name, "label": label, "depth": depth, "seconds": seconds, **scores})
    facts = dict(session.facts())
    session.close()
    return rows, facts


def scores_of(rows: list[dict]) -> list[Score]:
    """Means with intervals over persons, for each label, over all and by intensity depth."""
    scores = []
    for stratum in ("all", "8 bit", "16 bit or float"):
        for label in (1, 2):
            chosen = [row for row in rows if row["label"] == label and stratum in ("all", row["depth"])]
            if len(chosen) < 5:
                continue
            persons = [str(subject_of(row["case"])) for row in chosen]
            for metric, unit in UNITS.items():
                interval = bootstrap_mean([row[metric] for row in chosen], persons, seed=1)
                scores.append(
                    Score(
                        metric=metric,
                        segment=label,
                        stratum=stratum,
                        n=interval.cases,
                        value=round(interval.mean, 4),
                        low=round(min(interval.low, interval.mean), 4),
                        high=round(max(interval.high, interval.mean), 4),
                        unit=unit,
                    )
                )
    return scores


def data_digest(data: Path, names: list[str]) -> str:
    total = hashlib.sha256()
    for name in names:
        for kind in ("images", "labels"):
            total.update(hashlib.sha256((data / kind / f"{name}.nii.gz").read_bytes()).digest())
    return total.hexdigest()


def evidence_of(
    graph: Path, precision: str, rows: list[dict], facts: dict, use: str, digest: str, training: dict
) -> Evidence:
    names = sorted({row["case"] for row in rows})
    worst = sorted(rows, key=lambda row: row["Dice"])[:5]
    return Evidence(
        format=1,
        precision=precision,
        graph_sha256={"graphs/fp32.onnx": hashlib.sha256(graph.read_bytes()).hexdigest()},
        engine=f"{facts['engine']} {facts['version']}, {facts['precision']} on {facts['device']}",
        data=DataUsed(name="MSD Task04 Hippocampus, held-out persons", digest=digest, cases=len(names), use=use),
        scores=tuple(scores_of(rows)),
        cost=Cost(
            machine=f"{read_machine().cpu_model}, {read_machine().cores} cores",
            seconds_per_case=round(statistics.median(row["seconds"] for row in rows), 4),
        ),
        details={
            "persons": len({subject_of(name) for name in names}),
            "splits_sha256": hashlib.sha256((HERE / "splits.json").read_bytes()).hexdigest(),
            "training": {key: training[key] for key in ("settings", "training_cases", "training_data_sha256", "torch")},
            "worst": [{"case": row["case"], "label": row["label"], "Dice": round(row["Dice"], 4)} for row in worst],
            "cases": [
                {
                    "case": row["case"],
                    "label": row["label"],
                    "Dice": round(row["Dice"], 4),
                    "HD95": round(row["HD95"], 3),
                }
                for row in rows
            ],
        },
    )


def card_of(evidences: list[Evidence], training: dict) -> str:
    """The card: the fixed text with the figures of the evidence put into its table."""
    lines = ["| precision | label | Dice | HD95 mm | NSD at 1 mm | volume error ml |", "|---|---|---|---|---|---|"]
    for evidence in evidences:
        for label, name in ((1, "anterior"), (2, "posterior")):
            cells = []
            for metric in ("Dice", "HD95", "NSD at 1 mm", "volume error"):
                score = next(s for s in evidence.scores if (s.metric, s.segment, s.stratum) == (metric, label, "all"))
                digits = 3 if metric != "HD95" else 2
                cells.append(f"{score.value:.{digits}f} [{score.low:.{digits}f}, {score.high:.{digits}f}]")
            lines.append(f"| {evidence.precision} | {name} | {' | '.join(cells)} |")
    text = (HERE / "card.md").read_text()
    first = evidences[0]
    return text.format(
        table="\n".join(lines),
        cases=first.data.cases,
        persons=first.details["persons"],
        use=first.data.use,
        training_cases=training["training_cases"],
        steps=training["settings"]["stop_at"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--part", choices=["test", "validation"], default="test")
    arguments = parser.parse_args()
    text = (HERE / "manifest.toml").read_bytes()
    manifest = parse_manifest(text, HERE / "manifest.toml")
    training = json.loads((arguments.weights / "training.json").read_text())
    names = json.loads((HERE / "splits.json").read_text())[arguments.part]
    weights = arguments.weights / "weights.safetensors"
    network = build_network(manifest.architecture)
    load_weights(network, load_file(weights))
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "fp32.onnx"
        export_onnx(network, manifest.architecture, manifest.input.window.shape, graph)
        digest = data_digest(arguments.data, names)
        evidences = []
        for precision in PRECISIONS:
            rows, facts = evaluate(manifest, graph, precision, arguments.data, names)
            evidences.append(evidence_of(graph, precision, rows, facts, arguments.part, digest, training))
        files: dict[str, Path | bytes] = {
            "weights.safetensors": weights,
            "graphs/fp32.onnx": graph,
            "card.md": card_of(evidences, training).encode(),
        }
        for evidence in evidences:
            files[f"evidence/{evidence.precision}.json"] = evidence_json(evidence)
        package = build(arguments.out, text, files)
    for evidence in evidences:
        print(evidence.precision, evidence.summary())
    print(package.root, package.digest)


if __name__ == "__main__":
    main()
