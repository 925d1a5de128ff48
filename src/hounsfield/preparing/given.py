"""Labels of an earlier step as further channels of 0 and 1 on the network's grid (nnU-Net's cascade).

nnU-Net 2 resamples the earlier answer as it resamples reference labels (``resize_segmentation`` of
batchgenerators 0.25.5): every label's indicator is interpolated linearly, the largest wins, and where two
are exactly equal the nearest voxel's label does, if it is one of them, else the lowest. Background outside
the filled outline of the non-zero voxels is a label of its own. An axis that is interpolated
separately takes the nearest voxel, slice by slice.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.preparing.interpolation import nearest, positions
from hounsfield.preparing.outline import filled, non_zero
from hounsfield.preparing.prepared import Given, Prepared
from hounsfield.preparing.restoring import source_view
from hounsfield.preparing.steps import Kinds, Resample, slab_axis
from hounsfield.volume import Shape

_OUTSIDE = -1
_SLAB_VOXELS = 1_000_000
_MIXED_VOXELS = 200_000
Labels = NDArray[np.int32]
Indices = Mapping[int, NDArray[np.intp]]


def with_labels(prepared: Prepared, labels: NDArray[Any], numbers: tuple[int, ...], *, outlined: bool) -> Prepared:
    """The prepared scan with labels as channels behind those of the image.

    Parameters
    ----------
    prepared
        A scan as a network sees it.
    labels
        (slices, rows, columns) unsigned integers on the scan's own grid.
    numbers
        The labels that become channels, in this order.
    outlined
        Whether background outside the scan's filled outline is a label of its own (where the
        package crops to non-zero voxels).
    """
    inside = source_view(labels, prepared)
    resample = prepared.resample
    if not isinstance(resample, Resample):  # the grid is the scan's own: such a step resamples in no other way
        return replace(prepared, given=Given(inside, numbers))
    marked = inside.astype(np.int32)
    if outlined:
        paddings = [channel.padding for channel in prepared.channels]
        outline = filled(non_zero([channel.array for channel in prepared.channels], paddings))
        marked[(marked == 0) & ~outline] = _OUTSIDE
    kinds = replace(resample, interpolation="linear").kinds(prepared.oriented)
    found = resample_labels(marked, prepared.shape, kinds)
    return replace(prepared, given=Given(np.maximum(found, 0).astype(labels.dtype), numbers))


def resample_labels(labels: Labels, target: Shape, kinds: Kinds) -> Labels:
    """Labels on another grid of the same extent, as nnU-Net 2 resamples them.

    Parameters
    ----------
    labels
        (k, j, i) integers.
    target
        Shape of the new grid.
    kinds
        Of each axis: linear, or nearest for one that is interpolated separately.
    """
    slab = slab_axis(kinds)
    wanted = tuple(labels.shape[axis] if axis == slab else target[axis] for axis in range(3))
    sizes = enumerate(zip(labels.shape, wanted, strict=True))
    lines = {axis: _Line.of(old, new) for axis, (old, new) in sizes if old != new}
    out = np.empty(wanted, np.int32)
    depth = max(1, _SLAB_VOXELS // (wanted[1] * wanted[2]))
    for low in range(0, wanted[0], depth):
        out[low : low + depth] = _part(labels, lines, slice(low, min(wanted[0], low + depth)))
    if slab is not None and labels.shape[slab] != target[slab]:
        out = np.take(out, nearest(labels.shape[slab], target[slab], up=True), axis=slab)
    return out


@dataclass(frozen=True, eq=False)
class _Line:
    """One axis: the two neighbours of each new voxel, their weights, and the nearest one."""

    neighbours: tuple[NDArray[np.intp], NDArray[np.intp]]
    weights: tuple[NDArray[np.float64], NDArray[np.float64]]
    nearest: NDArray[np.intp]

    @classmethod
    def of(cls, old: int, new: int) -> _Line:
        at = np.clip(positions(old, new), 0, old - 1)
        low = np.floor(at).astype(np.intp)
        upper = at - low
        return cls((low, np.minimum(low + 1, old - 1)), (1 - upper, upper), nearest(old, new, up=True))

    def part(self, bounds: slice) -> _Line:
        """The voxels ``bounds`` of the new axis."""
        low, high = self.neighbours
        first, second = self.weights
        return _Line((low[bounds], high[bounds]), (first[bounds], second[bounds]), self.nearest[bounds])


def _part(labels: Labels, lines: Mapping[int, _Line], bounds: slice) -> Labels:
    """The slices ``bounds`` of the labels on the new grid."""
    if 0 not in lines:
        labels = labels[bounds]
    lines = {axis: line.part(bounds) if axis == 0 else line for axis, line in lines.items()}
    out = _taken(labels, {axis: line.nearest for axis, line in lines.items()})
    mixed = np.zeros(out.shape, np.bool_)
    for corner in _corners(len(lines)):
        sides = zip(lines.items(), corner, strict=True)
        mixed |= _taken(labels, {axis: line.neighbours[side] for (axis, line), side in sides}) != out
    places = np.nonzero(mixed)
    for start in range(0, len(places[0]), _MIXED_VOXELS):
        here = tuple(place[start : start + _MIXED_VOXELS] for place in places)
        out[here] = _decided(labels, lines, here, out[here])
    return out


def _corners(axes: int) -> Iterator[tuple[int, ...]]:
    return itertools.product((0, 1), repeat=axes)


def _taken(labels: Labels, indices: Indices) -> Labels:
    """The labels at the given places of each axis; all of an axis that is not named."""
    for axis, index in indices.items():
        labels = np.take(labels, index, axis=axis)
    return labels


def _decided(labels: Labels, lines: Mapping[int, _Line], here: tuple[NDArray[np.intp], ...], near: Labels) -> Labels:
    """Labels of single voxels whose neighbours differ.

    Parameters
    ----------
    here
        Three arrays (n,) of places on the new grid.
    near
        (n,) the nearest voxels' labels.
    """
    around, weights = [], []
    for corner in _corners(len(lines)):
        at, weight = list(here), np.ones(len(near))
        for (axis, line), side in zip(lines.items(), corner, strict=True):
            at[axis] = line.neighbours[side][here[axis]]
            weight = weight * line.weights[side][here[axis]]
        around.append(labels[tuple(at)])
        weights.append(weight)
    best, won, near_is_best = np.zeros(len(near)), np.zeros(len(near), np.int32), np.zeros(len(near), np.bool_)
    for label in np.unique(np.stack(around)):
        score = np.zeros(len(near))
        for found, weight in zip(around, weights, strict=True):
            score += np.where(found == label, weight, 0.0)
        better, level = score > best, (score == best) & (score > 0)
        near_is_best = np.where(better, near == label, near_is_best | (level & (near == label)))
        won[better], best = label, np.maximum(best, score)
    return np.where(near_is_best, near, won)
