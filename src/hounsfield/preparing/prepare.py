"""From scans to network input, as the manifest's ``[input]`` says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import GeometryRefused, InputError
from hounsfield.packages.manifest import Clip, InputSpec
from hounsfield.preparing.distribution import distribution
from hounsfield.preparing.first_voxel import FromFirst
from hounsfield.preparing.intensity import Chain, decide
from hounsfield.preparing.mapped import release
from hounsfield.preparing.outline import box_of, filled, non_zero
from hounsfield.preparing.prepared import Channel, Prepared
from hounsfield.preparing.steps import CropPad, Orient, Resample
from hounsfield.volume import Geometry, Volume

_STORE_BLOCK_BYTES = 16 * 2**20


def prepare(
    volumes: Volume | Sequence[Volume],
    spec: InputSpec,
    *,
    padding_value: float | None = None,
    lazy: bool = False,
    store_in: Path | None = None,
    inside: NDArray[np.bool_] | None = None,
) -> Prepared:
    """Turn, scale and resample a scan (or one scan per channel) into network input.

    Order: orientation (no interpolation), cropping, intensity steps on the scan's own voxels, pixel
    padding set to one value, then resampling. Padding takes no part in the statistics.

    Parameters
    ----------
    volumes
        One per channel of ``spec``, in its order. The first gives the grid; others are
        brought onto it by linear interpolation if theirs differs (same frame of reference only).
    spec
        The manifest's input table.
    padding_value
        What the network sees where the scanner stored no measurement, in network units;
        by default the window's ``pad_value``.
    lazy
        Resample each part when it is read, instead of once.
    store_in
        Folder for a temporary file of the resampled values, instead of memory. The file has no
        name once it is open, so it goes when it is no longer used.
    inside
        (slices, rows, columns) on the scan's grid: voxels that belong to the outline whatever their value
        (nnU-Net counts those that an earlier stage of a cascade labelled).

    Raises
    ------
    InputError
        If the number of scans is wrong, or their voxels cannot be used.
    GeometryRefused
        If the scans do not lie in the same frame of reference, or the axes are sheared.
    """
    scans = [volumes] if isinstance(volumes, Volume) else list(volumes)
    if len(scans) != len(spec.channels):
        raise InputError(
            fact=f"{len(scans)} scans were given for {len(spec.channels)} channels",
            remedy=f"give one scan per channel: {', '.join(channel.name for channel in spec.channels)}",
        )
    source = scans[0].geometry
    if not source.is_orthonormal:
        raise GeometryRefused("the axes of the scan are not at right angles", "repair the tilt first (--repair)")
    scans = [scan if scan.geometry.is_close(source) else _onto(scan, source) for scan in scans]
    pad = spec.window.pad_value if padding_value is None else padding_value
    orient = Orient(spec.orientation)
    views = [_View.of(scan, orient) for scan in scans]
    crop, views = _outlined(views, spec, None if inside is None else orient.apply(inside, source))
    oriented = orient.geometry(source) if crop is None else crop.geometry(orient.geometry(source))
    resample = resampling(spec, oriented)
    geometry = oriented if resample is None else resample.geometry(oriented)
    if isinstance(resample, FromFirst):
        moved = tuple(_moved(view, spec, number, pad, oriented, store_in) for number, view in enumerate(views))
        return Prepared(moved, geometry, source, orient, resample)
    if geometry.shape == oriented.shape:
        geometry, resample = oriented, None
    channels = tuple(_channel(view, spec, number, pad) for number, view in enumerate(views))
    prepared = Prepared(channels, geometry, source, orient, resample, crop=crop)
    if resample is None or lazy:
        return prepared
    return replace(prepared, stored=_store(prepared, store_in))


def resampling(spec: InputSpec, oriented: Geometry) -> Resample | FromFirst | None:
    """How a scan along the network's axes comes to the network's grid; ``None`` where the package keeps its own."""
    if spec.fit:
        return Resample(_fitted(spec, oriented), spec.interpolation)
    if spec.spacing_mm is None:
        return None
    if spec.grid == "first-voxel":
        return FromFirst(spec.spacing_mm)
    return Resample(spec.spacing_mm, spec.interpolation, spec.separate_above)


def _fitted(spec: InputSpec, geometry: Geometry) -> tuple[float, float, float]:
    """The spacing that brings the whole scan to the window's shape."""
    k, j, i = (extent / size for extent, size in zip(geometry.extent_mm, spec.window.shape, strict=True))
    return (k, j, i)


@dataclass(frozen=True, eq=False)
class _View:
    """A scan's voxels turned to the network's axes: measured or not, inside the outline or not."""

    array: NDArray[Any]
    padding: NDArray[np.bool_] | None
    outside: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, scan: Volume, orient: Orient) -> _View:
        padding = scan.padding if scan.padding is not None and scan.padding.any() else None
        turned = None if padding is None else orient.apply(padding, scan.geometry)
        return cls(orient.apply(scan.array, scan.geometry), turned)


def _outlined(
    views: list[_View], spec: InputSpec, inside: NDArray[np.bool_] | None
) -> tuple[CropPad | None, list[_View]]:
    """The box of the non-zero voxels where the package crops, and the views cut to it."""
    if not spec.reads_outline:
        return None, views
    mask = non_zero([view.array for view in views], [view.padding for view in views])
    crop = box_of(mask) if spec.crop == "non-zero" else None
    if crop is not None:
        k, j, i = (slice(first, first + size) for first, size in zip(crop.start, crop.shape, strict=True))
        mask, inside = mask[k, j, i], None if inside is None else inside[k, j, i]
        views = [_View(view.array[k, j, i], None if view.padding is None else view.padding[k, j, i]) for view in views]
    if not any(channel.outline for channel in spec.channels) or not mask.any():
        return crop, views
    outside = ~filled(mask) if inside is None else ~(filled(mask) | inside)
    return crop, [
        replace(view, outside=outside) if channel.outline else view
        for view, channel in zip(views, spec.channels, strict=True)
    ]


def _channel(view: _View, spec: InputSpec, number: int, pad: float) -> Channel:
    steps = spec.steps_of_channels[number]
    unmeasured = view.padding if view.outside is None else view.outside
    if view.padding is not None and view.outside is not None:
        unmeasured = view.padding | view.outside
    needed = bool(steps) or view.array.dtype.kind == "f"
    chain = decide(steps, distribution(view.array, unmeasured)) if needed else Chain()
    if spec.padding == "lowest" and isinstance(steps[0], Clip):
        pad = float(chain(np.array([steps[0].low]))[0])
    if view.outside is not None and view.padding is None:
        pad = 0.0
    return Channel(view.array, unmeasured, chain, pad)


def _moved(view: _View, spec: InputSpec, number: int, pad: float, oriented: Geometry, store_in: Path | None) -> Channel:
    """A channel resampled at once, by the first voxel's centre: its own values, or those after the intensity steps."""
    step = FromFirst(spec.spacing_mm or (0.0, 0.0, 0.0))
    shape = step.geometry(oriented).shape
    before = _channel(view, spec, number, pad)
    if spec.resample_first:
        values = np.asarray(view.array, np.float32)
        if view.padding is not None and not view.padding.all():
            values = np.where(view.padding, values[~view.padding].min(), values)
    else:
        values = before.resampled(oriented.shape, ("linear",) * 3, (slice(None), slice(None), slice(None)))
    array = _room(shape, store_in)
    array[...] = step.apply(values, oriented)
    if not spec.resample_first:
        return Channel(array, None, Chain(), pad)
    padding = None
    if view.padding is not None:
        taps = FromFirst(step.spacing_mm).taps(oriented, nearest=True)
        padding = view.padding[np.ix_(*(tap.low for tap in taps))]
    return _channel(_View(array, padding), spec, number, pad)


def _store(prepared: Prepared, folder: Path | None) -> NDArray[np.float32]:
    """All network values, computed in slabs of a few slices."""
    out = _room((len(prepared.channels), *prepared.shape), folder)
    slices, rows, columns = prepared.shape
    depth = max(1, _STORE_BLOCK_BYTES // (4 * rows * columns))
    for start in range(0, slices, depth):
        stop = min(slices, start + depth)
        out[:, start:stop] = prepared.read((slice(start, stop), slice(0, rows), slice(0, columns)))
        for array in (out, *prepared.voxels):
            release(array)
    return out


def _room(shape: tuple[int, ...], folder: Path | None) -> NDArray[np.float32]:
    if folder is None:
        return np.empty(shape, np.float32)
    import tempfile

    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, np.float32, "w+", shape=shape)


def _onto(scan: Volume, target: Geometry) -> Volume:
    """A scan of the same patient space on another grid: linear, outside it is padding."""
    from scipy.ndimage import affine_transform

    here, there = scan.geometry.frame_of_reference_uid, target.frame_of_reference_uid
    if here != there:
        raise GeometryRefused(
            "the scans of the channels lie in different frames of reference", "give scans that are registered"
        )
    matrix = np.linalg.inv(scan.geometry.affine) @ target.affine
    array = np.asarray(scan.array, dtype=np.float32)
    moved = affine_transform(array, matrix, output_shape=target.shape, order=1, mode="nearest", prefilter=False)
    padding = _outside(scan.geometry, target)
    if scan.padding is not None:
        there_too = affine_transform(
            scan.padding.astype(np.float32), matrix, output_shape=target.shape, order=1, mode="nearest"
        )
        padding |= there_too > 0
    kept: NDArray[Any] = moved
    return replace(scan, array=kept, geometry=target, padding=padding)


def _outside(scan: Geometry, target: Geometry) -> NDArray[np.bool_]:
    """Which voxels of the target lie outside the scan, its outer half voxels included."""
    matrix = np.linalg.inv(scan.affine) @ target.affine
    outside = np.zeros(target.shape, np.bool_)
    limits = np.asarray(scan.shape) - 0.5
    k, j, i = (np.arange(n, dtype=np.float64) for n in target.shape)
    for axis in range(3):
        at = matrix[axis, 0] * k[:, None, None] + matrix[axis, 1] * j[:, None] + matrix[axis, 2] * i + matrix[axis, 3]
        outside |= (at < -0.5) | (at > limits[axis])
    return outside
