"""nnU-Net v2 results folders (``TRAINER__PLANS__CONFIGURATION`` with plans.json, dataset.json, fold_*).

Cropping, normalisation, resampling, window positions, blending and the way back are written into the
manifest as steps of this house; folds and mirroring become part of the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hounsfield.errors import SourceRefused
from hounsfield.importing.answers import ASKED, Answers
from hounsfield.importing.basics import basic_template, manifest_from
from hounsfield.importing.claim import Claim, printable
from hounsfield.importing.draft import Draft
from hounsfield.importing.nnunet.model import (
    QUESTIONS_OF_MODELS,
    channel_tables,
    chosen_folds,
    fold_names,
    found_folds,
    found_in,
    input_table,
    label_facts,
    one_configuration,
    orientation_of,
    output_table,
    source_table,
    weights_of_folds,
)
from hounsfield.importing.nnunet.plans import (
    READERS,
    Configuration,
    configuration_of,
    refuse_pickle_plans,
    slug,
    turned,
)
from hounsfield.importing.nnunet.weights import Fold

HEAVY = ("torch", "onnx", "safetensors.torch", "hounsfield.importing.torch_ends")
_DOCUMENTS = ("plans.json", "plans.pkl", "dataset.json")


def claims(source: Path) -> Claim | None:
    """A claim on a folder with ``plans.json`` and ``fold_*`` folders."""
    if not source.is_dir():
        return None
    if not fold_names(source) or not any((source / name).exists() for name in _DOCUMENTS):
        return None
    refuse_pickle_plans(source)
    folds = found_folds(source)
    plan = _alone(source, folds)
    return Claim("nnunet", "nnU-Net 2 model", found_in(plan, folds), _template(plan, folds), QUESTIONS_OF_MODELS)


def convert(source: Path, answers: Answers, folder: Path) -> Draft:
    """All chosen folds as one network, and the plan's steps as a manifest."""
    from hounsfield.importing.torch_ends import finish

    table = answers.at("source")
    folds = chosen_folds(source, table)
    plan = _alone(source, folds)
    weights = weights_of_folds(source, plan, folds, bool(table["mirroring"]))
    ends = finish(weights.network, weights.description, weights.arrays, plan.window, folder)
    channels = channel_tables(plan, answers.at("input.channels"))
    manifest = manifest_from(
        answers, input_table=input_table(plan), output_table=output_table(plan), architecture=weights.description
    )
    manifest["input"]["channels"] = channels
    manifest["input"]["orientation"] = turned(orientation_of(answers), plan.turn)
    return Draft(manifest, ends.files, (weights.fact, *label_facts(plan)), goldens=ends.goldens)


def _alone(source: Path, folds: list[Fold]) -> Configuration:
    plan = configuration_of(source, one_configuration(folds, source))
    if plan.previous is not None:
        raise SourceRefused(
            f"its plan makes it the second of a cascade, after {printable(plan.previous, 60)}",
            "give the folder that holds both results folders",
            source,
        )
    return plan


def _template(plan: Configuration, folds: list[Fold]) -> dict[str, Any]:
    orientation = READERS[plan.reader] or ASKED
    names = [slug(name, number) for number, name in enumerate(plan.channels)]
    return {**basic_template(names, plan.labels.names, orientation=orientation), "source": source_table(folds)}
