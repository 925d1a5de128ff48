"""Folders of several nnU-Net v2 results folders: a cascade, or models merged into one answer (TotalSegmentator).

Each becomes a window step of one package, exactly as it would be imported by itself. A cascade's second stage is
given the labels of the first. Of merged models the later ones, by the names of their folders, lie over the earlier.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hounsfield.errors import PackageInvalid
from hounsfield.importing.answers import ASKED, Answers
from hounsfield.importing.basics import basic_template, manifest_from
from hounsfield.importing.claim import Claim, printable
from hounsfield.importing.draft import Draft, Golden
from hounsfield.importing.nnunet.model import (
    QUESTIONS_OF_MODELS,
    Weights,
    channel_tables,
    chosen_folds,
    input_table,
    label_facts,
    one_configuration,
    orientation_of,
    output_table,
    source_table,
    weights_of_folds,
)
from hounsfield.importing.nnunet.plans import READERS, configuration_of, slug, turned
from hounsfield.importing.nnunet.several import (
    Group,
    Stage,
    are_choices,
    demand_one_answer,
    groups_of,
    places_in,
    stages_in,
)

HEAVY = ("torch", "onnx", "hounsfield.importing.torch_ends")
_QUESTIONS = {
    **QUESTIONS_OF_MODELS,
    "source": "One entry per results folder; numbers: which segment each of its labels 1, 2, 3 ... is.",
    "source.model": "Several answer the same: the folder of the one to import (a cascade by its second stage).",
}


def claims(source: Path) -> Claim | None:
    """A claim on a folder of results folders, at most two levels down."""
    if not places_in(source):
        return None
    stages = stages_in(source)
    groups = groups_of(stages, source)
    choices = are_choices(groups)
    if not choices:
        demand_one_answer(groups, source)
    found = tuple((stage.title, _told(stage)) for stage in stages)
    title = "nnU-Net 2 cascade" if len(groups) == 1 and groups[0].first else f"{len(groups)} nnU-Net 2 models"
    return Claim("nnunet-models", title, found, _template(groups, choices), _QUESTIONS)


def convert(source: Path, answers: Answers, folder: Path) -> Draft:
    """Every stage as a window step with a graph of its own."""
    stages = stages_in(source)
    groups = _chosen(groups_of(stages, source), answers)
    tables = _tables(groups, answers)
    steps: list[dict[str, Any]] = []
    goldens: list[Golden] = []
    facts: list[str] = []
    for group in groups:
        for stage in group.stages:
            name = _step_name(stage, len(groups), [step["name"] for step in steps])
            weights, chosen = _weights(source, stage, tables[stage.title])
            after = steps[-1]["name"] if stage is group.last and group.first is not None else None
            steps.append(_step(name, chosen, answers, _numbers(stage, group, tables, len(groups)), after))
            goldens.append(_golden(weights, chosen, folder, name))
            facts += [f"{printable(stage.place, 160)}: {weights.fact}", *label_facts(chosen.plan)]
    last = groups[-1].last.plan
    graphs = [
        {"precision": "fp32", "step": step["name"], "file": f"graphs/{step['name']}.onnx", **_ENDS} for step in steps
    ]
    manifest = manifest_from(answers, input_table=input_table(last), output_table=output_table(last), graphs=graphs)
    manifest["input"] |= {key: steps[-1]["input"][key] for key in ("channels", "orientation")}
    files = {graph["file"]: f"{graph['step']}.onnx" for graph in graphs}
    return Draft({**manifest, "steps": steps}, files, tuple(facts), _limits(groups), tuple(goldens))


_ENDS = {"input": "image", "output": "logits"}


def _chosen(groups: list[Group], answers: Answers) -> list[Group]:
    """The groups to import: all, or where they are choices the one that was named."""
    if not are_choices(groups):
        return groups
    wanted = answers.at("source.model")
    chosen = [group for group in groups if group.last.title == wanted]
    if not chosen:
        known = ", ".join(group.last.title for group in groups)
        raise PackageInvalid(f"source.model is {printable(str(wanted), 120)!r}", f"use one of: {printable(known, 400)}")
    return chosen


def _tables(groups: list[Group], answers: Answers) -> dict[str, Mapping[str, Any]]:
    """The entry of each results folder in the answers."""
    given = [table for table in answers.at("source.models") if isinstance(table, Mapping)]
    tables = {str(table.get("folder")): table for table in given}
    lost = [stage.title for group in groups for stage in group.stages if stage.title not in tables]
    if lost or len(tables) != len(given):
        what = f"leave out {printable(lost[0], 120)}" if lost else "name a folder twice"
        raise PackageInvalid(f"source.models {what}", "keep the entries of the template, each with its folder")
    return tables


def _weights(source: Path, stage: Stage, table: Mapping[str, Any]) -> tuple[Weights, Stage]:
    """The folds that were chosen as one network, and the stage as they see it."""
    place = source / stage.place
    folds = chosen_folds(place, table)
    plan = configuration_of(place, one_configuration(folds, place))
    return weights_of_folds(place, plan, folds, bool(table["mirroring"])), Stage(stage.place, plan, folds)


def _golden(weights: Weights, stage: Stage, folder: Path, name: str) -> Golden:
    from hounsfield.importing.torch_ends import finish_step

    return finish_step(weights.network, weights.description, weights.arrays, stage.plan.window, folder, name)


def _numbers(stage: Stage, group: Group, tables: Mapping[str, Mapping[str, Any]], models: int) -> list[int]:
    """The segment of each label of a stage; the first of a cascade answers none."""
    count = len(stage.plan.labels.names)
    if stage is not group.last:
        return [0] * count
    numbers = tables[stage.title].get("numbers") if models > 1 else list(range(1, count + 1))
    if not isinstance(numbers, list) or len(numbers) != count or any(type(one) is not int for one in numbers):
        raise PackageInvalid(
            f"source.models: numbers of {printable(stage.title, 120)} are not {count} whole numbers",
            f"give one for each of: {', '.join(stage.plan.labels.names[:8])} ...",
        )
    return numbers


def _step(name: str, stage: Stage, answers: Answers, numbers: list[int], after: str | None) -> dict[str, Any]:
    plan = stage.plan
    spec = {
        **input_table(plan),
        "channels": channel_tables(plan, answers.at("input.channels")),
        "orientation": turned(orientation_of(answers), plan.turn),
    }
    step = {"step": "window", "name": name, "input": spec, **output_table(plan), "numbers": numbers}
    if after is None:
        return step
    given = [plan.labels.values.index(value) + 1 for value in plan.labels.foreground]
    return {**step, "after": after, "given": given}


def _step_name(stage: Stage, models: int, taken: list[str]) -> str:
    """A name from the data set where there are several, and from the configuration."""
    name = slug(stage.plan.name if models == 1 else stage.dataset.rpartition("/")[2] or stage.place, len(taken))[:56]
    name = name.strip("-")
    return name if name not in taken else f"{name}-{len(taken)}"


def _limits(groups: list[Group]) -> tuple[str, ...]:
    merged = "Where two of its models answer, the later one by the names of their folders does."
    return (merged,) if len(groups) > 1 else ()


def _told(stage: Stage) -> str:
    spacing = " x ".join("own" if one == 0 else f"{one:g}" for one in stage.plan.spacing_mm)
    after = f", after {stage.plan.previous}" if stage.plan.previous else ""
    folds = ", ".join(fold.name for fold in stage.folds)
    count = len(stage.plan.labels.names)
    return f"{stage.plan.name}{after}, {count} labels, folds {folds}, {spacing} mm, {stage.folds[0].trainer}"


def _template(groups: list[Group], choices: bool) -> dict[str, Any]:
    first = groups[0].last.plan
    answering = groups[:1] if choices else groups
    labels = [name for group in answering for name in group.last.plan.labels.names]
    orientation = READERS[first.reader] or ASKED
    table = basic_template(
        [slug(name, number) for number, name in enumerate(first.channels)], labels, orientation=orientation
    )
    models, number = [], 1
    for group in groups:
        for stage in group.stages:
            entry = {"folder": stage.title, **source_table(stage.folds)}
            if len(groups) > 1 and not choices and stage is group.last:
                count = len(stage.plan.labels.names)
                entry["numbers"] = list(range(number, number + count))
                number += count
            models.append(entry)
    return {**table, "source": {**({"model": ASKED} if choices else {}), "models": models}}
