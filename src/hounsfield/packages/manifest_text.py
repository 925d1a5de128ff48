"""Between ``manifest.toml`` and :class:`Manifest`: errors of one line, and a canonical text.

Nothing in a manifest is evaluated. Texts that look like an expression are refused all the same,
so that no later reader can be tempted.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from hounsfield.errors import PackageInvalid, PackageRefused
from hounsfield.packages.inventory import MANIFEST, PLACES, shown
from hounsfield.packages.manifest import Manifest

MOST_BYTES = PLACES[0].most_bytes
_EXPRESSION = re.compile(r"^\s*[$@%]|\$[({A-Za-z_]|\b(?:eval|exec|__import__)\s*\(|\bos\.system\b|__\w+__")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def parse_manifest(data: bytes, path: Path | None = None) -> Manifest:
    """Read the bytes of a ``manifest.toml``.

    Parameters
    ----------
    data
        The file's bytes.
    path
        Where it lies, for the error.

    Raises
    ------
    PackageInvalid
        If it is not TOML, or a key or value does not follow the format; names the key.
    PackageRefused
        If it is too large, or a text looks like an expression.
    """
    if len(data) > MOST_BYTES:
        raise PackageRefused(fact=f"it is larger than {MOST_BYTES} bytes", remedy="shorten it", path=path)
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise PackageInvalid(fact=f"it is not TOML ({what[:200]})", remedy="correct the line", path=path) from error
    refuse_expressions(table, path)
    try:
        return Manifest.model_validate(table)
    except ValidationError as error:
        raise _one_line(error, path) from None


def refuse_expressions(value: Any, path: Path | None, key: str = "", *, keys: bool = True) -> None:
    """Raise PackageRefused if a text or a key of nested tables looks like an expression.

    Parameters
    ----------
    value
        Tables, lists and plain values.
    keys
        Whether the keys must be plain words too (in evidence they may be labels).
    """
    todo: list[tuple[str, Any]] = [(key, value)]
    while todo:
        at, item = todo.pop()
        if isinstance(item, Mapping):
            for name, inner in item.items():
                if _EXPRESSION.search(name) or name.startswith("_") or (keys and not _KEY.fullmatch(name)):
                    raise PackageRefused(
                        fact=f"the key {shown(name)} is no plain name", remedy="a package is data: remove it", path=path
                    )
                todo.append((f"{at}.{name}" if at else name, inner))
        elif isinstance(item, list):
            todo.extend((at, inner) for inner in item)
        elif isinstance(item, str) and _EXPRESSION.search(item):
            raise PackageRefused(
                fact=f"{at}: the text {shown(item, 40)} looks like an expression",
                remedy="a package is data: write plain text",
                path=path,
            )


def _one_line(error: ValidationError, path: Path | None) -> PackageInvalid:
    errors = error.errors(include_url=False, include_context=False)
    # A misspelt key is the cause, the missing one that it should be the consequence.
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    more = error.error_count() - 1
    tail = f" (and {more} more)" if more else ""
    where = _dotted(first["loc"])
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(first["loc"][-1]), _keys_beside(first["loc"]), n=1)
        remedy = f"did you mean {close[0]!r}?" if close else "remove it"
        return PackageInvalid(fact=f"the key {where} is not known{tail}", remedy=remedy, path=path)
    if first["type"] == "missing":
        return PackageInvalid(fact=f"the key {where} is missing{tail}", remedy="add it", path=path)
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    given = first["input"]
    if first["type"] == "union_tag_invalid":
        return _wrong_step(where, message, given, tail, path)
    got = f", not {shown(given, 40)}" if isinstance(given, str) else ""
    fact = f"{where or 'the manifest'}: {message[:200]}{got}{tail}"
    choices = re.findall(r"'([^']+)'", message) if first["type"] == "literal_error" else []
    close = difflib.get_close_matches(str(given), choices, n=1)
    return PackageInvalid(fact=fact, remedy=f"did you mean {close[0]!r}?" if close else "correct the value", path=path)


def _wrong_step(where: str, message: str, given: Any, tail: str, path: Path | None) -> PackageInvalid:
    tags = re.findall(r"'([^']+)'", message.partition("expected tags:")[2])
    name = given.get("step") if isinstance(given, Mapping) else given
    close = difflib.get_close_matches(str(name), tags, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else f"choose one of: {', '.join(tags)}"
    return PackageInvalid(fact=f"{where}: there is no step {shown(str(name), 40)}{tail}", remedy=remedy, path=path)


def _dotted(location: Iterable[int | str]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return shown(text)[1:-1]


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the table around the last part of an error's location knows."""
    tables: list[type[BaseModel]] = [Manifest]
    for part in location[:-1]:
        fields = [table.model_fields[part] for table in tables if part in table.model_fields]
        if fields:
            tables = [inner for field in fields for inner in _tables(field.annotation)]
        elif isinstance(part, str):
            tables = [table for table in tables if part in _steps(table)] or tables
    return [key for table in tables for key in table.model_fields]


def _tables(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [table for inner in typing.get_args(annotation) for table in _tables(inner)]


def _steps(table: type[BaseModel]) -> tuple[Any, ...]:
    field = table.model_fields.get("step")
    return typing.get_args(field.annotation) if field else ()


def manifest_toml(manifest: Manifest) -> str:
    """The manifest as TOML text, always the same for equal manifests; unset keys are left out."""
    table = manifest.model_dump(mode="json", exclude_none=True)
    lines: list[str] = []
    emit_table(table, "", lines)
    text = "\n".join(lines).strip() + "\n"
    if parse_manifest(text.encode("utf-8"), Path(MANIFEST)) != manifest:
        raise PackageInvalid(fact="the manifest cannot be written as TOML", remedy="use plain texts and numbers")
    return text


def emit_table(table: Mapping[str, Any], prefix: str, lines: list[str]) -> None:
    """Append nested tables as lines of TOML; ``prefix`` is the dotted name of the table around them."""
    inner = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    several = {key: value for key, value in table.items() if isinstance(value, list) and value and _all_tables(value)}
    lines += [f"{key} = {_value(table[key])}" for key in table if key not in inner and key not in several]
    for key, value in inner.items():
        lines += ["", f"[{prefix}{key}]"]
        emit_table(value, f"{prefix}{key}.", lines)
    for key, values in several.items():
        for value in values:
            lines += ["", f"[[{prefix}{key}]]", *(f"{name} = {_value(item)}" for name, item in value.items())]


def _all_tables(values: list[Any]) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)
