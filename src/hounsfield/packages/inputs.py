"""What a network is given: ``[input]`` of a manifest, its channels, intensity steps and window."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from hounsfield.errors import GeometryRefused
from hounsfield.packages.answers import ColumnSpec, PointSpec, TimesSpec
from hounsfield.packages.tables import Count, Finite, Fraction, Name, Positive, Table
from hounsfield.volume import Quantity, parse_orientation

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Clip(Table):
    """Clip to [low, high] in the units of the channel."""

    step: Literal["clip"]
    low: Finite
    high: Finite


class ClipQuantiles(Table):
    """Clip to the quantiles ``low`` and ``high`` of all voxels that are not padding."""

    step: Literal["clip-quantiles"]
    low: Fraction
    high: Fraction


class Scale(Table):
    """Map [low, high] linearly onto [to_low, to_high]; clipped to it when ``clip``."""

    step: Literal["scale"]
    low: Finite
    high: Finite
    to_low: Finite = 0.0
    to_high: Finite = 1.0
    clip: bool = True


class ScaleQuantiles(Table):
    """Map the quantiles ``low`` and ``high`` of the scan linearly onto [to_low, to_high]."""

    step: Literal["scale-quantiles"]
    low: Fraction
    high: Fraction
    to_low: Finite = 0.0
    to_high: Finite = 1.0
    clip: bool = True


class ZScore(Table):
    """Subtract the mean and divide by the standard deviation of the scan (or of non-zero voxels)."""

    step: Literal["z-score"]
    non_zero_only: bool = False


class Standardise(Table):
    """Subtract a fixed ``mean`` and divide by a fixed ``std`` (a property of the training set)."""

    step: Literal["standardise"]
    mean: Finite
    std: Positive


IntensityStep = Annotated[
    Clip | ClipQuantiles | Scale | ScaleQuantiles | ZScore | Standardise, Field(discriminator="step")
]


class Channel(Table):
    """One image channel: its modality, and what its numbers must mean.

    ``intensity`` replaces the steps of ``[input]`` for this channel. With ``outline`` the voxels outside
    the filled outline of the non-zero voxels (of all channels together) count as padding: they take no
    part in statistics, and the network sees 0 there (nnU-Net's ``use_mask_for_norm``).
    """

    name: Name
    modality: Annotated[str, Field(pattern=r"^[A-Z]{2,16}$")]
    quantity: Quantity = Quantity.ARBITRARY
    intensity: tuple[IntensityStep, ...] | None = None
    outline: bool = False


class WindowSpec(Table):
    """The sliding window. Positions are part of the package: results depend on them.

    ``positions``: ``"even"`` spreads the windows evenly (nnU-Net's rule), ``"stride"`` steps
    by ``shape * (1 - overlap)`` and moves the last one back (MONAI's rule). ``"gaussian"``
    blending weighs by a Gaussian with standard deviation ``sigma * shape``; ``"gaussian-half"`` is
    nnU-Net's: centred on voxel ``shape // 2``, kept as float16, nowhere 0.
    """

    shape: tuple[Count, Count, Count]
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    positions: Literal["even", "stride"] = "even"
    blending: Literal["gaussian", "constant", "gaussian-half"] = "gaussian"
    sigma: Positive = 0.125
    pad_value: Finite = 0.0
    skip_below: Finite | None = None


class InputSpec(Table):
    """What the network is given; spacings and shapes in the order (k, j, i).

    ``spacing_mm`` 0 keeps the scan's own along that axis. ``crop = "non-zero"`` cuts the scan to the box
    of its non-zero voxels before anything is measured. ``interpolation``: ``"cubic"`` mirrors at the
    borders (SimpleITK), ``"cubic-edge"`` holds the border's value and clips to the input's range
    (scikit-image, nnU-Net). Where the largest spacing of the scan, else of the network, is more
    than ``separate_above`` times its smallest, that one axis is interpolated by the nearest voxel
    and the other two slice by slice, on the way in and back (nnU-Net's ``separate_z``). ``padding``:
    voxels without measurement are seen as the window's ``pad_value``, or as the lowest value that the
    first intensity step leaves.

    ``grid``: resampling keeps the scan's outer ``"faces"``, the spacing being the nearest that does; or the centre
    of the ``"first-voxel"`` and exactly the spacing (MONAI's Spacing). With ``resample_first`` the intensity steps
    and their statistics see the resampled voxels, else the scan's own.

    ``fit`` brings the whole scan to the window's shape, whatever its spacing (projections), with
    ``interpolation = "area"`` as a mean over what falls on a voxel. With ``point`` only the surroundings of
    a given point are read; ``times`` says how a sequence is read; ``record`` are numbers beside the scan.
    """

    channels: Annotated[tuple[Channel, ...], Field(max_length=16)]
    orientation: str = "LPS"
    spacing_mm: tuple[NotNegative, NotNegative, NotNegative] | None = None
    interpolation: Literal["linear", "cubic", "cubic-edge", "area"] = "linear"
    fit: bool = False
    separate_above: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None
    grid: Literal["faces", "first-voxel"] = "faces"
    resample_first: bool = False
    crop: Literal["none", "non-zero"] = "none"
    padding: Literal["pad-value", "lowest"] = "pad-value"
    intensity: tuple[IntensityStep, ...] = ()
    window: WindowSpec
    point: PointSpec | None = None
    times: TimesSpec | None = None
    record: Annotated[tuple[ColumnSpec, ...], Field(max_length=256)] = ()

    @field_validator("orientation")
    @classmethod
    def _known(cls, code: str) -> str:
        try:
            parse_orientation(code)
        except GeometryRefused as error:
            raise ValueError(f"{error.fact}, {error.remedy}") from error
        return code.upper()

    @model_validator(mode="after")
    def _lowest_known(self) -> InputSpec:
        clipped = [bool(steps) and isinstance(steps[0], Clip) for steps in self.steps_of_channels]
        if self.padding == "lowest" and not all(clipped):
            raise ValueError('padding = "lowest" needs "clip" as the first intensity step')
        return self

    @model_validator(mode="after")
    def _grid_known(self) -> InputSpec:
        plain = self.interpolation == "linear" and self.separate_above is None and not self.fit
        if self.grid == "first-voxel" and (self.spacing_mm is None or not plain or self.reads_outline):
            raise ValueError('grid = "first-voxel" needs a spacing, linear interpolation and no cropping')
        if self.resample_first and self.grid != "first-voxel":
            raise ValueError('resample_first is for grid = "first-voxel"')
        return self

    @property
    def steps_of_channels(self) -> tuple[tuple[IntensityStep, ...], ...]:
        """The intensity steps of each channel."""
        return tuple(self.intensity if one.intensity is None else one.intensity for one in self.channels)

    @property
    def reads_outline(self) -> bool:
        """Whether non-zero voxels are looked for."""
        return self.crop != "none" or any(channel.outline for channel in self.channels)
