"""Which parts of a scan are read: all of it, or the surroundings of every marked point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hounsfield.errors import PackageInvalid, SettingsError
from hounsfield.packages import ModelPackage
from hounsfield.preparing.region import Region, region_around
from hounsfield.usecases.job import Choices
from hounsfield.volume import Geometry, LabelMap, Volume, parse_orientation

Triple = tuple[float, float, float]
_MARGIN_VOXELS = 3


@dataclass(frozen=True, eq=False)
class Spot:
    """A part of a scan, the box that it is, and the LPS point it lies around (both ``None`` for the whole)."""

    part: Volume
    region: Region | None = None
    point_mm: Triple | None = None

    def __str__(self) -> str:
        return "the whole scan" if self.point_mm is None else f"({', '.join(f'{v:g}' for v in self.point_mm)}) mm"


def demand_points(package: ModelPackage, choices: Choices) -> None:
    """Raise SettingsError where the package reads the surroundings of a point and none was given."""
    if package.manifest.input.point is not None and not choices.at:
        raise SettingsError(
            f"{package.reference} reads the surroundings of a point, and none was given",
            "give it with --at X,Y,Z (LPS mm), --at index:K,J,I or --at FILE (JSON, DICOM SR or GSPS)",
        )
    if choices.mode == "whole" and not package.manifest.output.segments:
        raise SettingsError(f"{package.reference} answers no voxels, so --whole has no meaning", "leave --whole out")
    if choices.mode == "whole" and package.manifest.steps:
        raise SettingsError(
            f"{package.reference} is a package of steps, for which there is no pass over the whole volume",
            "leave --whole out",
        )
    if choices.at and package.manifest.input.fit:
        raise SettingsError(
            f"{package.reference} reads whole images, not the surroundings of a point", "leave --at out"
        )


def spots_of(whole: Volume, package: ModelPackage, choices: Choices) -> tuple[Spot, ...]:
    """The parts to read, in the order of the points.

    Raises
    ------
    InputError
        If a point lies outside the scan, or belongs to another one.
    """
    if not choices.at:
        return (Spot(whole),)
    points = [place.resolve(whole.geometry, whole.provenance.frames) for place in choices.at]
    spots = []
    for point in dict.fromkeys(points):
        region = region_around(whole.geometry, point, region_mm(package))
        spots.append(Spot(region.of(whole), region, point))
    return tuple(spots)


def largest_region(geometry: Geometry, package: ModelPackage, choices: Choices) -> Geometry:
    """The grid of the largest part that will be read, before any voxel is; the scan's own without points."""
    if not choices.at:
        return geometry
    boxes = []
    for place in choices.at:
        point = geometry.centre_mm if place.sop_instance_uid else place.resolve(geometry)
        boxes.append(region_around(geometry, point, region_mm(package)).box)
    k, j, i = (max(part.stop - part.start for part in axis) for axis in zip(*boxes, strict=True))
    return geometry.cropped((0, 0, 0), (k, j, i))


def region_mm(package: ModelPackage) -> Triple:
    """Size (x, y, z) mm of what a model reads around a point: as the manifest says, by default one window.

    A package that answers for one window gets some voxels more, so that the window is full.
    """
    spec, output = package.manifest.input, package.manifest.output
    given = None if spec.point is None else spec.point.size_mm
    margin = _MARGIN_VOXELS if output.classes or output.quantities else 0
    if given is None and (spec.spacing_mm is None or 0 in spec.spacing_mm):
        raise PackageInvalid(f"{package.reference} has no spacing, so a point gives no region", "leave --at out")
    if given is None or (margin and spec.spacing_mm is not None):
        spacing = spec.spacing_mm or (0.0, 0.0, 0.0)
        window = [(n + margin) * s for n, s in zip(spec.window.shape, spacing, strict=True)]
        given = (window[0], window[1], window[2])
    size = [0.0, 0.0, 0.0]
    for (axis, _), length in zip(parse_orientation(spec.orientation), given, strict=True):
        size[axis] = length
    return (size[0], size[1], size[2])


def joined(spots: tuple[Spot, ...], labels: list[LabelMap], whole: Geometry) -> LabelMap:
    """The labels of every part on the whole scan's grid; where parts overlap the higher label stays."""
    if spots[0].region is None:
        return labels[0]
    array = np.zeros(whole.shape, labels[0].array.dtype)
    for spot, one in zip(spots, labels, strict=True):
        if spot.region is not None:
            np.maximum(array[spot.region.box], one.array, out=array[spot.region.box])
    return LabelMap(array, whole)
