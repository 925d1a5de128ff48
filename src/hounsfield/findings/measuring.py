"""From a label map to findings: volumes, diameters, intensities, places."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import GeometryRefused, PackageInvalid
from hounsfield.findings import terminology as terms
from hounsfield.findings.components import MAX_COMPONENTS, Box, Components, connected_components, segment_boxes
from hounsfield.findings.concept import CodedConcept
from hounsfield.findings.diameter import axial_diameters, longest_diameter_mm, outer_voxels
from hounsfield.findings.finding import Finding, Findings
from hounsfield.findings.measurement import Measurement
from hounsfield.findings.segment import Segment
from hounsfield.volume import Geometry, LabelMap, Volume

_ANATOMICAL: Final = ("123037004", "91723000")
_NAMESPACE: Final = uuid.UUID("6a0c7f4e-6f0b-5b52-9a0e-3f8f3a2b1d57")


@dataclass(frozen=True)
class _Scan:
    """What one call measures on, and how it names what it finds."""

    labels: LabelMap
    volume: Volume
    seed: str

    def tracking_uid(self, segment: int, component: int | None) -> str:
        place = "whole" if component is None else str(component)
        return derived_uid(self.seed, f"tracking/{segment}/{place}")


def derived_uid(seed: str, name: str) -> str:
    """The UID (PS3.5 B.2, ``2.25.`` + UUID) that ``name`` always gets under ``seed``."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, f'{seed}/{name}').int}"


def measure_segments(
    labels: LabelMap,
    volume: Volume,
    segments: Sequence[Segment],
    *,
    seed: str,
    max_components: int = MAX_COMPONENTS,
) -> Findings:
    """Measure every segment, and every connected component of lesion segments.

    Parameters
    ----------
    labels
        On the grid of ``volume``.
    volume
        The scan; voxels marked as padding and non-finite ones do not count for intensities.
    segments
        What the labels mean.
    seed
        Fixes the tracking UIDs: the same seed gives the same UIDs, so a repeated write or send
        never makes new ones. Use the run's UID.
    max_components
        Components of one lesion segment that are findings of their own; the smaller ones
        beyond are one finding together, with a warning.

    Returns
    -------
    Findings
        For each segment the whole first, then its components, largest first. Volumes count
        voxels; standard deviations are those of the population; for the conventions of
        diameters see ``hounsfield.findings.diameter``.

    Raises
    ------
    GeometryRefused
        If labels and volume do not share a grid.
    PackageInvalid
        If the map holds a label that no segment describes.
    """
    if not labels.geometry.is_close(volume.geometry):
        raise GeometryRefused("the labels do not lie on the grid of the scan", "restore them to the scan's own grid")
    highest = max((segment.number for segment in segments), default=0)
    present = int(labels.array.max(initial=0))
    boxes = segment_boxes(labels.array, max(highest, present))
    unknown = sorted(
        {n for n, box in enumerate(boxes, 1) if box is not None} - {segment.number for segment in segments}
    )
    if unknown:
        raise PackageInvalid(f"the label map holds {unknown}, which no segment describes", "describe every label")
    scan = _Scan(labels, volume, seed)
    findings: list[Finding] = []
    warnings: list[str] = []
    for segment in segments:
        made, noted = _measure_segment(scan, segment, boxes[segment.number - 1], max_components)
        findings += made
        warnings += noted
    return Findings(tuple(segments), tuple(findings), (), tuple(warnings))


def _measure_segment(
    scan: _Scan, segment: Segment, box: Box | None, max_components: int
) -> tuple[list[Finding], list[str]]:
    if box is None:
        nothing = Measurement(terms.VOLUME, 0.0, terms.MILLILITRE, terms.SUM_OF_VOXELS)
        return [_finding(scan, segment, None, (nothing,))], [f"{segment.label}: nothing was found"]
    warnings = []
    touching = any(part.start == 0 or part.stop == n for part, n in zip(box, scan.labels.array.shape, strict=True))
    if touching:
        warnings.append(f"{segment.label} touches the edge of the scan and may be incomplete")
    mask = scan.labels.array[box] == segment.number
    if not segment.lesion:
        return [_measured(scan, segment, None, mask, box)], warnings
    components = connected_components(scan.labels.array, segment.number, box)
    whole = _measured(scan, segment, None, mask, box, count=components.count)
    found = [whole, *_measure_components(scan, segment, components, max_components)]
    if components.count > max_components:
        rest = components.count - max_components
        warnings.append(f"{segment.label}: the {rest} smallest of {components.count} components are reported together")
    return found, warnings


def _measure_components(scan: _Scan, segment: Segment, components: Components, max_components: int) -> list[Finding]:
    kept = min(components.count, max_components)
    found = []
    for number, inner in enumerate(segment_boxes(components.array, kept), 1):
        if inner is not None:
            box = _nested(components.box, inner)
            found.append(_measured(scan, segment, number, components.array[inner] == number, box))
    if components.count > kept:
        found.append(_measured(scan, segment, 0, components.array > kept, components.box))
    return found


def _nested(outer: Box, inner: Box) -> Box:
    k, j, i = (slice(o.start + n.start, o.start + n.stop) for o, n in zip(outer, inner, strict=True))
    return k, j, i


def _measured(
    scan: _Scan,
    segment: Segment,
    component: int | None,
    mask: NDArray[np.bool_],
    box: Box,
    count: int | None = None,
) -> Finding:
    geometry = scan.labels.geometry.cropped(
        (box[0].start, box[1].start, box[2].start), (mask.shape[0], mask.shape[1], mask.shape[2])
    )
    volume_mm3 = int(mask.sum()) * geometry.voxel_volume_mm3
    measured = [Measurement(terms.VOLUME, volume_mm3 / 1000, terms.MILLILITRE, terms.SUM_OF_VOXELS)]
    outer = outer_voxels(mask)
    if count is not None:
        measured.append(Measurement(terms.COMPONENT_COUNT, float(count), terms.NO_UNITS))
    if component:
        measured.append(Measurement(terms.VOLUME, volume_mm3, terms.CUBIC_MILLIMETRE, terms.SUM_OF_VOXELS))
        measured += _diameters(mask, geometry, outer)
    measured += _intensities(scan.volume, mask, box)
    centre, corners = _place(mask, geometry, outer)
    return _finding(scan, segment, component, tuple(measured), centre, corners)


def _diameters(mask: NDArray[np.bool_], geometry: Geometry, outer: NDArray[np.intp]) -> list[Measurement]:
    """None for a single voxel: between centres it has no diameter."""
    longest = longest_diameter_mm(geometry.index_to_mm(outer))
    if longest == 0.0:
        return []
    result = [Measurement(terms.DIAMETER, longest, terms.MILLIMETRE, terms.FARTHEST_CENTRES)]
    axial = axial_diameters(mask, geometry)
    if axial is not None:
        result.append(Measurement(terms.LONG_AXIS, axial.long_mm, terms.MILLIMETRE, terms.FARTHEST_IN_SLICE))
        result.append(Measurement(terms.SHORT_AXIS, axial.short_mm, terms.MILLIMETRE, terms.ACROSS_LONG_AXIS))
    return result


def _intensities(volume: Volume, mask: NDArray[np.bool_], box: Box) -> list[Measurement]:
    """Mean, SD, minimum and maximum, slice by slice so that no copy of the box is made."""
    count, mean, squares, low, high = 0, 0.0, 0.0, np.inf, -np.inf
    for k, inside in enumerate(mask):
        place = (box[0].start + k, box[1], box[2])
        if volume.padding is not None:
            inside = inside & ~volume.padding[place]
        values = np.asarray(volume.array[place][inside], dtype=np.float64)
        values = values[np.isfinite(values)]
        if values.size == 0:
            continue
        shift, total = float(values.mean()) - mean, count + values.size
        squares += float(((values - values.mean()) ** 2).sum()) + shift**2 * count * values.size / total
        mean += shift * values.size / total
        count = total
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    if count == 0:
        return []
    concept, unit = terms.intensity_concepts(volume.quantity, volume.provenance.acquisition.modality)
    pairs = (
        (terms.MEAN, mean),
        (terms.STANDARD_DEVIATION, float(np.sqrt(squares / count))),
        (terms.MINIMUM, low),
        (terms.MAXIMUM, high),
    )
    return [Measurement(concept, value, unit, None, how) for how, value in pairs]


def _place(
    mask: NDArray[np.bool_], geometry: Geometry, outer: NDArray[np.intp]
) -> tuple[tuple[float, float, float], tuple[tuple[float, float, float], tuple[float, float, float]]]:
    """Centroid and LPS-aligned box (outer voxel faces), mm."""
    total = int(mask.sum())
    index = []
    for axis in range(3):
        others = tuple(n for n in range(3) if n != axis)
        index.append(float(np.arange(mask.shape[axis]) @ mask.sum(axis=others)) / total)
    x, y, z = geometry.index_to_mm(index).tolist()
    half = np.abs(geometry.affine[:3, :3]).sum(axis=1) / 2
    points = geometry.index_to_mm(outer)
    x0, y0, z0 = (points.min(axis=0) - half).tolist()
    x1, y1, z1 = (points.max(axis=0) + half).tolist()
    return (x, y, z), ((x0, y0, z0), (x1, y1, z1))


def _finding(
    scan: _Scan,
    segment: Segment,
    component: int | None,
    measurements: tuple[Measurement, ...],
    centre: tuple[float, float, float] | None = None,
    box: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None,
) -> Finding:
    name = {None: segment.label, 0: f"{segment.label}, smaller ones"}.get(component, f"{segment.label} {component}")
    return Finding(
        tracking_id=name,
        tracking_uid=scan.tracking_uid(segment.number, component),
        concept=segment.type,
        site=segment.type if _is_anatomical(segment.category) else None,
        laterality=segment.type_modifier if segment.type_modifier in terms.LATERALITIES else None,
        segment_number=segment.number,
        component=component,
        centre_mm=centre,
        box_mm=box,
        measurements=measurements,
    )


def _is_anatomical(category: CodedConcept) -> bool:
    return category.scheme == "SCT" and category.value in _ANATOMICAL
