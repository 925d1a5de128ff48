"""What the network is given, and how its grid relates to the scan's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.preparing.first_voxel import FromFirst
from hounsfield.preparing.intensity import Chain
from hounsfield.preparing.interpolation import Taps
from hounsfield.preparing.steps import Bounds, Box, CropPad, Kinds, Orient, Resample, Step, resample_box, slab_axis
from hounsfield.volume import Geometry, Shape


@dataclass(frozen=True, eq=False)
class Channel:
    """One image channel on the scan's voxels, turned to the network's axes but not yet resampled.

    Parameters
    ----------
    array
        (k, j, i), any real dtype, a view of the scan (it may be memory-mapped).
    padding
        Same shape, True where the scanner stored no measurement; ``None`` if nowhere.
    chain
        The decided intensity steps.
    padding_value
        What the network sees there, in its own units.
    """

    array: NDArray[Any]
    padding: NDArray[np.bool_] | None
    chain: Chain
    padding_value: float

    def resampled(self, target: Shape, kinds: Kinds, box: Box) -> NDArray[np.float32]:
        """The part ``box`` of the target grid, float32: intensity steps first, then interpolation."""
        if self.array.shape == target:
            return self._values(box)
        bounds = self._bounds.setdefault(kinds, Bounds(_Values(self), slab_axis(kinds)))
        edge = "cubic-edge" in kinds
        return resample_box(_Values(self), target, kinds, box, bounds if edge else None)  # type: ignore[arg-type]

    @cached_property
    def _bounds(self) -> dict[Kinds, Bounds]:
        return {}

    def _values(self, box: Any) -> NDArray[np.float32]:
        values = self.chain.network_values(self.array[box])
        if self.padding is not None:
            values[self.padding[box]] = self.padding_value
        return values


@dataclass(frozen=True, eq=False)
class Given:
    """Labels of an earlier step as channels of 0 and 1.

    Parameters
    ----------
    labels
        (k, j, i) unsigned integers on the network's grid.
    numbers
        The label of each channel.
    """

    labels: NDArray[Any]
    numbers: tuple[int, ...]

    def read(self, box: Box) -> NDArray[np.float32]:
        """(numbers, k, j, i) float32 of a box."""
        part = self.labels[box]
        return np.stack([(part == number).astype(np.float32) for number in self.numbers])


class _Values:
    """The channel's values as something that can be sliced: computed where they are read."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.shape = channel.array.shape

    def __getitem__(self, box: Any) -> NDArray[np.float32]:
        return self._channel._values(box)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan as the network sees it, computed where it is read.

    Without resampling nothing is stored but views of the scan: :meth:`read` turns a box of it
    into network values on demand, so that a memory-mapped scan stays on disk. With
    resampling :func:`hounsfield.preparing.prepare` stores the result once (``stored``), unless
    it was told to stay lazy.

    Parameters
    ----------
    channels
        One per input channel of the network.
    geometry
        The network's grid.
    source
        The scan's own grid, where results go back to.
    orient, crop, resample
        The geometric steps between them, in this order.
    stored
        (channels, k, j, i) float32 network values, if they are kept.
    crop
        The box of the scan's voxels that is read, where the package crops.
    given
        Further channels behind those of the image: labels of an earlier step.
    """

    channels: tuple[Channel, ...]
    geometry: Geometry
    source: Geometry
    orient: Orient
    resample: Resample | FromFirst | None = None
    stored: NDArray[np.float32] | None = None
    crop: CropPad | None = None
    given: Given | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """The geometric steps from the scan's grid to the network's, in order."""
        every: tuple[Step | None, ...] = (self.orient, self.crop, self.resample)
        return tuple(step for step in every if step is not None)

    @property
    def voxels(self) -> tuple[NDArray[Any], ...]:
        """The scans' own arrays (and paddings), as they are read from."""
        paddings = (channel.padding for channel in self.channels if channel.padding is not None)
        return (*(channel.array for channel in self.channels), *paddings)

    @property
    def oriented(self) -> Geometry:
        """The scan's grid after turning and cropping, before resampling."""
        turned = self.orient.geometry(self.source)
        return turned if self.crop is None else self.crop.geometry(turned)

    @property
    def kinds(self) -> Kinds:
        """How each axis is interpolated on the way to the network."""
        return self.resample.kinds(self.oriented) if isinstance(self.resample, Resample) else ("linear",) * 3

    def taps_back(self, *, nearest: bool = False) -> tuple[Taps | None, Taps | None, Taps | None]:
        """For each axis how a voxel of the scan is made of the network's, linearly or by the nearest one.

        ``None`` for an axis whose voxels are the same.
        """
        return (None, None, None) if self.resample is None else self.resample.taps_back(self.oriented, nearest=nearest)

    @property
    def shape(self) -> Shape:
        """(k, j, i) of the network's grid."""
        return self.geometry.shape

    def read(self, box: Box) -> NDArray[np.float32]:
        """(channels, k, j, i) float32 network values of a box within the grid."""
        image = self._image(box)
        return image if self.given is None else np.concatenate((image, self.given.read(box)))

    def _image(self, box: Box) -> NDArray[np.float32]:
        if self.stored is not None:
            part: NDArray[np.float32] = self.stored[(slice(None), *box)]
            return part
        return np.stack([channel.resampled(self.shape, self.kinds, box) for channel in self.channels])

    @cached_property
    def array(self) -> NDArray[np.float32]:
        """(channels, k, j, i) float32: the whole network input in memory."""
        if self.stored is not None and self.given is None:
            return self.stored
        k, j, i = self.shape
        return self.read((slice(0, k), slice(0, j), slice(0, i)))
