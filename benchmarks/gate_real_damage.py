"""Is a real model caught that was damaged on small lesions only? And what becomes of nodules below 3 mm?

``damage``: the package reads the test part of its example as it is, and once more as a model that answers
nothing below 65 mm3 (a ball of 5 mm): damaged on small nodules, the same on large ones. The network is the same, so
its answers to the first reading are given again to the second one. Sets of as many patients are drawn from both with
replacement, and each set goes through the gate; so does the model against itself.

``probe``: real test nodules of 3 to 10 mm, the whole crop shrunk by resampling until the nodule is 2.5 mm wide. This is
a probe and no data of small nodules: noise, partial volume and surroundings are shrunk with it. It compares precisions.

    python benchmarks/gate_real_damage.py damage --save --package examples/lung-nodule-ct/small/lung-nodule-ct-small-1.0.0
    python benchmarks/gate_real_damage.py probe --package NEW --candidate int8 --save
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import tempfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from scipy import ndimage

from hounsfield.compression import Gate, GateRule, judge, parse_gate, read_gate
from hounsfield.evaluation.summary import ScoredCase
from hounsfield.inference.engine import Floats
from hounsfield.packages import ModelPackage, build, open_package
from hounsfield.usecases.evaluate import EvaluateRequest, part_of, read_all
from hounsfield.usecases.events import silent
from hounsfield.usecases.gate import GateRequest, run_gate
from hounsfield.usecases.job import Choices
from hounsfield.usecases.sessions import Opened, Sessions

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "lung-nodule-ct"
RESULTS = ROOT / "benchmarks" / "results"
SETS, SEED, LEAST_MM3, PROBE_MM = 100, 20261122, 65.0, 2.5


def damaged_package(package: ModelPackage, folder: Path) -> ModelPackage:
    """The same network that throws away everything below ``LEAST_MM3``."""
    table = package.manifest.model_dump(mode="json", exclude_none=True)
    table["id"], table["evidence"] = "lung-nodule-damaged", []
    table["output"]["clean_up"].append({"step": "remove-small", "segments": [1], "volume_mm3": LEAST_MM3})
    kept = [name for name in package.files if name != "manifest.toml" and not name.startswith("evidence/")]
    return build(folder, type(package.manifest).model_validate(table), {name: package.root / name for name in kept})


class Remembered:
    """A session whose answers are kept; one that is given answers asks no network."""

    def __init__(self, session: Any, answers: dict[bytes, Floats], again: bool) -> None:
        self._session, self._answers, self._again = session, answers, again
        self.precision, self.facts, self.close = session.precision, session.facts, session.close

    def stream(self, batches: Iterable[Floats]) -> Iterator[Floats]:
        """The answers in order; a window that was not read before is an error on the second reading."""
        asked: deque[bytes] = deque()

        def heard() -> Iterator[Floats]:
            for batch in batches:
                asked.append(hashlib.sha256(batch.tobytes()).digest())
                yield batch

        if self._again:
            for _ in heard():
                yield self._answers[asked.popleft()].copy()
            return
        for answer in self._session.stream(heard()):
            self._answers[asked.popleft()] = answer.copy()
            yield answer


class RememberingSessions(Sessions):
    """Opens networks whose answers are kept by the window they were given."""

    def __init__(self, answers: dict[bytes, Floats], again: bool) -> None:
        super().__init__()
        self._answers, self._again = answers, again

    def open(self, package: ModelPackage, choices: Choices, plan: Any = None) -> Opened:
        """The network, remembered."""
        opened = super().open(package, choices, plan)
        return replace(opened, session=Remembered(opened.session, self._answers, self._again))


def read_part(package: ModelPackage, answers: dict[bytes, Floats], again: bool) -> list[ScoredCase]:
    """The test part, scored in fp32; ``again`` takes the answers of the first reading."""
    request = EvaluateRequest(
        package.root,
        EXAMPLE / "data" / "cases.csv",
        Path("unused"),
        split_file=EXAMPLE / "splits.json",
        part="test",
        worst=0,
    )
    data = part_of(request, labels=True, images=True)
    sessions = RememberingSessions(answers, again)
    read = read_all(package, Choices(allow_unproven=True), data, request, silent, sessions)
    if read.failed:
        raise SystemExit(f"{len(read.failed)} cases gave no score, the first: {read.failed[0]}")
    return list(read.cases)


def drawn(cases: list[ScoredCase], patients: list[str], chosen: np.ndarray) -> list[ScoredCase]:
    """The cases of drawn patients; one drawn twice counts as two people."""
    by_patient: dict[str, list[ScoredCase]] = {name: [] for name in patients}
    for case in cases:
        by_patient[case.patient_id].append(case)
    return [
        replace(case, case_id=f"{case.case_id}-{place}", patient_id=f"{patients[number]}-{place}")
        for place, number in enumerate(chosen)
        for case in by_patient[patients[number]]
    ]


def damage(args: argparse.Namespace) -> dict[str, object]:
    """How often the damaged model is caught and the same model passes."""
    package = open_package(args.package)
    criterion = {"metric": "lesion-sensitivity", "margin": 0.05, "size_bands": ["3-6 mm"]}
    rule: GateRule = parse_gate({"format": 1, "resamples": 2000, "criteria": [criterion]}, Path("rule"))
    with tempfile.TemporaryDirectory() as folder:
        answers: dict[bytes, Floats] = {}
        whole = read_part(package, answers, again=False)
        worse = read_part(damaged_package(package, Path(folder)), answers, again=True)
    patients = sorted({case.patient_id for case in whole})
    random = np.random.default_rng(SEED)
    found: dict[str, Counter[str]] = {"damaged": Counter(), "itself": Counter()}
    for _ in range(SETS):
        chosen = random.integers(0, len(patients), len(patients))
        before = drawn(whole, patients, chosen)
        found["damaged"][judge(Gate(rule, before, drawn(worse, patients, chosen))).verdict] += 1
        found["itself"][judge(Gate(rule, before, before)).verdict] += 1
    real = judge(Gate(read_gate(EXAMPLE / "gate.toml"), whole, worse))
    return {
        "package": package.reference,
        "digest": package.digest,
        "cases": len(whole),
        "patients": len(patients),
        "sets": SETS,
        "verdicts": {name: dict(counts) for name, counts in found.items()},
        "the set itself": {
            f"{one.metric} {one.stratum}": [one.judgement.verdict, round(one.judgement.mean, 4), one.judgement.items]
            for one in real.strata
        },
        "lost": Counter(one.band for one in real.changes if one.change == "lost"),
    }


def shrunk(source: Path, target: Path, factor: float, label: bool) -> None:
    """The file's picture made smaller by a factor on the same spacing; a label keeps at least one voxel."""
    image = nibabel.load(source)
    values = np.asarray(image.dataobj, np.float32)
    smooth = ndimage.gaussian_filter(values, 0.5 * (1 / factor - 1))
    small = ndimage.zoom(smooth, factor, order=1, mode="nearest", grid_mode=True)
    if label:
        kept = small >= min(0.5, float(small.max()))
        small = kept.astype(np.uint8)
    else:
        small = small.round().astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(small, image.affine), target)


def probe(args: argparse.Namespace) -> dict[str, object]:
    """Both precisions on shrunken nodules."""
    package = open_package(args.package)
    ids = set(json.loads((EXAMPLE / "splits.json").read_text())["test"])
    with (EXAMPLE / "data" / "cases.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["case_id"] in ids]
    with tempfile.TemporaryDirectory() as scratch:
        folder, kept = Path(scratch), []
        for row in rows:
            label = nibabel.load(EXAMPLE / "data" / row["label"])
            volume = float((np.asarray(label.dataobj) > 0).sum()) * abs(float(np.linalg.det(label.affine[:3, :3])))
            width = (6 * volume / np.pi) ** (1 / 3)
            if 3 <= width < 10:
                for name, is_label in ((row["image"], False), (row["label"], True)):
                    shrunk(EXAMPLE / "data" / name, folder / name, PROBE_MM / width, is_label)
                kept.append({key: row[key] for key in ("case_id", "image", "label", "patient_id")})
        table = folder / "probe.csv"
        with table.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(kept[0]))
            writer.writeheader()
            writer.writerows(kept)
        (folder / "GATE.toml").write_text(
            "format = 1\n[[criteria]]\nmetric = 'lesion-sensitivity'\nmargin = 0.05\n"
            "size_bands = ['< 3 mm', '3-6 mm']\n[[criteria]]\nmetric = 'lesion-dice'\nmargin = 0.02\n"
        )
        request = GateRequest(package.root, table, folder / "GATE.toml", folder / "out", args.candidate)
        result = run_gate(request)
        print(result.outputs["report"].read_text())
        if args.save:
            text = result.outputs["report"].read_text()
            note = "\nA probe: real nodules shrunk by resampling (benchmarks/gate_real_damage.py); no data of small nodules.\n"
            (RESULTS / f"probe_lung-nodule-ct_{args.candidate}.md").write_text(text + note)
        return {"verdict": result.record.outcome.verdict, "cases": result.record.outcome.cases}


def main() -> None:
    """Run, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["damage", "probe"])
    parser.add_argument("--package", default="lung-nodule-ct")
    parser.add_argument("--candidate", default="int8")
    parser.add_argument("--save", action="store_true")
    args = parser.parse_args()
    found = damage(args) if args.what == "damage" else probe(args)
    text = json.dumps(found, indent=1) + "\n"
    print(text)
    if args.save and args.what == "damage":
        (RESULTS / "gate_real_damage.json").write_text(text)


if __name__ == "__main__":
    main()
