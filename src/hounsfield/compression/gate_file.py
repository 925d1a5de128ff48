"""``GATE.toml``: what a candidate must not lose, by how much, for whom, and how surely.

::

    format = 1
    confidence = 0.95            # one-sided
    minimum_patients = 20

    [[criteria]]
    metric = "dice"
    margin = 0.01                # in the unit of the metric
    by = ["sex", "age_years", "manufacturer"]

    [[criteria]]
    metric = "lesion-sensitivity"
    margin = 0.05
    size_bands = ["3-6 mm", "6-10 mm", "10-20 mm", "> 20 mm"]
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hounsfield.errors import SettingsError
from hounsfield.evaluation.lesions import BAND_NAMES

Metric = Literal["dice", "iou", "nsd", "volume-error-abs", "lesion-sensitivity", "lesion-dice", "false-lesions"]
LESION_METRICS: Final = ("lesion-sensitivity", "lesion-dice", "false-lesions")
BANDED_METRICS: Final = ("lesion-sensitivity", "lesion-dice")
_BOUNDED_BY_1: Final = ("dice", "iou", "nsd", "lesion-sensitivity", "lesion-dice")
_MOST_BYTES: Final = 1024 * 1024


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Criterion(_Table):
    """One metric that may not become worse by its margin or more, overall and in every stratum named.

    Parameters
    ----------
    margin
        In the unit of the metric: 1 for shares and overlaps, ml for ``volume-error-abs``, false
        lesions per case for ``false-lesions``.
    segments
        Numbers of the segments; by default all (for lesion metrics: all that are lesions).
    size_bands
        Bands of the reference lesion's size, each a stratum of its own.
    by
        Columns whose every value is a stratum of its own; ``age_years`` is split into bands.
    """

    metric: Metric
    margin: Annotated[float, Field(gt=0)]
    segments: tuple[Annotated[int, Field(ge=1)], ...] = ()
    size_bands: tuple[str, ...] = ()
    by: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = ()

    @model_validator(mode="after")
    def _sensible(self) -> Criterion:
        if self.metric in _BOUNDED_BY_1 and self.margin >= 1:
            raise ValueError(f"a margin of {self.margin:g} lets everything pass: {self.metric} lies in 0 to 1")
        if self.size_bands and self.metric not in BANDED_METRICS:
            raise ValueError(f"size_bands go with {' and '.join(BANDED_METRICS)}, not with {self.metric}")
        for band in self.size_bands:
            if band not in BAND_NAMES:
                raise ValueError(f"there is no size band {band!r}; {_choice(band, BAND_NAMES)}")
        for name, values in (("segments", self.segments), ("size_bands", self.size_bands), ("by", self.by)):
            if len(set(values)) != len(values):
                raise ValueError(f"{name} names something twice")
        return self


class GateRule(_Table):
    """The whole file.

    Parameters
    ----------
    confidence
        Of the one-sided bound.
    power
        With which the number of patients that would be needed is computed.
    resamples, seed
        Of the bootstrap.
    minimum_patients
        Below it a stratum is undecided, whatever its figures: with fewer, a long tail of losses that
        happened not to be drawn lets too many pass (``benchmarks/gate_power.py``).
    """

    format: Literal[1]
    confidence: Annotated[float, Field(ge=0.8, lt=1)] = 0.95
    power: Annotated[float, Field(ge=0.5, lt=1)] = 0.8
    resamples: Annotated[int, Field(ge=1000, le=1_000_000)] = 10_000
    seed: Annotated[int, Field(ge=0)] = 0
    minimum_patients: Annotated[int, Field(ge=2)] = 20
    criteria: Annotated[tuple[Criterion, ...], Field(min_length=1)]

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that a criterion splits by, once."""
        return tuple(dict.fromkeys(name for criterion in self.criteria for name in criterion.by))


def read_gate(path: str | Path) -> GateRule:
    """Read and check a gate file.

    Raises
    ------
    SettingsError
        If it cannot be read, is no TOML, has an unknown key or metric (with a proposal), or a
        value does not fit.
    """
    file = Path(path)
    try:
        data = file.read_bytes()
    except OSError as error:
        reason = (error.strerror or "no such file").lower()
        raise SettingsError(f"the gate cannot be read ({reason})", "give the path of a gate in TOML", file) from error
    if len(data) > _MOST_BYTES:
        raise SettingsError("the gate is larger than 1 MiB", "check the path", file)
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"the gate is not TOML ({error})", "correct that line", file) from error
    return parse_gate(table, file)


def parse_gate(table: Mapping[str, Any], path: Path) -> GateRule:
    """Check plain data as a gate; raises as :func:`read_gate` does."""
    try:
        return GateRule.model_validate(table)
    except ValidationError as error:
        raise _first(error, path) from None


def _first(error: ValidationError, path: Path) -> SettingsError:
    """The first mistake as one line; a misspelt key comes before what it leaves missing."""
    errors = error.errors(include_url=False, include_context=False)
    first = ([one for one in errors if one["type"] == "extra_forbidden"] or errors)[0]
    place = [str(part) for part in first["loc"]]
    where = ".".join(place) or "the gate"
    if first["type"] == "extra_forbidden":
        known = sorted((Criterion if len(place) > 1 else GateRule).model_fields)
        return SettingsError(f"the gate has an unknown key {where!r}", _choice(place[-1], known), path)
    if first["type"] == "missing":
        return SettingsError(f"the gate has no {where!r}", "add it", path)
    if first["type"] == "literal_error" and place[-1] == "metric":
        given = str(first["input"])
        return SettingsError(f"{where}: there is no metric {given!r}", _choice(given, get_args(Metric)), path)
    message = first["msg"].removeprefix("Value error, ")
    return SettingsError(f"{where}: {message[0].lower() + message[1:]}", "correct the gate", path)


def _choice(given: str, known: tuple[str, ...] | list[str]) -> str:
    close = difflib.get_close_matches(given, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose from: {', '.join(known)}"
