"""Turn a finished training run into the package that is shipped: evaluate, write the card, build.

Every precision that the package claims is evaluated on the test part of the example's split, as
``hounsfield evaluate`` does it, and the evidence goes into the package. The card is the example's
``card.md`` with each ``{{metric | stratum}}`` replaced by that figure of the evidence (fp32, or
``{{bf16: metric | stratum}}``), each ``{{training: key}}`` by a fact of the training record and each
``{{facts: key}}`` by one of ``--facts``, so no figure in a card is typed by hand. ``| segment 2`` chooses one of
several segments; without it the first is meant.

``--part validation`` comes first: it leaves the package without evidence in ``OUT/draft``, and for classes the
thresholds that the validation part proposes in ``OUT/operating_points.json``, which the package then names. An
evaluation that is there already is not made again, so the words of a card can change without another look at the
test part; the build refuses evidence of another graph.

Usage: python examples/ship.py examples/lung-nodule-ct runs/lung-nodule-ct OUT [--part validation] [--facts FILE]
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hounsfield.packages import build
from hounsfield.packages.evidence import Evidence, evidence_json, parse_evidence
from hounsfield.packages.manifest import Manifest
from hounsfield.training.finishing import manifest_of
from hounsfield.training.network import describe
from hounsfield.training.recipe_text import read_recipe
from hounsfield.usecases.evaluate import EvaluateRequest, evaluate
from hounsfield.usecases.job import Choices

PRECISIONS = ("fp32", "bf16")
POINTS = ("Youden", "sensitivity 0.9")
FACTS = ("recipe_sha256", "data_sha256", "seed", "training_cases", "training_patients", "validation_cases")
MORE_FACTS = ("steps", "best_step", "best_score", "finished", "seconds", "threads", "hounsfield", "torch")
TOKEN = re.compile(r"\{\{(?:(\w+): )?([^|{}]+?)(?: \| segment (\d+))?(?: \| ([^|{}]+?))?\}\}")


def filled(template: str, evidence: Mapping[str, Evidence], precision: str = "fp32") -> str:
    """The card: every ``{{...}}`` replaced by its figure; a figure that is not there stops the build."""

    def value(found: re.Match[str]) -> str:
        which, name, segment, stratum = found.groups()
        if which in ("training", "facts"):
            fact = evidence[precision].details[which][name]
            return f"{fact:.4g}" if isinstance(fact, float) else str(fact)
        scores = evidence[which or precision].scores
        asked = (name, stratum or "all", int(segment or 1))
        (one,) = [s for s in scores if (s.metric, s.stratum, s.segment or 1) == asked]
        unit = "" if one.unit == "1" else f" {one.unit}"
        digits = 2 if unit and abs(one.value) >= 0.1 else 3
        return f"{one.value:.{digits}f}{unit} ({one.low:.{digits}f} to {one.high:.{digits}f}; n = {one.n})"

    return TOKEN.sub(value, template)


def with_points(manifest: Manifest, path: Path) -> Manifest:
    """The manifest with the operating points that the validation part proposed for each reported class."""
    proposed = json.loads(path.read_text(encoding="utf-8"))
    table = manifest.model_dump(mode="json", exclude_none=True)
    for row in table["output"]["classes"]:
        if row["reported"]:
            points = proposed[row["label"]]
            row["operating_points"] = [{"name": name, "threshold": round(points[name], 4)} for name in POINTS]
    return Manifest.model_validate(table)


def with_training(data: bytes, record: Mapping[str, Any], facts: Mapping[str, Any]) -> Evidence:
    """The evidence, with what decided the weights and the further facts among its details."""
    evidence = parse_evidence(data, Path("evidence.json"))
    training = {key: record[key] for key in (*FACTS, *MORE_FACTS)}
    return evidence.model_copy(update={"details": {**evidence.details, "training": training, "facts": dict(facts)}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("example", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--part", default="test", help="validation: look, and build nothing")
    parser.add_argument("--by", action="append", default=None, help="column to split by, besides those of evaluate")
    parser.add_argument("--precision", action="append", default=None, help="evaluate only these (validation)")
    parser.add_argument("--facts", type=Path, help="JSON object for {{facts: key}}")
    arguments = parser.parse_args()
    facts = {} if arguments.facts is None else json.loads(arguments.facts.read_text(encoding="utf-8"))
    recipe = read_recipe(arguments.example / "recipe.toml")
    record = json.loads((arguments.run / "training.json").read_text(encoding="utf-8"))
    if recipe.package is None:
        raise SystemExit("the recipe needs [package]")
    split = None if recipe.data.split_file is None else arguments.example / recipe.data.split_file
    manifest = manifest_of(recipe, recipe.package, describe(recipe))
    if manifest.output.classes and arguments.part == "test":
        manifest = with_points(manifest, arguments.out / "operating_points.json")
    files: dict[str, Path | bytes] = {
        "graphs/fp32.onnx": arguments.run / "graph.onnx",
        "weights.safetensors": arguments.run / "weights.safetensors",
        "card.md": f"# {manifest.title}\n\nNot evaluated yet.\n".encode(),
    }
    evidence: dict[str, Evidence] = {}
    shutil.rmtree(arguments.out / "draft", ignore_errors=True)
    draft = build(arguments.out / "draft", manifest, files)
    for precision in arguments.precision or PRECISIONS:
        place = arguments.out / f"evaluation-{arguments.part}-{precision}"
        if not place.is_dir():
            request = EvaluateRequest(
                draft.root,
                arguments.example / recipe.data.table,
                place,
                split_file=split,
                part=arguments.part,
                choices=Choices(precision=precision),
                strata=None if arguments.by is None else tuple(arguments.by),
            )
            if not evaluate(request).succeeded:
                raise SystemExit("a case gave no score; see the report")
        evidence[precision] = with_training((place / f"evidence-{precision}.json").read_bytes(), record, facts)
        print(precision, evidence[precision].summary(), flush=True)
        if manifest.output.classes and arguments.part == "validation" and precision == "fp32":
            proposed = json.loads((place / "evaluation.json").read_text(encoding="utf-8"))["proposed_operating_points"]
            text = json.dumps(proposed, indent=1) + "\n"
            (arguments.out / "operating_points.json").write_text(text, encoding="utf-8")
    if arguments.part != "test":
        return
    template = (arguments.example / "card.md").read_text(encoding="utf-8")
    files["card.md"] = filled(template, evidence).encode("utf-8")
    files |= {f"evidence/{name}.json": evidence_json(one) for name, one in evidence.items()}
    table = manifest.model_dump(mode="json", exclude_none=True)
    table["evidence"] = [{"precision": name, "file": f"evidence/{name}.json"} for name in evidence]
    package = build(arguments.out, Manifest.model_validate(table), files)
    print(package.root, package.digest)


if __name__ == "__main__":
    main()
