"""nnU-Net v2 results folders (``TRAINER__PLANS__CONFIGURATION`` with plans.json, dataset.json, fold_*).

Cropping, normalisation, resampling, window positions, blending and the way back are written into the
manifest as steps of this house; folds and mirroring become part of the network.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hounsfield.errors import PackageInvalid, SourceRefused
from hounsfield.importing.answers import ASKED, Answers
from hounsfield.importing.basics import QUESTIONS, basic_template, manifest_from
from hounsfield.importing.claim import Claim, printable
from hounsfield.importing.draft import Draft
from hounsfield.importing.nnunet.plans import (
    READERS,
    Configuration,
    configuration_of,
    refuse_pickle_plans,
    slug,
    turned,
)
from hounsfield.importing.nnunet.weights import CHECKPOINTS, Fold, fold_arrays, read_fold

HEAVY = ("torch", "onnx", "safetensors.torch", "hounsfield.importing.torch_ends")

STANDARD = "standard-network"
_OWN_TRAINERS = re.compile(
    r"nnUNetTrainer(?:_\d+epochs?|_onlyMirror01|_onlyMirror01_\d+ep|NoMirroring|_\d+epochs_NoMirroring|NoDA|DA5|DAOrd0"
    r"|_DASegOrd0|_DASegOrd0_NoMirroring|NoDeepSupervision|DiceCELoss_noSmooth|DiceLoss|CELoss|TopkLoss"
    r"|CosAnneal|Adam|AdamWlr\w+|_lr\w+|_probabilisticOversampling\w*)?"
)
_QUESTIONS = {
    **QUESTIONS,
    "source": "Which folds are averaged, from which checkpoint, and whether nnU-Net's mirroring is done.",
    "source.trainer": "Not a trainer of nnU-Net's own: write 'standard-network' if it builds the plan's network.",
    "input.orientation": "Orientation of the training files as stored (nibabel.aff2axcodes), e.g. RAS.",
}


def claims(source: Path) -> Claim | None:
    """A claim on a folder with ``plans.json`` and ``fold_*`` folders."""
    if not source.is_dir():
        return None
    _refuse_several(source)
    names = fold_names(source)
    if not names or not any((source / name).exists() for name in ("plans.json", "plans.pkl", "dataset.json")):
        return None
    refuse_pickle_plans(source)
    checkpoint = CHECKPOINTS[0]
    folds = [read_fold(source, name, checkpoint) for name in names]
    plan = configuration_of(source, one_configuration(folds, source))
    return Claim("nnunet", "nnU-Net 2 model", _found(plan, folds), _template(plan, folds, checkpoint), _QUESTIONS)


def convert(source: Path, answers: Answers, folder: Path) -> Draft:
    """All chosen folds as one network, and the plan's steps as a manifest."""
    from hounsfield.importing.torch_ends import finish, network_of

    folds = _chosen(source, answers)
    plan = configuration_of(source, one_configuration(folds, source))
    _trainer_known(folds[0], answers)
    mirror = mirrored_axes(plan, folds[0]) if answers.at("source.mirroring") else []
    description = {**plan.network, "members": len(folds), "mirror": mirror}
    network, shapes = network_of(description)
    arrays: dict[str, Any] = {}
    for number, fold in enumerate(folds):
        prefix = f"members.{number}."
        wanted = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
        arrays |= {prefix + name: array for name, array in fold_arrays(fold, wanted, source).items()}
    ends = finish(network, description, arrays, plan.window, folder)
    channels = channel_tables(plan, answers.at("input.channels"))
    manifest = manifest_from(
        answers, input_table=input_table(plan), output_table=output_table(plan), architecture=description
    )
    manifest["input"]["channels"] = channels
    manifest["input"]["orientation"] = turned(_orientation(answers), plan.turn)
    facts = (
        f"nnU-Net 2 configuration {plan.name}, trainer {printable(folds[0].trainer, 80)}, "
        f"folds {', '.join(fold.name for fold in folds)}; mirrored axes {mirror or 'none'}.",
        *_label_facts(plan),
    )
    return Draft(manifest, ends.files, facts, goldens=ends.goldens)


def _refuse_several(source: Path) -> None:
    """Raise SourceRefused for a folder of results folders, such as TotalSegmentator's weights."""
    inner = [path.parent.relative_to(source) for depth in ("*", "*/*") for path in source.glob(f"{depth}/plans.json")]
    if inner and not (source / "plans.json").exists():
        raise SourceRefused(
            f"it holds {len(inner)} nnU-Net model{'s' if len(inner) > 1 else ''}",
            f"import each by itself, for example {printable(str(min(inner)), 120)}",
            source,
        )


def fold_names(source: Path) -> list[str]:
    """The folds of a results folder, by their folders."""
    found = [entry.name.removeprefix("fold_") for entry in source.iterdir() if entry.name.startswith("fold_")]
    return sorted(name for name in found if re.fullmatch(r"\d|all", name))


def one_configuration(folds: list[Fold], source: Path) -> str:
    """The configuration that all folds were trained with.

    Raises
    ------
    SourceRefused
        If they were trained with several, or allow other mirroring.
    """
    if len({(fold.configuration, fold.trainer, fold.mirror) for fold in folds}) != 1:
        raise SourceRefused(
            "its folds were trained with different configurations or trainers", "give folds of one training", source
        )
    return folds[0].configuration


def mirrored_axes(plan: Configuration, fold: Fold) -> list[int]:
    """The axes (k, j, i) that are mirrored; those of a 2-D network are j and i."""
    flat = plan.window[0] == 1 and all(stride[0] == 1 for stride in plan.network["strides"])
    axes = sorted(axis + 1 if flat and plan.spacing_mm[0] == 0 else axis for axis in fold.mirror)
    if axes and max(axes) > 2:
        raise SourceRefused("it mirrors an axis that the network does not have", "check the trainer")
    return axes


def input_table(plan: Configuration) -> dict[str, Any]:
    """The manifest's ``[input]`` but for channels and orientation."""
    separate = {} if plan.separate_above is None else {"separate_above": plan.separate_above}
    clipped = all(steps and steps[0]["step"] == "clip" for steps in plan.intensity)
    return {
        "spacing_mm": list(plan.spacing_mm),
        "interpolation": plan.interpolation,
        **separate,
        "crop": "non-zero",
        "padding": "lowest" if clipped else "pad-value",
        "window": {
            "shape": list(plan.window),
            "overlap": 0.5,
            "positions": "even",
            "blending": "gaussian-half",
            "sigma": 0.125,
        },
    }


def output_table(plan: Configuration) -> dict[str, Any]:
    """The manifest's ``[output]`` but for the segments."""
    if plan.labels.regions:
        return {"activation": "sigmoid", "threshold": 0.5, "winner": "last"}
    return {"activation": "softmax"}


def channel_tables(plan: Configuration, answered: Any) -> list[dict[str, Any]]:
    """The channels with their own intensity steps.

    Raises
    ------
    PackageInvalid
        If the answers name another number of channels than the plan.
    """
    if len(answered) != len(plan.channels):
        raise PackageInvalid(
            f"the answers name {len(answered)} channels, the model has {len(plan.channels)}",
            f"name them: {', '.join(plan.channels)}",
        )
    return [
        {**table, "intensity": list(steps), "outline": outline}
        for table, steps, outline in zip(answered, plan.intensity, plan.outline, strict=True)
    ]


def _orientation(answers: Answers) -> str:
    code = str(answers.at("input.orientation")).upper()
    if not re.fullmatch(r"[LRAPSI]{3}", code):
        raise PackageInvalid(f"{printable(code, 20)!r} is not an orientation", "give three letters such as RAS")
    return code


def _chosen(source: Path, answers: Answers) -> list[Fold]:
    names, checkpoint = answers.at("source.folds"), answers.at("source.checkpoint")
    if not isinstance(names, list) or not names or len(set(map(str, names))) != len(names):
        raise PackageInvalid("source.folds is no list of folds", 'give for example ["0", "1"]')
    if checkpoint not in CHECKPOINTS:
        raise PackageInvalid("source.checkpoint is no checkpoint of nnU-Net", f"use one of: {', '.join(CHECKPOINTS)}")
    strange = [name for name in map(str, names) if not re.fullmatch(r"\d|all", name)]
    if strange:
        raise PackageInvalid(f"source.folds names {printable(strange[0], 20)!r}", "folds are 0 to 9, or all")
    return [read_fold(source, str(name), str(checkpoint)) for name in names]


def _trainer_known(fold: Fold, answers: Answers) -> None:
    if _OWN_TRAINERS.fullmatch(fold.trainer) or answers.get("source.trainer") == STANDARD:
        return
    raise SourceRefused(
        f"its trainer {printable(fold.trainer, 80)!r} is not nnU-Net's own and may have built another network",
        f"answer source.trainer = {STANDARD!r} if you know that it did not",
    )


def _template(plan: Configuration, folds: list[Fold], checkpoint: str) -> dict[str, Any]:
    orientation = READERS[plan.reader] or ASKED
    table = basic_template(
        [slug(name, number) for number, name in enumerate(plan.channels)], plan.labels.names, orientation=orientation
    )
    source: dict[str, Any] = {"folds": [fold.name for fold in folds], "checkpoint": checkpoint}
    source["mirroring"] = bool(folds[0].mirror)
    if not _OWN_TRAINERS.fullmatch(folds[0].trainer):
        source["trainer"] = ASKED
    return {**table, "source": source}


def _found(plan: Configuration, folds: list[Fold]) -> tuple[tuple[str, str], ...]:
    spacing = " x ".join("own" if one == 0 else f"{one:g}" for one in plan.spacing_mm)
    kind = "regions" if plan.labels.regions else "labels"
    return (
        ("configuration", plan.name),
        ("trainer", folds[0].trainer),
        ("folds", ", ".join(fold.name for fold in folds)),
        ("channels", ", ".join(plan.channels)),
        (kind, ", ".join(plan.labels.names)),
        ("grid", f"{spacing} mm, axes {plan.turn}, windows {' x '.join(map(str, plan.window))}"),
        ("network", f"{plan.network['name']}, {len(plan.network['filters'])} levels"),
        ("mirroring", ", ".join(map(str, folds[0].mirror)) or "none"),
    )


def _label_facts(plan: Configuration) -> tuple[str, ...]:
    values = plan.labels.values
    if values == tuple(range(1, len(values) + 1)):
        return ()
    pairs = ", ".join(f"{number} is nnU-Net's {value}" for number, value in enumerate(values, start=1))
    return (f"Segments are numbered in the order of the regions: {pairs}.",)
