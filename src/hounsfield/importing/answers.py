"""What only the user can know of a model, as a TOML file: asked for or given, never guessed.

A template holds every key that the import needs. Known values are filled in; the text ``"?"``
stands where an answer is owed. Keys of an answers file that the template lacks are errors.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hounsfield.errors import AnswersMissing, PackageRefused, SourceError
from hounsfield.importing.claim import printable
from hounsfield.packages.manifest_text import emit_table, refuse_expressions

ASKED = "?"
MOST_BYTES = 256 * 1024
#: Tables whose keys are free: optional parts of the manifest that a template need not show.
FREE_TABLES = ("domain", "output.clean_up", "architecture", "input.intensity", "input.window")


@dataclass(frozen=True)
class Answers:
    """The answers of the user, complete for the template of the claim that they belong to."""

    table: Mapping[str, Any]

    def at(self, key: str) -> Any:
        """The value of a dotted key.

        Raises
        ------
        AnswersMissing
            If it was not answered.
        """
        value: Any = self.table
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is None:
            raise AnswersMissing(f"{key} is not answered", "add it to the answers file")
        return value

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a dotted key, or ``default``."""
        try:
            return self.at(key)
        except AnswersMissing:
            return default


def read_answers(path: Path) -> dict[str, Any]:
    """The tables of an answers file.

    Raises
    ------
    SourceError
        If it cannot be read, is not TOML, or holds a text that looks like an expression.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SourceError(f"the answers cannot be read ({error.strerror})", "check the path", path) from error
    if len(data) > MOST_BYTES:
        raise SourceError(f"the answers are larger than {MOST_BYTES} bytes", "shorten them", path)
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise SourceError(f"the answers are not TOML ({what})", "correct the line", path) from error
    try:
        refuse_expressions(table, path)
    except PackageRefused as error:
        raise SourceError(error.fact, "write plain text", path) from error
    return table


def complete(given: Mapping[str, Any], template: Mapping[str, Any], path: Path | None = None) -> Answers:
    """The answers, checked against the template; values that the template knows are taken from it.

    Raises
    ------
    AnswersMissing
        Naming every key that is still to be answered.
    SourceError
        If a key is not asked for.
    """
    strange = [key for key in _keys(given) if not _known(key, template)]
    if strange:
        known = sorted({key for key, _ in _leaves(template)})
        close = difflib.get_close_matches(strange[0], known, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else "remove it"
        raise SourceError(f"the answer {printable(strange[0], 80)!r} is not asked for", remedy, path)
    table = _merged(given, template)
    owed = sorted({key for key, value in _leaves(table) if value == ASKED})
    if owed:
        raise AnswersMissing(
            f"{len(owed)} questions are not answered: {', '.join(owed)}",
            "answer each '?' of the template that 'hounsfield import SOURCE' prints, and give the file with --answers",
            path,
        )
    return Answers(table)


def template_toml(template: Mapping[str, Any], questions: Mapping[str, str]) -> str:
    """The template as TOML text, each question as a comment above its table or key."""
    lines: list[str] = []
    emit_table(template, "", lines)
    out: list[str] = []
    table = ""
    for line in lines:
        if line.startswith("["):
            table = line.strip("[]")
            key = table
        else:
            name = line.split(" = ", 1)[0]
            key = f"{table}.{name}" if table else name
        if key in questions and (not out or out[-1] != f"# {questions[key]}"):
            note = f"# {questions[key]}"
            if not (line.startswith("[[") and note in out):
                out.append(note)
        out.append(line)
    return "\n".join(out).strip() + "\n"


def _merged(given: Any, template: Any) -> Any:
    """Given values over the template's; lists of tables are merged entry by entry."""
    if isinstance(template, Mapping) and isinstance(given, Mapping):
        keys = [*template, *(key for key in given if key not in template)]
        return {
            key: _merged(given[key], template[key])
            if key in given and key in template
            else given.get(key, template.get(key))
            for key in keys
        }
    if _tables(template) and _tables(given) and len(given) <= len(template):
        short: list[dict[str, Any]] = [{}] * (len(template) - len(given))
        return [_merged(mine, theirs) for mine, theirs in zip([*given, *short], template, strict=True)]
    return given


def _tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{key}" if prefix else str(key))
    elif _tables(value):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{prefix}[{index}]")
    elif isinstance(value, list) and ASKED in value:
        yield prefix, ASKED
    else:
        yield prefix, value


def _keys(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys of nested tables, entries of lists without their numbers."""
    for key, value in table.items():
        dotted = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            yield from _keys(value, dotted)
        elif _tables(value):
            for inner in value:
                yield from _keys(inner, dotted)
        else:
            yield dotted


def _known(key: str, template: Mapping[str, Any]) -> bool:
    if any(key == free or key.startswith(f"{free}.") for free in FREE_TABLES):
        return True
    parts, here = key.split("."), [template]
    for number, part in enumerate(parts):
        found = [table[part] for table in here if isinstance(table, Mapping) and part in table]
        if not found:
            return number > 0 and _optional(".".join(parts))
        here = [inner for value in found for inner in (value if isinstance(value, list) else [value])]
    return True


def _optional(key: str) -> bool:
    """Keys that every template allows without showing them."""
    return key in (
        "licence.attribution",
        "output.segments.modifier.value",
        "output.segments.modifier.scheme",
        "output.segments.modifier.meaning",
        "output.segments.lesion",
        "output.segments.colour_rgb",
        "output.classes.reported",
        "output.classes.operating_points",
        "package.limits",
    )
