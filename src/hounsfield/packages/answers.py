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
    """How a sequence reaches the network: so many time points, taken evenly from those there are.

    ``baseline`` time points at the start are averaged and each later one is shown as its relative change
    from that mean (``signal``), so that scanners' units drop out; 0 shows the values themselves.
    """

    count: Annotated[int, Field(ge=2, le=1000)]
    baseline: Annotated[int, Field(ge=0, le=100)] = 0


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
    whole = given.spacing_mm is None and given.point is None and task in ("classification", "fusion")
    if given.fit and not whole:
        raise ValueError("input.fit: only whole images are fitted to the window, without spacing_mm and point")
    if given.point is not None and given.point.size_mm is None and given.spacing_mm is None:
        raise ValueError("input.point: give size_mm, or spacing_mm so that the window has a size")
    if any(step.step == "keep-nearest" for step in output.clean_up) and given.point is None:
        raise ValueError("clean_up: keep-nearest needs [input.point]")
