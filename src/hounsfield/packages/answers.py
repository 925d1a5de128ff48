"""What a package answers besides segments: classes, quantities, located boxes; and what it needs besides a scan."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from hounsfield.packages.tables import Code, Colour, Finite, Fraction, Label, Positive, Table

Task = Literal["segmentation", "classification", "detection", "dynamic", "fusion"]


class OperatingPointSpec(Table):
    """A threshold with a name, fixed on data that the evidence does not use."""

    name: Annotated[str, Field(min_length=1, max_length=40)]
    threshold: Fraction


class ClassSpec(Table):
    """A class of the whole image (or of the surroundings of a point); the order is that of the logits.

    ``label`` is also its word in a table of cases. ``reported`` is false for the class that says that
    nothing is there: its score is written, but it is no finding.
    """

    label: Label
    concept: Code
    reported: bool = True
    operating_points: Annotated[tuple[OperatingPointSpec, ...], Field(max_length=8)] = ()

    @model_validator(mode="after")
    def _named_once(self) -> ClassSpec:
        names = [point.name for point in self.operating_points]
        if len(set(names)) != len(names):
            raise ValueError(f"class {self.label!r} has two operating points of one name")
        return self


class QuantitySpec(Table):
    """A number that is answered as it is: the network's value times ``factor``, in ``unit`` (UCUM)."""

    label: Label
    concept: Code
    unit: Code
    factor: Positive = 1.0
    low: Finite | None = None
    high: Finite | None = None


class BoxSpec(Table):
    """A kind of lesion that a detector finds as a centre with a size; below ``least_score`` it is not reported."""

    label: Label
    category: Code
    type: Code
    least_score: Fraction = 0.5
    colour_rgb: Colour = (230, 60, 60)


class PointSpec(Table):
    """The package reads the surroundings of a point that somebody gives.

    ``size_mm`` (k, j, i) is the box that is read; by default one window.
    """

    size_mm: tuple[Positive, Positive, Positive] | None = None


class TimesSpec(Table):
    """How a sequence reaches the network: so many time points.

    With ``step_s`` they lie so many seconds apart from the first on, interpolated linearly between those that
    were acquired; without, they are taken evenly from those there are. A pause longer than
    ``longest_pause_s`` between two acquired ones is refused.

    ``signal``: the ``"values"`` themselves; their ``"relative"`` change from the mean of the first ``baseline``
    time points, so that scanners' units drop out; or the ``"concentration"`` (mmol/l) of contrast medium in a
    T1-weighted spoiled gradient echo, for which tissue has ``t1_ms`` before contrast and the medium
    ``relaxivity`` (per mmol/l and second). Repetition time and flip angle are the scan's; those given here
    are taken where a scan states none.

    With ``every_voxel`` the answers are of the voxel in the window's middle, and every voxel is asked: maps.
    Voxels whose signal before contrast is below ``least_signal`` of the scan's 99th percentile are left out.
    """

    count: Annotated[int, Field(ge=2, le=1000)]
    step_s: Positive | None = None
    longest_pause_s: Positive | None = None
    baseline: Annotated[int, Field(ge=0, le=100)] = 0
    signal: Literal["values", "relative", "concentration"] = "values"
    t1_ms: Positive = 1000.0
    relaxivity: Positive = 4.5
    repetition_time_ms: Positive | None = None
    flip_angle_degrees: Positive | None = None
    every_voxel: bool = False
    least_signal: Fraction = 0.1

    @model_validator(mode="after")
    def _has_baseline(self) -> TimesSpec:
        if (self.signal == "values") != (self.baseline == 0):
            raise ValueError("baseline: give at least 1 for a relative signal or a concentration, and 0 for values")
        if self.baseline >= self.count:
            raise ValueError("baseline: it is not shorter than the sequence")
        return self


class ColumnSpec(Table):
    """A number of the record, by name; outside ``low`` to ``high`` it breaches the domain."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=64)]
    title: Label
    unit: Annotated[str, Field(max_length=32)] = "1"
    low: Finite | None = None
    high: Finite | None = None
    breach: Literal["warn", "refuse"] = "warn"
    required: bool = False


def check_task(task: Task, given: Any, output: Any) -> None:
    """Raise ValueError unless input and output are those of the task."""
    kinds = {"segments": output.segments, "classes": output.classes, "quantities": output.quantities}
    there = {name for name, items in {**kinds, "boxes": output.boxes}.items() if items}
    wanted: dict[str, set[str]] = {"segmentation": {"segments"}, "detection": {"boxes"}}
    allowed = wanted.get(task, {"classes", "quantities"} if task == "dynamic" else {"classes"})
    if not there or not there <= allowed or len(there) > 1:
        names = " or ".join(f"[[output.{name}]]" for name in sorted(allowed))
        raise ValueError(f"a {task} package needs at least one of {names}, and nothing else beside it")
    if output.classes and output.activation == "softmax" and len(output.classes) < 2:
        raise ValueError("softmax needs at least two [[output.classes]]; one alone takes sigmoid")
    if output.classes and not any(one.reported for one in output.classes):
        raise ValueError("output.classes: at least one class is reported")
    if not given.channels and task != "fusion":
        raise ValueError("input.channels: name at least one channel")
    if bool(given.record) != (task == "fusion"):
        raise ValueError("input.record: a fusion package names its columns, and no other task does")
    if bool(given.times) != (task == "dynamic"):
        raise ValueError("input.times: a dynamic package says how many time points it reads, and no other task does")
    if given.times is not None and given.times.every_voxel:
        odd = all(size % 2 for size in given.window.shape)
        if not output.quantities or given.spacing_mm is not None or given.point is not None or not odd:
            raise ValueError(
                "input.times: every_voxel is for quantities on the scan's own grid (no spacing_mm, no point), "
                "with a window of odd sizes"
            )
    whole = given.spacing_mm is None and given.point is None and task in ("classification", "fusion")
    if given.fit and not whole:
        raise ValueError("input.fit: only whole images are fitted to the window, without spacing_mm and point")
    if given.point is not None and given.point.size_mm is None and given.spacing_mm is None:
        raise ValueError("input.point: give size_mm, or spacing_mm so that the window has a size")
    if any(step.step == "keep-nearest" for step in output.clean_up) and given.point is None:
        raise ValueError("clean_up: keep-nearest needs [input.point]")
