"""The network of a recipe: its full description, and its start from a package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from hounsfield.architectures import architecture, build, load_weights, weights_of
from hounsfield.architectures.narrowing import narrowed
from hounsfield.errors import PackageInvalid, SettingsError
from hounsfield.packages import ModelPackage, open_package
from hounsfield.training.recipe import Recipe
from hounsfield.training.teaching import demand_teacher

_ANSWERS = {"segmentation": "voxels", "detection": "peaks"}


def describe(recipe: Recipe) -> dict[str, Any]:
    """The complete ``[architecture]`` table: what follows from the recipe is filled in.

    Raises
    ------
    SettingsError
        If the network does not answer what the task asks, or a given number disagrees.
    PackageInvalid
        If the name or an argument is not known.
    """
    table = dict(recipe.architecture)
    entry = architecture(str(table["name"]))
    wanted = _ANSWERS.get(recipe.task, "classes")
    sequence = table["name"] == "cnn-lstm"
    if (
        entry.answer != wanted
        or sequence != (recipe.task == "dynamic")
        or ("record" in entry.inputs) != (recipe.task == "fusion")
    ):
        raise SettingsError(
            fact=f"the network {table['name']!r} does not fit the task {recipe.task!r}",
            remedy="choose a network of that task, see docs/how-to/train.md",
        )
    follows: dict[str, Any] = {
        "channels_in": len(recipe.input.channels),
        "channels_out": recipe.output_channels,
    }
    if entry.fixed_window:
        follows["window"] = list(recipe.window)
    if recipe.task == "fusion":
        follows["columns"] = len(recipe.data.record)
    for key, value in follows.items():
        if table.setdefault(key, value) != value:
            raise SettingsError(
                fact=f"architecture.{key} is {table[key]}, but the rest of the recipe means {value}",
                remedy=f"leave {key} out",
            )
    return table


def start(recipe: Recipe, folder: Path) -> nn.Module:
    """Build the network with seeded weights, or with those of the package to start from or to learn from.

    Parameters
    ----------
    folder
        The recipe's folder, for a relative package path.
    """
    description = describe(recipe)
    torch.manual_seed(recipe.seed)
    network = build(description)
    if recipe.transfer is not None:
        _transfer(network, recipe, package_of(recipe.transfer.package, folder))
    teacher = teacher_of(recipe, folder)
    if teacher is not None and recipe.teacher is not None and recipe.teacher.start == "teacher":
        load_weights(network, _strongest(teacher, description, recipe))
    return network


def teacher_of(recipe: Recipe, folder: Path) -> ModelPackage | None:
    """The package that teaches, where the recipe has one; refused if it cannot teach this recipe."""
    if recipe.teacher is None:
        return None
    package = package_of(recipe.teacher.package, folder)
    demand_teacher(package, recipe, describe(recipe))
    return package


def package_of(reference: str, folder: Path) -> ModelPackage:
    """The package in a folder relative to the recipe's, or an installed one."""
    local = folder / reference
    return open_package(str(local) if local.is_dir() else reference)


def _strongest(teacher: ModelPackage, description: dict[str, Any], recipe: Recipe) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    wide = dict(teacher.manifest.architecture or {})
    return narrowed(wide, load_file(str(teacher.weights_path)), description, recipe.window)


def _transfer(network: nn.Module, recipe: Recipe, package: ModelPackage) -> None:
    from safetensors.torch import load_file

    assert recipe.transfer is not None  # noqa: S101 - the caller asked
    if package.weights_path is None:
        raise PackageInvalid(
            fact=f"{package.reference} has no weights to start from",
            remedy="choose a package with weights.safetensors",
            path=package.root,
        )
    into = recipe.transfer.into
    given = {f"{into}.{name}" if into else name: one for name, one in load_file(str(package.weights_path)).items()}
    if recipe.transfer.skip_head or into:
        own = weights_of(network)
        fitting = {name: given[name] for name in own if name in given and given[name].shape == own[name].shape}
        part = [name for name in own if into and name.startswith(f"{into}.")]
        if not fitting or any(name not in fitting for name in part):
            raise PackageInvalid(
                fact=f"the tensors of {package.reference} do not fit this network" + (f"'s {into}" if into else ""),
                remedy="use the same [architecture] as the package",
                path=package.root,
            )
        given = own | fitting
    load_weights(network, given)
