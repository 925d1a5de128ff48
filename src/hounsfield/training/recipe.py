"""The recipe of a training: one readable file, checked as a whole before anything starts.

A recipe is data. Unknown keys are errors with a proposal; there is no code in it and nothing is
evaluated. The tables ``[input]``, ``[package.domain]`` and ``[package.output]`` are those of a package's
manifest, so that what was trained is what is shipped.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from hounsfield.packages.answers import QuantitySpec
from hounsfield.packages.manifest import (
    Count,
    Domain,
    Finite,
    Fraction,
    InputSpec,
    Licence,
    Name,
    OutputSpec,
    Positive,
    Text,
    _Table,
)
from hounsfield.training.teacher import Teacher

Task = Literal["segmentation", "classification", "detection", "dynamic", "fusion"]
Side = Literal["left-right", "anterior-posterior", "superior-inferior"]
Bytes = Annotated[str, Field(pattern=r"^\d+(\.\d+)?\s*(B|KiB|MiB|GiB|TiB|KB|MB|GB|TB)$")]
Steps = Annotated[int, Field(ge=1, le=10_000_000)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Pair = tuple[Finite, Finite]


class Data(_Table):
    """Which cases, which columns, and how much memory they may take.

    ``table`` and ``split_file`` are relative to the recipe. ``target`` is the column of the class
    (or several columns of 0/1 findings); ``classes`` names its values in the order of the logits.
    ``record`` are the columns that a fusion network is given. ``foreground`` is the fraction of
    patches that are centred on a labelled voxel. ``memory`` bounds the cases kept in memory; all
    others stay in memory-mapped files in the run's folder.
    """

    table: Text
    split_file: str | None = None
    train: Text = "train"
    validation: str = "validation"
    target: tuple[Text, ...] = ()
    classes: tuple[Text, ...] = ()
    record: tuple[Text, ...] = ()
    phases: Annotated[int, Field(ge=1, le=1000)] | None = None
    foreground: Fraction = 0.5
    balance: bool = False
    memory: Bytes = "2GiB"


class Chance(_Table):
    """Something that happens to a patch with ``probability``."""

    probability: Fraction = 0.2


class Elastic(Chance):
    """A smooth random deformation: Gaussian noise smoothed with ``sigma_voxels``, times ``magnitude_voxels``."""

    sigma_voxels: Positive = 10.0
    magnitude_voxels: NotNegative = 2.0


class Gamma(Chance):
    """``x ** exponent`` on the patch's own range, mean and deviation kept; the exponent from ``range``."""

    range: Pair = (0.7, 1.4)


class Amount(Chance):
    """A random amount from ``range``."""

    range: Pair


class Scanner(Chance):
    """Another scanner's look: a smooth multiplicative field (``bias``) and a random monotone curve (``curve``)."""

    bias: NotNegative = 0.2
    curve: NotNegative = 0.1


class Augmentation(_Table):
    """What is changed at random in training patches; never in validation.

    ``flip`` names the sides that may be exchanged: none by default, since most anatomy has sides.
    ``turn_degrees`` and ``scale`` are drawn per axis; ``shift_voxels`` moves the patch, so that a
    network does not learn that the finding is in the middle.
    """

    flip: tuple[Side, ...] = ()
    turn_degrees: Annotated[float, Field(ge=0, le=180)] = 15.0
    turn_probability: Fraction = 0.3
    scale: Pair = (0.85, 1.2)
    scale_probability: Fraction = 0.3
    shift_voxels: NotNegative = 0.0
    elastic: Elastic = Elastic(probability=0.2)
    gamma: Gamma = Gamma(probability=0.3)
    contrast: Amount = Amount(probability=0.3, range=(0.75, 1.25))
    brightness: Amount = Amount(probability=0.3, range=(-0.2, 0.2))
    noise: Amount = Amount(probability=0.15, range=(0.02, 0.2))
    blur: Amount = Amount(probability=0.15, range=(0.4, 1.0))
    low_resolution: Amount = Amount(probability=0.15, range=(0.5, 1.0))
    scanner: Scanner = Scanner(probability=0.0)

    @model_validator(mode="after")
    def _sensible(self) -> Augmentation:
        for name in ("scale", "gamma", "contrast", "blur", "low_resolution", "noise"):
            value = getattr(self, name)
            low, high = value if isinstance(value, tuple) else value.range
            if not 0 < low <= high:
                raise ValueError(f"{name}: give two positive numbers, the smaller one first")
        if self.low_resolution.range[1] > 1:
            raise ValueError("low_resolution: the range ends at 1 at most")
        return self


class Optimisation(_Table):
    """Steps, batch, learning rate and loss.

    ``batch`` is what one step sees in all processes together. ``ema`` is the decay of the average
    of the weights (0 for none); the average is what is validated and shipped.
    """

    steps: Steps
    batch: Annotated[int, Field(ge=1, le=4096)] = 2
    optimiser: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Positive = 1e-3
    weight_decay: NotNegative = 1e-4
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.99
    schedule: Literal["cosine", "polynomial", "constant", "one-cycle"] = "cosine"
    warm_up_steps: Annotated[int, Field(ge=0)] = 100
    loss: Literal["auto", "dice-ce", "dice-focal", "ce", "focal", "bce", "heat-map", "smooth-l1"] = "auto"
    class_weights: tuple[Positive, ...] = ()
    clip_norm: Positive = 12.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.998


class Validation(_Table):
    """Whole validation cases every ``every`` steps; stop after ``patience`` of them without improvement (0: never)."""

    every: Steps = 500
    patience: Annotated[int, Field(ge=0)] = 0
    least_gain: NotNegative = 0.0
    batch: Count = 1


class Compute(_Table):
    """Where and how; ``auto`` lets the training memory plan choose within ``memory``.

    ``checkpoint_every`` is in steps. ``deterministic`` makes the same recipe give the same weights
    on the same machine with the same number of threads.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    recompute: Literal["auto", "never", "always"] = "auto"
    memory: Bytes | None = None
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    deterministic: bool = True
    compile: bool = False
    checkpoint_every: Steps = 250


class Transfer(_Table):
    """Start from the weights of a package.

    ``skip_head`` leaves out tensors whose shape differs; ``into`` names the part of the network that they are
    for, the rest begins at random.
    """

    package: Text
    skip_head: bool = False
    into: Text | None = None


class PackageTable(_Table):
    """What the package says besides what the training knows.

    ``tune_threshold`` chooses, after the last step and on the validation cases, the probability from which on a
    voxel belongs to a label, so that their mean Dice is highest, and builds it into the network.
    """

    id: Name
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")] = "0.1.0"
    title: Annotated[str, Field(min_length=1, max_length=64)]
    intended_use: Text
    licence: Licence
    domain: Domain
    output: OutputSpec
    tune_threshold: bool = False
    card: str = ""


class Range(_Table):
    """One searched value: numbers between ``low`` and ``high``, or one of ``choices``."""

    low: Finite | None = None
    high: Finite | None = None
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] = ()

    @model_validator(mode="after")
    def _one_kind(self) -> Range:
        numbers = self.low is not None and self.high is not None
        if bool(self.choices) == numbers or (self.low is None) != (self.high is None):
            raise ValueError("give low and high, or choices")
        if numbers and not (self.low < self.high and (not self.log or self.low > 0)):  # type: ignore[operator]
            raise ValueError("low is below high, and above 0 where log is true")
        for choice in self.choices:
            flat = choice if isinstance(choice, list | tuple) else [choice]
            if not all(isinstance(value, str | int | float | bool) for value in flat):
                raise ValueError("choices are texts, numbers, true or false, or lists of these")
        return self


class Search(_Table):
    """Ranges by dotted name of the recipe, such as ``"optimisation.learning_rate"``.

    A trial trains ``steps`` steps; the worse half is stopped early (successive halving).
    """

    steps: Steps
    ranges: Annotated[dict[str, Range], Field(min_length=1)]
    trials: Annotated[int, Field(ge=1, le=10_000)] = 100
    importance_trials: Annotated[int, Field(ge=2)] = 4


class Recipe(_Table):
    """The whole file.

    ``channels_in``, ``channels_out``, ``columns`` and ``window`` of ``[architecture]`` follow from the other
    tables; they may be left out, and must agree where they are given.
    """

    format: Literal[1]
    task: Task
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    data: Data
    input: InputSpec
    architecture: dict[str, Any]
    augmentation: Augmentation = Augmentation()
    optimisation: Optimisation
    validation: Validation = Validation()
    compute: Compute = Compute()
    transfer: Transfer | None = None
    teacher: Teacher | None = None
    package: PackageTable | None = None
    search: Search | None = None
    labels: Annotated[int, Field(ge=1, le=65535)] | None = None

    @field_validator("architecture")
    @classmethod
    def _named(cls, table: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(table.get("name"), str):
            raise ValueError("name the network: name = 'plain-unet'")
        return table

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        per_image = self.task in ("classification", "dynamic", "fusion")
        if self.task == "dynamic" and bool(self.quantities) != (self.loss == "smooth-l1"):
            raise ValueError("optimisation.loss: numbers ([[package.output.quantities]]) are learnt with smooth-l1")
        if self.quantities:
            self._check_quantities()
        elif per_image and not self.data.target:
            raise ValueError("data.target: name the column of the class")
        if per_image and not self.quantities and len(self.data.target) == 1 and len(self.data.classes) < 2:
            raise ValueError("data.classes: name the values of the target, at least two, in the order of the logits")
        if (self.task == "fusion") != bool(self.data.record):
            raise ValueError("data.record: a fusion recipe names the columns of its record, and no other task does")
        if self.input.record and tuple(one.name for one in self.input.record) != self.data.record:
            raise ValueError("input.record: its columns are not those of data.record, in the same order")
        if self.teacher is not None and self.task != "segmentation":
            raise ValueError("teacher: a package teaches segmentation only")
        if self.teacher is not None and self.teacher.start == "teacher" and self.transfer is not None:
            raise ValueError(
                "transfer: the student starts from its teacher's channels; else set teacher.start = 'recipe'"
            )
        if self.package is not None and self.package.tune_threshold and self.task != "segmentation":
            raise ValueError("package.tune_threshold: only the labels of a segmentation have one to choose here")
        if not self.input.channels and self.task != "fusion":
            raise ValueError("input.channels: name at least one channel")
        if per_image and self.package is not None and not self.quantities:
            self._check_classes(self.package.output)
        if not per_image and self.labels is None and self.package is None:
            raise ValueError("labels: say how many labels there are besides the background, or give [package.output]")
        if self.task == "dynamic" and any(step.step not in _SAME_FOR_ALL for step in self.input.intensity):
            raise ValueError("input.intensity: phases are compared, so only clip, scale and standardise fit a sequence")
        if self.package is not None and self.labels not in (None, len(self.package.output.segments) or self.labels):
            raise ValueError("labels: it is not the number of segments in [package.output]")
        self._check_flips()
        return self

    def _check_classes(self, output: OutputSpec) -> None:
        """The classes of the package are those of the data, in the same order."""
        names = self.data.classes if len(self.data.target) == 1 else self.data.target
        labels = tuple(one.label for one in output.classes)
        if labels != names:
            raise ValueError(f"package.output: its labels are {list(labels)}, the data has {list(names)}")
        several = len(self.data.target) > 1 or self.optimisation.loss == "bce"
        if output.classes and output.activation != ("sigmoid" if several else "softmax"):
            raise ValueError(
                f"package.output.activation: this training makes {'sigmoid' if several else 'softmax'} scores"
            )

    def _check_quantities(self) -> None:
        """The size of the signal is what is learnt from, so nothing may change it."""
        for name in ("gamma", "contrast", "brightness", "scanner"):
            if getattr(self.augmentation, name).probability:
                raise ValueError(f"augmentation.{name}: it changes the numbers that are learnt; set probability = 0")
        labels = tuple(one.label for one in self.quantities)
        if not self.maps and labels != self.data.target:
            raise ValueError(f"data.target: name the columns of the quantities, {', '.join(labels)}")
        if self.maps and (self.data.target or self.augmentation.shift_voxels):
            raise ValueError(
                "data.target, augmentation.shift_voxels: maps are learnt from the column 'label', in place"
            )

    def _check_flips(self) -> None:
        if self.package is None or "left-right" not in self.augmentation.flip:
            return
        for segment in self.package.output.segments:
            words = f"{segment.label} {segment.modifier.meaning if segment.modifier else ''}".lower().split()
            if {"left", "right"} & set(words):
                raise ValueError(
                    f"augmentation.flip: {segment.label!r} has a side, so left and right cannot be exchanged"
                )

    @property
    def label_count(self) -> int:
        """Labels besides the background (segmentation, detection)."""
        if self.labels is not None:
            return self.labels
        return len(self.package.output.segments) if self.package is not None else 0

    @property
    def quantities(self) -> tuple[QuantitySpec, ...]:
        """The numbers that a dynamic network answers; none where it answers classes."""
        return self.package.output.quantities if self.task == "dynamic" and self.package is not None else ()

    @property
    def maps(self) -> bool:
        """Whether the numbers are of every voxel, and known from maps in the column ``label``."""
        return bool(self.quantities) and self.input.times is not None and self.input.times.every_voxel

    @property
    def reads_labels(self) -> bool:
        """Whether what is learnt stands in files beside the scans."""
        return self.task in ("segmentation", "detection") or self.maps

    @property
    def phases(self) -> int | None:
        """Time points that the network sees of a sequence."""
        return self.data.phases if self.input.times is None else self.input.times.count

    @property
    def output_channels(self) -> int:
        """Logits of the network."""
        if self.quantities:
            return len(self.quantities)
        if self.task == "segmentation":
            return self.label_count + 1
        if self.task == "detection":
            return self.label_count
        return len(self.data.target) if len(self.data.target) > 1 else len(self.data.classes)

    @property
    def loss(self) -> str:
        """The loss, ``auto`` resolved by the task."""
        if self.optimisation.loss != "auto":
            return self.optimisation.loss
        if self.task == "segmentation":
            return "dice-ce"
        if self.task == "detection":
            return "heat-map"
        if self.quantities:
            return "smooth-l1"
        return "bce" if len(self.data.target) > 1 else "ce"

    @property
    def window(self) -> tuple[int, int, int]:
        """The patch (k, j, i)."""
        return self.input.window.shape


_SAME_FOR_ALL = ("clip", "scale", "standardise")
_LOSSES: dict[str, tuple[str, ...]] = {
    "segmentation": ("dice-ce", "dice-focal", "ce", "focal"),
    "detection": ("heat-map",),
    "classification": ("ce", "focal", "bce"),
    "dynamic": ("ce", "focal", "bce", "smooth-l1"),
    "fusion": ("ce", "focal", "bce"),
}


def losses_of(task: Task) -> tuple[str, ...]:
    """The losses that fit a task."""
    return _LOSSES[task]
