"""The Plan: how one run will be carried out and what it will take; printed, saved, edited, re-run."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from hounsfield.errors import SettingsError
from hounsfield.planning.units import format_bytes, format_seconds

Mode = Literal["window", "whole", "steps"]
Accumulate = Literal["logits", "features"]
Float = Literal["float32", "float16"]
Precision = Literal["fp32", "bf16", "fp16", "int8"]
Storage = Literal["fp32", "fp16", "bf16"]
_FORMAT = 1
_CHOICES: dict[str, tuple[str, ...]] = {
    "mode": get_args(Mode),
    "accumulate": get_args(Accumulate),
    "accumulator": get_args(Float),
    "precision": get_args(Precision),
    "storage": get_args(Storage),
}


@dataclass(frozen=True)
class Plan:
    """How one run will be carried out, and what it will take.

    Parameters
    ----------
    engine, precision, device
        What computes, in which arithmetic, where (``cpu`` or ``cuda``).
    mode
        ``window`` slides the package's window; ``whole`` runs the exact equivalent of one pass
        over the whole volume; ``steps`` runs the networks of a package of steps one after the other.
    window, overlap
        Shape (k, j, i) and fraction of the sliding window.
    batch, threads
        Windows per call; threads of the engine.
    accumulate, accumulator, head_block
        What is blended (class logits, or the features before a linear 1×1×1 head), in which
        type, and how many voxels the head and argmax take at a time.
    slab_depth
        Slices that are computed and held at a time; in whole mode at least, at full resolution.
    storage
        Whole mode: type of the activations kept between layers.
    mapped
        The prepared input and the labels lie in unlinked temporary files, not in memory.
    host_peak_bytes, device_peak_bytes, spill_bytes, seconds
        Prediction: peak resident memory, peak on the accelerator, temporary disk space, time.
    host_parts
        What the host peak is made of, in bytes by name.
    slab_bytes
        Whole mode: working memory that a slab of any stage must stay within.
    calibrated
        True where the prediction rests on a measurement of this graph on this machine.
    reasons
        Field → why it was chosen so.
    """

    engine: str
    precision: Precision
    device: str
    mode: Mode
    window: tuple[int, int, int]
    overlap: float
    batch: int
    threads: int
    accumulate: Accumulate
    accumulator: Float
    head_block: int
    slab_depth: int
    storage: Storage
    mapped: bool
    host_peak_bytes: int
    device_peak_bytes: int
    spill_bytes: int
    seconds: float
    calibrated: bool
    slab_bytes: int = 0
    host_parts: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise _wrong(name, getattr(self, name), f"one of {', '.join(allowed)}")
        for name in ("batch", "threads", "head_block", "slab_depth"):
            if getattr(self, name) < 1:
                raise _wrong(name, getattr(self, name), "at least 1")
        if len(self.window) != 3 or any(size < 1 for size in self.window):
            raise _wrong("window", self.window, "three sizes of at least 1, in the order k, j, i")
        if not 0 <= self.overlap < 1:
            raise _wrong("overlap", self.overlap, "from 0 to below 1")
        for name in ("host_peak_bytes", "device_peak_bytes", "spill_bytes", "slab_bytes", "seconds"):
            if not getattr(self, name) >= 0:
                raise _wrong(name, getattr(self, name), "not negative")

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain data, for JSON, TOML and the result's figures."""
        data = asdict(self)
        data["window"] = list(self.window)
        return {"format": _FORMAT, **data, "host_parts": dict(self.host_parts), "reasons": dict(self.reasons)}

    def to_json(self) -> str:
        """JSON text that ``from_json`` reads back to an equal plan."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False)

    def to_toml(self) -> str:
        """TOML text for people to edit; ``from_toml`` reads it back to an equal plan."""
        data = self.as_dict()
        tables = {name: data.pop(name) for name in ("host_parts", "reasons")}
        lines = [f"{name} = {_toml(value)}" for name, value in data.items()]
        for name, table in tables.items():
            lines += ["", f"[{name}]", *(f"{_toml(key)} = {_toml(value)}" for key, value in table.items())]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """A plan from its JSON text, every field checked.

        Raises
        ------
        SettingsError
            If the text is no JSON, or a field is missing, unknown, or of another kind.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise SettingsError(f"the plan is not JSON ({error})", "save it again with `hounsfield plan`") from error
        return cls.from_dict(data)

    @classmethod
    def from_toml(cls, text: str) -> Plan:
        """A plan from its TOML text, every field checked; raises as ``from_json`` does."""
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"the plan is not TOML ({error})", "correct that line, or plan again") from error
        return cls.from_dict(data)

    @classmethod
    def from_dict(cls, data: object) -> Plan:
        """A plan from plain data; raises as ``from_json`` does."""
        if not isinstance(data, dict):
            raise SettingsError("the plan is not a table of fields", "save it again with `hounsfield plan`")
        given = dict(data)
        if given.pop("format", None) != _FORMAT:
            raise SettingsError(f"the plan is not of format {_FORMAT}", "plan again with this version of hounsfield")
        names = {entry.name for entry in fields(cls)}
        missing, unknown = sorted(names - given.keys()), sorted(given.keys() - names)
        if missing or unknown:
            wrong = [f"{name} is missing" for name in missing] + [f"{name} is unknown" for name in unknown]
            raise SettingsError(f"the plan does not follow the format: {', '.join(wrong)}", "correct these fields")
        return cls(**{name: _checked(name, given[name]) for name in names})

    def __str__(self) -> str:
        how = {"window": "sliding window", "whole": "whole volume in slabs", "steps": "steps"}[self.mode]
        lines = [
            f"{how} with {self.engine}, {self.precision} on {self.device}, {self.threads} threads",
            f"  window {'×'.join(map(str, self.window))}, overlap {self.overlap:g}, batch {self.batch}, "
            f"slab of {self.slab_depth} slices",
            f"  blends {self.accumulate} in {self.accumulator}, head in blocks of {self.head_block} voxels"
            if self.mode != "whole"
            else f"  keeps activations in {self.storage}, {format_bytes(self.spill_bytes)} of temporary disk space",
            f"  predicted: {format_bytes(self.host_peak_bytes)} of memory"
            + (f", {format_bytes(self.device_peak_bytes)} on the accelerator" if self.device_peak_bytes else "")
            + f", {format_seconds(self.seconds)}"
            + ("" if self.calibrated else " (a bound: nothing was measured on this machine yet)"),
        ]
        parts = sorted(self.host_parts.items(), key=lambda part: -part[1])
        lines += [f"    {name:<12} {format_bytes(size)}" for name, size in parts if size]
        lines += [f"  {name}: {why}" for name, why in self.reasons.items()]
        return "\n".join(lines)


_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("engine", "precision", "device", "mode", "accumulate", "accumulator", "storage"), (str,)),
    **dict.fromkeys(("batch", "threads", "head_block", "slab_depth"), (int,)),
    **dict.fromkeys(("host_peak_bytes", "device_peak_bytes", "spill_bytes", "slab_bytes"), (int,)),
    **dict.fromkeys(("overlap", "seconds"), (int, float)),
    **dict.fromkeys(("mapped", "calibrated"), (bool,)),
    **dict.fromkeys(("host_parts", "reasons"), (dict,)),
    "window": (list,),
}


def _checked(name: str, value: Any) -> Any:
    kinds = _KINDS[name]
    if type(value) not in kinds:
        raise _wrong(name, value, " or ".join(kind.__name__ for kind in kinds))
    if name == "window":
        if not all(type(size) is int for size in value):
            raise _wrong(name, value, "three whole numbers")
        return tuple(value)
    if name == "host_parts" and not all(type(size) is int for size in value.values()):
        raise _wrong(name, value, "whole numbers of bytes")
    if name == "reasons" and not all(isinstance(why, str) for why in value.values()):
        raise _wrong(name, value, "texts")
    return float(value) if name in ("overlap", "seconds") else value


def _wrong(name: str, value: object, wanted: str) -> SettingsError:
    return SettingsError(f"the plan's {name} is {value!r}", f"it must be {wanted}")


def _toml(value: Any) -> str:
    """A TOML value; JSON's strings, numbers, booleans and flat lists are TOML too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
