"""Routes: which model reads which series, where the answer goes. Data in TOML, never an expression.

::

    [[route]]
    name = "hippocampus"
    model = "hippocampus-mr"
    destinations = ["pacs"]
    [route.match]
    modality = ["MR"]
    series_description = ["*hippocamp*"]
    slices = { at_least = 10 }
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hounsfield.department.triage import TriageRule
from hounsfield.errors import SettingsError

_MOST_BYTES: Final = 1 << 20
Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
Patterns = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=128)], ...], Field(min_length=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Between(_Table):
    """A number must lie in [at_least, at_most]."""

    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Between:
        if self.at_least is None and self.at_most is None:
            raise ValueError("give at_least, at_most or both")
        return self


class Match(_Table):
    """What a series must be. Texts are patterns with ``*`` and ``?``, in any case; one of a list is enough."""

    modality: Patterns | None = None
    body_part: Patterns | None = None
    study_description: Patterns | None = None
    series_description: Patterns | None = None
    protocol_name: Patterns | None = None
    manufacturer: Patterns | None = None
    calling_ae: Patterns | None = None
    image_type: Patterns | None = None
    kind: tuple[Literal["volume", "dynamic", "projection"], ...] = ("volume", "dynamic", "projection")
    contrast: bool | None = None
    slices: Between | None = None
    spacing_mm: Between | None = None
    slice_spacing_mm: Between | None = None
    slice_thickness_mm: Between | None = None


class DeidentifyRule(_Table):
    """The table ``[route.deidentify]``: options of PS3.15 annex E, all off."""

    patient_characteristics: bool = False
    modified_dates: bool = False
    pixels_checked: bool = False


class Route(_Table):
    """One route.

    Parameters
    ----------
    shadow
        Run, keep the results, send them nowhere.
    priority
        Higher runs first.
    captures
        Also send key images as Secondary Capture.
    explain
        Also write where the network looked for each class, for the page; needs the package's reference weights.
    deidentify
        Take the person out before the model reads; the images go to the destinations too.
    triage
        Which finding makes a study urgent in the reading worklist.
    """

    name: Name
    model: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9.]+)*$", max_length=128)]
    precision: Literal["fp32", "bf16", "fp16", "int8"] = "fp32"
    memory: Annotated[str, Field(max_length=32)] = ""
    whole: bool = False
    repair: bool = False
    allow_unproven: bool = False
    priority: Annotated[float, Field(ge=0, le=100)] = 50.0
    destinations: tuple[Name, ...] = ()
    shadow: bool = False
    captures: bool = False
    explain: bool = False
    triage: TriageRule | None = None
    deidentify: DeidentifyRule | None = None
    match: Match


class _File(_Table):
    route: tuple[Route, ...] = ()


@dataclass(frozen=True)
class SeriesFacts:
    """What routes look at; every text may be empty, every number unknown."""

    texts: dict[str, tuple[str, ...]]
    numbers: dict[str, tuple[float, ...]]
    kind: str
    contrast: bool


@dataclass(frozen=True)
class Check:
    """One condition of a route, and what the series says of it."""

    about: str
    holds: bool
    fact: str


def read_routes(path: Path) -> tuple[Route, ...]:
    """The routes in a file, in its order; none if there is no file.

    Raises
    ------
    SettingsError
        If it is not TOML, an unknown key or a value of the wrong kind stands in it, or two routes
        have one name.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise SettingsError(f"the routes cannot be read ({error.strerror})", "check the path", path) from error
    if len(data) > _MOST_BYTES:
        raise SettingsError("the file of the routes is too large", "shorten it", path)
    try:
        routes = _File.model_validate(tomllib.loads(data.decode("utf-8"))).route
    except ValidationError as error:
        raise SettingsError(first_fault(error), "see docs/how-to/operate.md for what a route may say", path) from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"the routes are not TOML ({error})", "repair the file", path) from error
    names = [route.name for route in routes]
    if len(set(names)) != len(names):
        raise SettingsError("two routes have one name", "rename one of them", path)
    return routes


def first_fault(error: ValidationError) -> str:
    """Where the first fault of a file is, and what it is."""
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg'][:1].lower()}{fault['msg'][1:]}"


def checks(route: Route, facts: SeriesFacts) -> tuple[Check, ...]:
    """Every condition of a route on a series; it matches when all hold."""
    return tuple(_checks(route.match, facts))


def matches(route: Route, facts: SeriesFacts) -> bool:
    """Whether a route wants a series."""
    return all(check.holds for check in checks(route, facts))


def _checks(match: Match, facts: SeriesFacts) -> Iterator[Check]:
    yield Check("kind", facts.kind in match.kind, f"it is a {facts.kind}, wanted is {' or '.join(match.kind)}")
    for name, wanted in _given(match):
        if isinstance(wanted, Between):
            yield _between(name, wanted, facts.numbers.get(name, ()))
        elif isinstance(wanted, bool):
            stated = "with" if facts.contrast else "without"
            yield Check(name, facts.contrast == wanted, f"it is {stated} contrast agent")
        else:
            yield _text(name, wanted, facts.texts.get(name, ()))


def _given(match: Match) -> Iterator[tuple[str, Any]]:
    for name in type(match).model_fields:
        value = getattr(match, name)
        if value is not None and name != "kind":
            yield name, value


def _between(name: str, wanted: Between, values: tuple[float, ...]) -> Check:
    low = -float("inf") if wanted.at_least is None else wanted.at_least
    high = float("inf") if wanted.at_most is None else wanted.at_most
    shown = " x ".join(f"{value:.4g}" for value in values) or "not known"
    holds = bool(values) and all(low <= value <= high for value in values)
    return Check(name, holds, f"it is {shown}, wanted is {low:g} to {high:g}")


def _text(name: str, patterns: tuple[str, ...], values: tuple[str, ...]) -> Check:
    holds = any(fnmatch.fnmatchcase(value.lower(), one.lower()) for one in patterns for value in values)
    shown = "\\".join(values) or "not stated"
    return Check(name, holds, f"it is {shown!r}, wanted is {' or '.join(map(repr, patterns))}")
