"""One trained nnU-Net model: its folds, and what its plan says in the words of a manifest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hounsfield.errors import PackageInvalid, SourceRefused
from hounsfield.importing.answers import ASKED, Answers
from hounsfield.importing.basics import QUESTIONS
from hounsfield.importing.claim import printable
from hounsfield.importing.nnunet.plans import Configuration
from hounsfield.importing.nnunet.weights import CHECKPOINTS, Fold, fold_arrays, read_fold

if TYPE_CHECKING:
    from torch import nn

STANDARD = "standard-network"
_OWN_TRAINERS = re.compile(
    r"nnUNetTrainer(?:_\d+epochs?|_onlyMirror01|_onlyMirror01_\d+ep|NoMirroring|_\d+epochs_NoMirroring|NoDA|DA5|DAOrd0"
    r"|_DASegOrd0|_DASegOrd0_NoMirroring|NoDeepSupervision|DiceCELoss_noSmooth|DiceLoss|CELoss|TopkLoss"
    r"|CosAnneal|Adam|AdamWlr\w+|_lr\w+|_probabilisticOversampling\w*)?"
)

QUESTIONS_OF_MODELS = {
    **QUESTIONS,
    "source": "Which folds are averaged, from which checkpoint, and whether nnU-Net's mirroring is done.",
    "source.trainer": "Not a trainer of nnU-Net's own: write 'standard-network' if it builds the plan's network.",
    "input.orientation": "Orientation of the training files as stored (nibabel.aff2axcodes), e.g. RAS.",
}


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


def orientation_of(answers: Answers) -> str:
    """The orientation of the training files, as answered."""
    code = str(answers.at("input.orientation")).upper()
    if not re.fullmatch(r"[LRAPSI]{3}", code):
        raise PackageInvalid(f"{printable(code, 20)!r} is not an orientation", "give three letters such as RAS")
    return code


def source_table(folds: list[Fold]) -> dict[str, Any]:
    """What the answers may change of a model, as nnU-Net would take it: folds, their checkpoint, mirroring."""
    table: dict[str, Any] = {"folds": [fold.name for fold in folds], "checkpoint": CHECKPOINTS[0]}
    table["mirroring"] = bool(folds[0].mirror)
    if not _OWN_TRAINERS.fullmatch(folds[0].trainer):
        table["trainer"] = ASKED
    return table


def found_folds(folder: Path) -> list[Fold]:
    """The final checkpoints of all folds of a results folder."""
    return [read_fold(folder, name, CHECKPOINTS[0]) for name in fold_names(folder)]


def chosen_folds(folder: Path, table: Mapping[str, Any]) -> list[Fold]:
    """The folds that the answers name, from the checkpoint that they name.

    Raises
    ------
    PackageInvalid
        If they name what is no fold or checkpoint.
    SourceRefused
        If there is none, or its trainer may have built another network.
    """
    names, checkpoint = table.get("folds"), table.get("checkpoint")
    if not isinstance(names, list) or not names or len(set(map(str, names))) != len(names):
        raise PackageInvalid("source.folds is no list of folds", 'give for example ["0", "1"]')
    if checkpoint not in CHECKPOINTS:
        raise PackageInvalid("source.checkpoint is no checkpoint of nnU-Net", f"use one of: {', '.join(CHECKPOINTS)}")
    strange = [name for name in map(str, names) if not re.fullmatch(r"\d|all", name)]
    if strange:
        raise PackageInvalid(f"source.folds names {printable(strange[0], 20)!r}", "folds are 0 to 9, or all")
    folds = [read_fold(folder, str(name), str(checkpoint)) for name in names]
    if not _OWN_TRAINERS.fullmatch(folds[0].trainer) and table.get("trainer") != STANDARD:
        raise SourceRefused(
            f"its trainer {printable(folds[0].trainer, 80)!r} is not nnU-Net's own and may have built another network",
            f"answer source.trainer = {STANDARD!r} if you know that it did not",
        )
    return folds


@dataclass(frozen=True, eq=False)
class Weights:
    """Folds as one network: the ``[architecture]`` table, the network, and its numbers by our names."""

    description: dict[str, Any]
    network: nn.Module
    arrays: dict[str, Any]
    fact: str


def weights_of_folds(folder: Path, plan: Configuration, folds: list[Fold], mirroring: bool) -> Weights:
    """All folds, and mirroring where it is wanted, as one network."""
    from hounsfield.importing.torch_ends import network_of

    mirror = mirrored_axes(plan, folds[0]) if mirroring else []
    description = {**plan.network, "members": len(folds), "mirror": mirror}
    network, shapes = network_of(description)
    arrays: dict[str, Any] = {}
    for number, fold in enumerate(folds):
        prefix = f"members.{number}."
        wanted = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
        arrays |= {prefix + name: array for name, array in fold_arrays(fold, wanted, folder).items()}
    fact = (
        f"nnU-Net 2 configuration {plan.name}, trainer {printable(folds[0].trainer, 80)}, "
        f"folds {', '.join(fold.name for fold in folds)}; mirrored axes {mirror or 'none'}."
    )
    return Weights(description, network, arrays, fact)


def label_facts(plan: Configuration) -> tuple[str, ...]:
    """How segments are numbered, where that is not as nnU-Net numbers its labels."""
    values = plan.labels.values
    if values == tuple(range(1, len(values) + 1)):
        return ()
    pairs = ", ".join(f"{number} is nnU-Net's {value}" for number, value in enumerate(values, start=1))
    return (f"Segments are numbered in the order of the regions: {pairs}.",)


def found_in(plan: Configuration, folds: list[Fold]) -> tuple[tuple[str, str], ...]:
    """What a results folder holds, for the claim on it."""
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
