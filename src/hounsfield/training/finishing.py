"""The end of a training: the graph, compared in both engines, and the package around it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn

from hounsfield.architectures.export import OUTPUT, Exported, example_inputs, export_onnx, on_record_alone, parity
from hounsfield.errors import EngineError, PackageInvalid
from hounsfield.packages import Manifest, ModelPackage, build
from hounsfield.packages.answers import ColumnSpec
from hounsfield.packages.manifest import InputSpec, OutputSpec
from hounsfield.training.recipe import PackageTable, Recipe

_TOLERANCE = 1e-3
_GRAPH = "graphs/fp32.onnx"
_RESEARCH = "Research use only."
NOT_EVALUATED = "Not evaluated yet: run `hounsfield evaluate` on cases that took no part in the training."


@dataclass(frozen=True)
class Finished:
    """The exported graph, how far the engines differ from the network, and the package."""

    graph: Exported
    parity: Mapping[str, float]
    package: ModelPackage | None


def finish(
    recipe: Recipe,
    description: dict[str, Any],
    network: nn.Module,
    folder: Path,
    record: Mapping[str, Any],
    note: Callable[[str, str], None],
) -> Finished:
    """Export, compare, and build ``package/<id>-<version>`` where the recipe has ``[package]``.

    Raises
    ------
    EngineError
        If an engine answers something else than the network.
    PackageInvalid
        If the recipe's package table and the training do not make a package.
    """
    network = on_record_alone(network, description)
    phases = recipe.phases or 2
    graph = export_onnx(network, description, recipe.window, folder / "graph.onnx", phases)
    differences = parity(graph.path, network, example_inputs(description, recipe.window, 1, phases))
    for engine, difference in differences.items():
        if difference > _TOLERANCE:
            raise EngineError(
                fact=f"{engine} differs from the network by {difference:.2g} of its largest answer",
                remedy="report this with the architecture table",
                path=graph.path,
            )
    package = None
    if recipe.package is not None:
        package = _package(recipe, recipe.package, description, folder, record)
        note(f"package {package.reference} in {package.root.parent.name}/", "note")
    return Finished(graph, differences, package)


def _package(
    recipe: Recipe, table: PackageTable, description: dict[str, Any], folder: Path, record: Mapping[str, Any]
) -> ModelPackage:
    manifest = manifest_of(recipe, table, description)
    place = folder / "package"
    shutil.rmtree(place / manifest.reference, ignore_errors=True)
    return build(
        place,
        manifest,
        {
            _GRAPH: folder / "graph.onnx",
            "weights.safetensors": folder / "weights.safetensors",
            "card.md": card(recipe, table, record).encode("utf-8"),
        },
    )


def manifest_of(recipe: Recipe, table: PackageTable, description: Mapping[str, Any]) -> Manifest:
    """The manifest that follows from a recipe.

    Raises
    ------
    PackageInvalid
        If the package format has no place for this task, or a value does not fit.
    """
    data = {
        "format": 1,
        "task": recipe.task,
        "id": table.id,
        "version": table.version,
        "title": table.title,
        "intended_use": table.intended_use,
        "licence": table.licence,
        "input": _input(recipe),
        "domain": table.domain,
        "output": _output(recipe, table),
        "architecture": dict(description),
        "graphs": [{"precision": "fp32", "file": _GRAPH, "output": OUTPUT, **_ends(recipe)}],
    }
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PackageInvalid(
            fact=f"the recipe does not make a package: {where}: {first['msg']}",
            remedy="correct [package], or leave it out to end with weights and graph",
        ) from None


def _ends(recipe: Recipe) -> dict[str, str]:
    """The graph's inputs by the manifest's names."""
    if recipe.task != "fusion":
        return {"input": "image"}
    return {"input": "image", "record": "record"} if recipe.input.channels else {"input": "record"}


def _input(recipe: Recipe) -> InputSpec:
    """The input table; columns of the record that nobody described are named by themselves."""
    if recipe.task != "fusion" or recipe.input.record:
        return recipe.input
    columns = tuple(ColumnSpec(name=name, title=name) for name in recipe.data.record)
    return recipe.input.model_copy(update={"record": columns})


def _output(recipe: Recipe, table: PackageTable) -> OutputSpec:
    """The output table; the column that holds the class is the one that was trained on."""
    if not table.output.classes or len(recipe.data.target) != 1 or table.output.target:
        return table.output
    return table.output.model_copy(update={"target": recipe.data.target[0]})


def card(recipe: Recipe, table: PackageTable, record: Mapping[str, Any]) -> str:
    """The model card: what it is for, what it was trained on, and what is not known yet."""
    score = record["best_score"]
    steering = "none" if score is None else f"{score:.4f} at step {record['best_step']}"
    purpose = table.intended_use.strip().removeprefix(_RESEARCH).lstrip()
    return f"""# {table.title}

{_RESEARCH} {purpose}

{table.card}

## How it was made

- Network: {record["architecture"]["name"]}; {record["steps"]} steps; seed {record["seed"]}; {record["finished"]}.
- Trained on {record["training_cases"]} cases of {record["training_patients"]} patients;
  {record["validation_cases"]} validation cases steered it.
- Validation score that chose the weights (optimistic, since it chose): {steering}.
- Data digest: `{record["data_sha256"]}`; recipe digest: `{record["recipe_sha256"]}`.
- hounsfield {record["hounsfield"]}, torch {record["torch"]}, {record["processes"]} process(es),
  {record["threads"]} threads.

## How good it is

{NOT_EVALUATED}

## Licences

- Weights: {table.licence.weights}
- Data: {table.licence.data} {table.licence.attribution}
"""
