"""From the text of a recipe to a :class:`Recipe`, with one clear line for every mistake."""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from hounsfield.errors import SettingsError
from hounsfield.training.recipe import Recipe, losses_of

_MOST_BYTES = 1024 * 1024


def read_recipe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read and check a recipe.

    Parameters
    ----------
    path
        A TOML file.
    overrides
        Values by dotted name that replace those of the file (a trial of a search).

    Raises
    ------
    SettingsError
        If it cannot be read, is no TOML, has an unknown key (with a proposal), or a value does not fit.
    """
    file = Path(path)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise SettingsError(
            fact=f"the recipe cannot be read ({(error.strerror or 'no such file').lower()})",
            remedy="give the path of a recipe in TOML",
            path=file,
        ) from error
    if len(data) > _MOST_BYTES:
        raise SettingsError(fact="the recipe is larger than 1 MiB", remedy="check the path", path=file)
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise SettingsError(fact=f"the recipe is not TOML ({error})", remedy="correct that line", path=file) from error
    for name, value in (overrides or {}).items():
        _replace(table, name, value, file)
    return parse_recipe(table, file)


def parse_recipe(table: Mapping[str, Any], path: Path) -> Recipe:
    """Check plain data as a recipe; raises as :func:`read_recipe` does."""
    try:
        recipe = Recipe.model_validate(table)
    except ValidationError as error:
        raise _first(error, path) from None
    if recipe.loss not in losses_of(recipe.task):
        raise SettingsError(
            fact=f"the loss {recipe.loss!r} does not fit the task {recipe.task!r}",
            remedy=f"choose one of: {', '.join(losses_of(recipe.task))}",
            path=path,
        )
    return recipe


def recipe_digest(recipe: Recipe) -> str:
    """sha256 of what decides the weights: the recipe without package texts, search and checkpoint interval."""
    table = recipe.model_dump(mode="json", exclude={"package": True, "search": True, "compute": {"checkpoint_every"}})
    if recipe.teacher is None:
        del table["teacher"]  # so that recipes without one keep their digest
    if recipe.transfer is not None and recipe.transfer.into is None:
        del table["transfer"]["into"]  # the same
    table["output_channels"] = recipe.output_channels
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()


def _replace(table: dict[str, Any], name: str, value: Any, path: Path) -> None:
    """Set a value by its dotted name; a name that the recipe cannot have is refused."""
    inner: Any = table
    *outer, last = name.split(".")
    for part in outer:
        inner = inner.setdefault(part, {})
        if not isinstance(inner, dict):
            raise SettingsError(fact=f"{name!r} is not a value of a recipe", remedy="name a value", path=path)
    inner[last] = value


def _first(error: ValidationError, path: Path) -> SettingsError:
    """The first mistake as one line; a misspelt key comes before what it leaves missing."""
    errors = error.errors(include_url=False, include_context=False)
    extra = [one for one in errors if one["type"] == "extra_forbidden"]
    first = (extra or errors)[0]
    place = [str(part) for part in first["loc"]]
    where = ".".join(place) or "the recipe"
    if first["type"] == "extra_forbidden":
        known = _known_keys(first["loc"][:-1])
        close = difflib.get_close_matches(place[-1], known, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else f"the keys here are: {', '.join(known)}"
        return SettingsError(fact=f"the recipe has an unknown key {where!r}", remedy=remedy, path=path)
    if first["type"] == "missing":
        return SettingsError(fact=f"the recipe has no {where!r}", remedy="add it", path=path)
    message = first["msg"].removeprefix("Value error, ")
    return SettingsError(fact=f"{where}: {message[0].lower() + message[1:]}", remedy="correct the recipe", path=path)


def _known_keys(place: tuple[int | str, ...]) -> list[str]:
    """The keys that the table at a place of the recipe may have."""
    models: list[type[BaseModel]] = [Recipe]
    for part in place:
        found = [inner for model in models if part in model.model_fields for inner in _models(model, str(part))]
        named = [model for model in models if _tag(model) == part]
        models = found or named or models
    return sorted({name for model in models for name in model.model_fields})


def _tag(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("step")
    return None if field is None else str(get_args(field.annotation)[0])


def _models(model: type[BaseModel], name: str) -> list[type[BaseModel]]:
    found: list[type[BaseModel]] = []
    pending: list[Any] = [model.model_fields[name].annotation]
    while pending:
        annotation = pending.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found.append(annotation)
        elif get_origin(annotation) is not None or isinstance(annotation, UnionType) or annotation is Union:
            pending += [inner for inner in get_args(annotation) if not isinstance(inner, str)]
    return found
