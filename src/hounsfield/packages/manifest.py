"""The manifest of a model package: what it eats, what it may read, what it answers.

``manifest.toml`` is data. Unknown keys are errors, nothing is evaluated, and every value is
checked here before any other file of the package is opened. ``json_schema()`` publishes it.
"""

from __future__ import annotations

import math
import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from hounsfield.packages.answers import (
    BoxSpec,
    ClassSpec,
    QuantitySpec,
    Task,
    check_task,
)
from hounsfield.packages.inputs import Channel as Channel
from hounsfield.packages.inputs import Clip as Clip
from hounsfield.packages.inputs import ClipQuantiles as ClipQuantiles
from hounsfield.packages.inputs import InputSpec as InputSpec
from hounsfield.packages.inputs import IntensityStep as IntensityStep
from hounsfield.packages.inputs import Scale as Scale
from hounsfield.packages.inputs import ScaleQuantiles as ScaleQuantiles
from hounsfield.packages.inputs import Standardise as Standardise
from hounsfield.packages.inputs import WindowSpec as WindowSpec
from hounsfield.packages.inputs import ZScore as ZScore
from hounsfield.packages.steps import Ends, StepSpec, WindowStep, check_steps
from hounsfield.packages.tables import Code as Code
from hounsfield.packages.tables import Count as Count
from hounsfield.packages.tables import Finite as Finite
from hounsfield.packages.tables import Fraction as Fraction
from hounsfield.packages.tables import Name as Name
from hounsfield.packages.tables import Positive as Positive
from hounsfield.packages.tables import Table
from hounsfield.packages.tables import Text as Text

FORMAT_VERSION = 1
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

Precision = Literal["fp32", "bf16", "fp16", "int8"]
Breach = Literal["warn", "refuse"]
_Table = Table


class Licence(_Table):
    """Licences of the weights and of the data they were trained on (SPDX ids or plain text)."""

    weights: Text
    data: Text
    attribution: str = ""


class Allowed(_Table):
    """The value must be one of ``allowed`` (compared in upper case)."""

    allowed: Annotated[tuple[str, ...], Field(min_length=1)]
    breach: Breach


class Between(_Table):
    """The value must lie in [low, high]; for triples, each of the three must."""

    low: Finite | None = None
    high: Finite | None = None
    breach: Breach

    @model_validator(mode="after")
    def _ordered(self) -> Between:
        if self.low is None and self.high is None:
            raise ValueError("give low, high or both")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError("low is above high")
        return self


class Domain(_Table):
    """What the package may be run on; each breach says ``warn`` or ``refuse``.

    A value that the scan does not state breaches nothing but is noted, except ``modality``,
    which must be known from a DICOM source.
    """

    modality: Allowed
    body_part: Allowed | None = None
    sex: Allowed | None = None
    age_years: Between | None = None
    spacing_mm: Between | None = None
    slice_spacing_mm: Between | None = None
    extent_mm: Between | None = None
    slices: Between | None = None
    magnetic_field_tesla: Between | None = None
    contrast: Literal["required", "forbidden"] | None = None
    contrast_breach: Breach = "warn"
    padding_fraction: Between | None = None
    repaired: Breach = "warn"


class SegmentSpec(_Table):
    """A label that the package answers; ``number`` is its value and, for softmax, its channel."""

    number: Count
    label: Annotated[str, Field(min_length=1, max_length=64)]
    category: Code
    type: Code
    modifier: Code | None = None
    lesion: bool = False
    colour_rgb: tuple[
        Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)]
    ] = (230, 60, 60)


class KeepNearest(_Table):
    """Keep the connected component of each named segment that is nearest to the given point.

    None is kept where the nearest is farther than ``within_mm``.
    """

    step: Literal["keep-nearest"]
    segments: tuple[Count, ...]
    within_mm: Positive = 10.0


class KeepLargest(_Table):
    """Keep the largest connected component of the named segments (taken together if ``joined``)."""

    step: Literal["keep-largest"]
    segments: tuple[Count, ...]
    joined: bool = False


class RemoveSmall(_Table):
    """Drop connected components below ``volume_mm3`` from the named segments."""

    step: Literal["remove-small"]
    segments: tuple[Count, ...]
    volume_mm3: Positive


CleanUp = Annotated[KeepLargest | KeepNearest | RemoveSmall, Field(discriminator="step")]


class OutputSpec(_Table):
    """What comes out of the network, and what it means.

    ``winner`` is for ``sigmoid``: where several segments are above the threshold, the ``"highest"``
    or the ``"last"`` of them is the label (nnU-Net's regions, each inside the one before).

    ``restore`` says what is brought back to the scan's grid where the network's is another: ``"scores"`` or
    ``"probabilities"``, interpolated linearly and then decided, or ``"labels"``, each from the nearest voxel.

    ``target`` is the column of a table of cases that holds the class, by its label; with several classes that
    do not exclude each other (``sigmoid``) every label is a column of 0 and 1.
    """

    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    threshold: Fraction = 0.5
    winner: Literal["highest", "last"] = "highest"
    segments: tuple[SegmentSpec, ...] = ()
    classes: tuple[ClassSpec, ...] = ()
    quantities: tuple[QuantitySpec, ...] = ()
    boxes: tuple[BoxSpec, ...] = ()
    target: Annotated[str, Field(max_length=64)] = ""
    restore: Literal["scores", "probabilities", "labels"] = "scores"
    clean_up: tuple[CleanUp, ...] = ()

    @model_validator(mode="after")
    def _numbers_from_one(self) -> OutputSpec:
        numbers = [segment.number for segment in self.segments]
        if numbers != list(range(1, len(numbers) + 1)):
            raise ValueError("segment numbers must count 1, 2, 3 ... without holes")
        named = {number for step in self.clean_up for number in step.segments}
        if not named <= set(numbers):
            raise ValueError(f"clean_up names segments that do not exist: {sorted(named - set(numbers))}")
        answers: tuple[ClassSpec | QuantitySpec | BoxSpec, ...] = (*self.classes, *self.quantities, *self.boxes)
        labels = [one.label for one in answers]
        if len(set(labels)) != len(labels):
            raise ValueError("two answers have the same label")
        if self.winner == "last" and self.activation != "sigmoid":
            raise ValueError('winner = "last" is for sigmoid only')
        return self

    @property
    def channels(self) -> int:
        """Channels that the network answers: classes or quantities, else segments, and before them the background.

        ``sigmoid`` has no background channel: segment n is channel n - 1. ``softmax`` has one
        (channel 0), and so has ``none``, whose channels are probabilities already.
        """
        if self.boxes:
            return len(self.boxes) + 6
        if self.classes or self.quantities:
            return len(self.classes) + len(self.quantities)
        return len(self.segments) + (0 if self.activation == "sigmoid" else 1)


class GraphSpec(_Table):
    """One ONNX graph of the package: (batch, channels, k, j, i) in, (batch, classes, k, j, i) out.

    ``step`` says whose network it is in a package of steps.
    """

    precision: Precision
    step: Name | None = None
    file: str
    input: Annotated[str, Field(min_length=1, max_length=200)]
    output: Annotated[str, Field(min_length=1, max_length=200)]
    record: Annotated[str, Field(max_length=200)] = ""
    sees_padding_as: Finite | None = None

    @field_validator("file")
    @classmethod
    def _inside(cls, file: str) -> str:
        return inside(file, ".onnx")


class EvidenceSpec(_Table):
    """An evaluation of one graph, shipped as JSON."""

    precision: Precision
    file: str

    @field_validator("file")
    @classmethod
    def _inside(cls, file: str) -> str:
        return inside(file, ".json")


def _plain(value: Any, depth: int = 0) -> bool:
    """Whether an argument of an architecture is a number, a plain word, or a short list of them."""
    if isinstance(value, list | tuple):
        return depth < 2 and len(value) <= 64 and all(_plain(item, depth + 1) for item in value)
    if isinstance(value, str):
        return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", value) is not None
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, bool | int) and abs(value) <= 1_000_000


class Manifest(_Table):
    """The whole of ``manifest.toml``."""

    format: Literal[1]
    id: Name
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$", max_length=32)]
    title: Annotated[str, Field(min_length=1, max_length=64)]
    task: Task
    intended_use: Text
    licence: Licence
    input: InputSpec
    domain: Domain
    output: OutputSpec
    graphs: Annotated[tuple[GraphSpec, ...], Field(min_length=1)]
    architecture: dict[str, Any] | None = None
    evidence: tuple[EvidenceSpec, ...] = ()
    steps: Annotated[tuple[StepSpec, ...], Field(max_length=16)] = ()

    @field_validator("architecture")
    @classmethod
    def _a_name_and_numbers(cls, table: dict[str, Any] | None) -> dict[str, Any] | None:
        if table is None:
            return None
        if not isinstance(table.get("name"), str):
            raise ValueError("needs a name")
        for key, value in table.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", key) or not _plain(value):
                raise ValueError(f"{key!r} is not a number, a plain word, or a list of them")
        return table

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        precisions = [(graph.precision, graph.step) for graph in self.graphs]
        if len(set(precisions)) != len(precisions):
            raise ValueError("two graphs have the same precision")
        files = [graph.file for graph in self.graphs] + [item.file for item in self.evidence]
        if len(set(files)) != len(files):
            raise ValueError("two entries name the same file")
        for item in self.evidence:
            if self.graph_for(item.precision) is None:
                raise ValueError(f"evidence for {item.precision}, which no graph can run at")
        if len({item.precision for item in self.evidence}) != len(self.evidence):
            raise ValueError("two pieces of evidence have the same precision")
        check_task(self.task, self.input, self.output)
        check_steps(self.steps, len(self.output.segments), self.graphs)
        read = [(channel.name, channel.modality, channel.quantity) for channel in self.input.channels]
        for step in self.steps:
            if isinstance(step, WindowStep):
                own = [(channel.name, channel.modality, channel.quantity) for channel in step.input.channels]
                if own != read:
                    raise ValueError(f"step {step.name} reads other channels than [input]")
        return self

    def graph_for(self, precision: str, step: str | None = None) -> GraphSpec | None:
        """The graph that runs at a precision: its own, else for bf16 and fp16 the fp32 graph.

        An engine can compute an fp32 graph in 16-bit arithmetic; int8 needs a quantised graph. In a package
        of steps it is the graph of ``step``, by default of the last one.
        """
        step = self.steps[-1].name if self.steps and step is None else step
        graphs: dict[str, GraphSpec] = {graph.precision: graph for graph in self.graphs if graph.step == step}
        if precision in ("bf16", "fp16"):
            return graphs.get(precision) or graphs.get("fp32")
        return graphs.get(precision)

    def ends_of(self, graph: GraphSpec) -> Ends:
        """Channels and (k, j, i) shape that a graph takes, and that it answers."""
        for step in self.steps:
            if step.name == graph.step:
                return step.ends()
        window = self.input.window.shape
        return len(self.input.channels), window, self.output.channels, window

    @property
    def reference(self) -> str:
        """``id-version``, the folder name of the package."""
        return f"{self.id}-{self.version}"


def inside(file: str, suffix: str) -> str:
    """A relative path that stays in the package and ends in ``suffix``, else ValueError."""
    path = PurePosixPath(file)
    parts_ok = all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", part) for part in path.parts)
    if path.is_absolute() or not parts_ok or ".." in path.parts or path.suffix != suffix:
        raise ValueError(f"{file!r} is not a plain relative path ending in {suffix}")
    return str(path)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of ``manifest.toml``; docs/reference/manifest.schema.json is this."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "hounsfield model package manifest, format 1",
        **{key: value for key, value in Manifest.model_json_schema().items() if key != "title"},
    }
