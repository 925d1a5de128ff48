"""The steps of a package that is more than one network over one window.

Each step that has a network names its graphs by ``step`` in ``[[graphs]]``. Steps run in their order; what
lies between the networks is geometry and arithmetic of this house, never a program of the package.
All index triples are (k, j, i) along the input's orientation. A package has either steps of the kind
``window``, each answering the scan's own grid, or ``look``, ``place`` and ``box``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hounsfield.packages.inputs import InputSpec
from hounsfield.packages.tables import Fraction

_Size = Annotated[int, Field(ge=1, le=1024)]
_Index = Annotated[int, Field(ge=0, le=65534)]
_Number = Annotated[int, Field(ge=1, le=65535)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Row = tuple[_Finite, _Finite, _Finite, _Finite]
_Affine = tuple[_Row, _Row, _Row]
_Grid = tuple[_Size, _Size, _Size]
_Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
_Open = Annotated[float, Field(gt=0, lt=1)]
Ends = tuple[int, _Grid, int, _Grid]


class _Step(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, protected_namespaces=())


class MapSegment(_Step):
    """A segment that is one of the maps above a threshold, interpolated linearly on the scan's grid."""

    number: _Number
    map: _Index
    threshold: _Open = 0.5


class LookStep(_Step):
    """The whole scan on a small grid, outer voxel centres on outer voxel centres, seen once.

    Its network answers ``maps`` probability maps on the same grid.
    """

    step: Literal["look"]
    name: _Name
    shape: _Grid
    maps: _Number
    segments: tuple[MapSegment, ...] = ()

    def ends(self) -> Ends:
        """Channels and shape that its network takes, and answers."""
        return 1, self.shape, self.maps, self.shape


class PlaceStep(_Step):
    """Where an atlas lies in the scan: a network answers twelve numbers.

    They are added to the identity, row by row, and map the atlas to the scan, both in units
    where the outer voxel centres of the grid are -1 and 1. ``maps`` of the step ``of`` are its
    channels, each multiplied by the map ``mask``; ``affine`` maps an index of the atlas' grid (the
    shape of ``of``) to atlas millimetres.
    """

    step: Literal["place"]
    name: _Name
    of: _Name
    maps: Annotated[tuple[_Index, ...], Field(min_length=1, max_length=16)]
    mask: _Index | None = None
    shape: _Grid
    affine: _Affine

    def ends(self) -> Ends:
        """Channels and shape that its network takes, and answers."""
        return len(self.maps), self.shape, 12, (1, 1, 1)


class Side(_Step):
    """A part of the box for the network; with ``mirrored`` its first axis is turned round."""

    number: _Number
    start: tuple[_Index, _Index, _Index]
    mirrored: bool = False


class BoxStep(_Step):
    """A box of the atlas, resampled from the scan; a network finds one structure in each side.

    ``affine`` maps an index of the box to atlas millimetres. The box is brought to mean 0 and
    standard deviation 1. The network answers a probability ``border`` voxels smaller at each end;
    probabilities from ``low`` to ``high`` are stretched to [low, 1], those not above ``low`` are 0;
    on the scan's grid the segment is where it exceeds ``threshold``.
    """

    step: Literal["box"]
    name: _Name
    of: _Name
    affine: _Affine
    shape: _Grid
    side_shape: _Grid
    border: Annotated[int, Field(ge=0, le=64)] = 0
    sides: Annotated[tuple[Side, ...], Field(min_length=1, max_length=2)]
    low: _Open = 0.5
    high: _Open = 0.75
    threshold: _Open = 0.5

    @model_validator(mode="after")
    def _sides_inside(self) -> BoxStep:
        if any(
            first + size > whole
            for side in self.sides
            for first, size, whole in zip(side.start, self.side_shape, self.shape, strict=True)
        ):
            raise ValueError("a side lies outside the box")
        if min(self.side_shape) <= 2 * self.border:
            raise ValueError("the border leaves nothing of a side")
        if self.low >= self.high:
            raise ValueError("low is not below high")
        return self

    def ends(self) -> Ends:
        """Channels and shape that its network takes, and answers."""
        k, j, i = (size - 2 * self.border for size in self.side_shape)
        return 1, self.side_shape, 1, (k, j, i)


class WindowStep(_Step):
    """A network that slides over the whole scan with an ``[input]`` of its own.

    ``numbers`` says for each label that it answers (1, 2, 3 ...) which segment that is; 0 is none. Its
    segments lie over those of earlier steps. With ``after`` the labels ``given`` of that earlier step,
    brought to this network's grid, are channels of 0 and 1 behind the image's (nnU-Net's cascade).
    ``activation``, ``threshold`` and ``winner`` are as in ``[output]``.
    """

    step: Literal["window"]
    name: _Name
    input: InputSpec
    activation: Literal["softmax", "sigmoid"] = "softmax"
    threshold: Fraction = 0.5
    winner: Literal["highest", "last"] = "highest"
    numbers: Annotated[tuple[Annotated[int, Field(ge=0, le=65535)], ...], Field(min_length=1, max_length=1000)]
    after: _Name | None = None
    given: Annotated[tuple[_Number, ...], Field(max_length=1000)] = ()

    @model_validator(mode="after")
    def _slides(self) -> WindowStep:
        spec = self.input
        if spec.fit or spec.point is not None or spec.times is not None or spec.record or not spec.channels:
            raise ValueError("a window step reads whole scans: no fit, point, times or record")
        if self.winner == "last" and self.activation != "sigmoid":
            raise ValueError('winner = "last" is for sigmoid only')
        if (self.after is None) != (not self.given):
            raise ValueError("after and given belong together")
        if self.given and (spec.window.pad_value != 0 or spec.window.skip_below is not None):
            raise ValueError("a step after another pads with 0 and skips no window")
        if self.given and spec.grid != "faces":
            raise ValueError('a step after another has grid = "faces"')
        return self

    def ends(self) -> Ends:
        """Channels and shape that its network takes, and answers."""
        shape = self.input.window.shape
        background = 1 if self.activation == "softmax" else 0
        return len(self.input.channels) + len(self.given), shape, len(self.numbers) + background, shape


GeometryStep = LookStep | PlaceStep | BoxStep
StepSpec = Annotated[LookStep | PlaceStep | BoxStep | WindowStep, Field(discriminator="step")]


def matrix(rows: _Affine) -> NDArray[np.float64]:
    """(4, 4) float64 of the three rows of an affine."""
    return np.vstack([np.asarray(rows, np.float64), (0.0, 0.0, 0.0, 1.0)])


def check_steps(steps: tuple[StepSpec, ...], segments: int, graphs: tuple[Any, ...]) -> None:
    """Whether steps, segments and graphs fit each other.

    Raises
    ------
    ValueError
        With what does not.
    """
    names = [step.name for step in steps]
    if len(set(names)) != len(names):
        raise ValueError("two steps have the same name")
    for graph in graphs:
        if graph.step not in (names if steps else [None]):
            raise ValueError(f"the graph {graph.file!r} is for the step {graph.step!r}, which there is not")
    for precision in {graph.precision for graph in graphs}:
        if steps and {graph.step for graph in graphs if graph.precision == precision} != set(names):
            raise ValueError(f"not every step has a graph for {precision}")
    if len({isinstance(step, WindowStep) for step in steps}) > 1:
        raise ValueError("window steps stand by themselves, without look, place or box")
    before: dict[str, StepSpec] = {}
    for step in steps:
        _check_link(step, before)
        before[step.name] = step
    if steps and sorted(painted(steps)) != list(range(1, segments + 1)):
        raise ValueError("the steps must answer each segment exactly once")


def painted(steps: tuple[StepSpec, ...]) -> list[int]:
    """Numbers of the segments in the order in which the steps answer them; later ones lie over earlier ones."""
    numbers: list[int] = []
    for step in steps:
        if isinstance(step, LookStep):
            numbers += [segment.number for segment in step.segments]
        elif isinstance(step, WindowStep):
            numbers += [number for number in step.numbers if number]
        elif isinstance(step, BoxStep):
            numbers += [side.number for side in step.sides]
    return numbers


def _check_link(step: StepSpec, before: dict[str, StepSpec]) -> None:
    if isinstance(step, LookStep):
        if any(segment.map >= step.maps for segment in step.segments):
            raise ValueError(f"a segment of step {step.name} names a map that there is not")
        return
    if isinstance(step, WindowStep):
        _check_given(step, before)
        return
    found = before.get(step.of)
    wanted = LookStep if isinstance(step, PlaceStep) else PlaceStep
    if not isinstance(found, wanted):
        raise ValueError(f"step {step.name} needs an earlier {wanted.model_fields['step'].annotation} step")
    if isinstance(step, PlaceStep) and isinstance(found, LookStep):
        if max(*step.maps, step.mask or 0) >= found.maps:
            raise ValueError(f"step {step.name} names a map that there is not")
        if step.shape != found.shape:
            raise ValueError(f"step {step.name} has another shape than the maps that it sees")


def _check_given(step: WindowStep, before: dict[str, StepSpec]) -> None:
    if step.after is None:
        return
    found = before.get(step.after)
    if not isinstance(found, WindowStep):
        raise ValueError(f"step {step.name} needs an earlier window step")
    if max(step.given) > len(found.numbers):
        raise ValueError(f"step {step.name} is given a label that there is not")
