"""Slices in order along their normal, and whether they form a uniform volume.

Slices are sorted by ImagePositionPatient projected on row x column (PS3.3 C.7.6.2.1.1), never by
InstanceNumber. The affine's slice axis is the true one, from the first position to the last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.reading.instances import Frame
from hounsfield.reading.series import Issue
from hounsfield.volume import Geometry

FEWEST_SLICES: Final = 3
STEP_TOLERANCE: Final = 0.01  # of the slice spacing, for each step and for the tilt
POSITION_TOLERANCE: Final = 0.05  # of the slice spacing, for each slice's distance from its place
ABSOLUTE_TOLERANCE_MM: Final = 0.01
ORTHONORMAL_TOLERANCE: Final = 1e-3
LARGEST_SPACING_MM: Final = 100.0
LONGEST_BRIDGE: Final = 4.0  # median spacings that a repair may interpolate across
REPAIR: Final = "allow the repair, or fetch the series again from its source"


@dataclass(frozen=True, eq=False)
class Stack:
    """Frames of one volume in slice order.

    ``positions_mm`` is (slices, 3); ``geometry`` is ``None`` where there is no uniform volume.
    """

    frames: tuple[Frame, ...]
    positions_mm: NDArray[np.float64]
    geometry: Geometry | None
    issues: tuple[Issue, ...]


def frame_fault(frame: Frame) -> str | None:
    """Why a frame has no usable place in space, in plain words, or ``None``."""
    if frame.position is None or not np.isfinite(frame.position).all():
        return "its position (ImagePositionPatient) is missing or not three finite numbers"
    if frame.orientation is None or not np.isfinite(frame.orientation).all():
        return "its orientation (ImageOrientationPatient) is missing or not six finite numbers"
    if frame.spacing_mm is None or not all(0 < s < LARGEST_SPACING_MM for s in frame.spacing_mm):
        return f"its pixel spacing is missing or not between 0 and {LARGEST_SPACING_MM:.0f} mm"
    axes = np.reshape(frame.orientation, (2, 3))
    if np.abs(axes @ axes.T - np.eye(2)).max() > ORTHONORMAL_TOLERANCE:
        return "its orientation (ImageOrientationPatient) is not two unit vectors at right angles"
    return None


def normal_of(frame: Frame) -> NDArray[np.float64]:
    """(3,) unit vector row x column of a frame without fault."""
    axes = np.reshape(np.asarray(frame.orientation, dtype=np.float64), (2, 3))
    normal = np.cross(axes[0], axes[1])
    unit: NDArray[np.float64] = normal / np.linalg.norm(normal)
    return unit


def places(frames: Sequence[Frame]) -> NDArray[np.float64]:
    """(frames,) distance along the common normal, mm."""
    positions = np.asarray([frame.position for frame in frames], dtype=np.float64)
    along: NDArray[np.float64] = positions @ normal_of(frames[0])
    return along


def stack(frames: Sequence[Frame]) -> Stack:
    """Sort frames of one orientation and size, and judge them.

    Every frame must be without ``frame_fault``.
    """
    along = places(frames)
    order = sorted(range(len(frames)), key=lambda n: (along[n], frames[n].instance.path, frames[n].number or 0))
    ordered = tuple(frames[n] for n in order)
    positions = np.asarray([frame.position for frame in ordered], dtype=np.float64)
    issues = tuple(_judge(along[order], positions, normal_of(ordered[0])))
    stands = not any(issue.severity in ("repairable", "refuse") for issue in issues)
    geometry = _geometry(ordered, positions) if stands else None
    return Stack(ordered, positions, geometry, issues)


def _judge(along: NDArray[np.float64], positions: NDArray[np.float64], normal: NDArray[np.float64]) -> list[Issue]:
    """What is wrong with sorted slices, gravest first."""
    steps = np.diff(along)
    apart = steps > ABSOLUTE_TOLERANCE_MM
    distinct = int(apart.sum()) + 1
    if distinct == 1 and len(along) > 1:
        message = f"all {len(along)} slices lie at one position, so they are not a volume"
        return [Issue("not-a-volume", "refuse", message, "choose another series")]
    if distinct < FEWEST_SLICES:
        message = f"{distinct} slice{'s' if distinct > 1 else ''} cannot make a volume"
        return [Issue("too-few-slices", "refuse", message, f"give at least {FEWEST_SLICES} slices")]
    issues: list[Issue] = []
    if distinct < len(along):
        message = f"{len(along) - distinct} slices lie at the position of another"
        issues.append(Issue("duplicate", "repairable", message, "allow the repair, which drops equal copies"))
        keep = np.concatenate(([True], apart))
        along, positions = along[keep], positions[keep]
    issues += _uneven(along)
    issues += _oblique(along, positions, normal)
    return issues


def _uneven(along: NDArray[np.float64]) -> list[Issue]:
    """Gaps and uneven spacing of distinct sorted places."""
    steps = np.diff(along)
    usual = float(np.median(steps))
    tolerance = max(ABSOLUTE_TOLERANCE_MM, STEP_TOLERANCE * usual)
    even = along[0] + np.arange(len(along)) * (along[-1] - along[0]) / (len(along) - 1)
    if np.abs(steps - usual).max() <= tolerance:
        if np.abs(along - even).max() <= max(ABSOLUTE_TOLERANCE_MM, POSITION_TOLERANCE * usual):
            return []
        message = f"the slice spacing drifts from {steps.min():.3f} to {steps.max():.3f} mm"
        return [Issue("uneven-spacing", "repairable", message, REPAIR)]
    longest = float(steps.max())
    bridge = longest <= LONGEST_BRIDGE * usual + tolerance
    severity, remedy = ("repairable", REPAIR) if bridge else ("refuse", "fetch the whole series again from its source")
    multiples = np.rint(steps / usual)
    if np.abs(steps - multiples * usual).max() <= tolerance and multiples.min() >= 1:
        missing = int(multiples.sum()) - len(steps)
        where = float(along[int(np.argmax(steps))])
        plural = "slices are" if missing > 1 else "slice is"
        message = f"{missing} {plural} missing (spacing {usual:.3f} mm, a gap of {longest:.3f} mm after {where:.2f} mm)"
        return [Issue("gap", "repairable" if bridge else "refuse", message, remedy)]
    message = f"the slice spacing is uneven, from {steps.min():.3f} to {longest:.3f} mm"
    return [Issue("uneven-spacing", "repairable" if severity == "repairable" else "refuse", message, remedy)]


def _oblique(along: NDArray[np.float64], positions: NDArray[np.float64], normal: NDArray[np.float64]) -> list[Issue]:
    """Tilt (a common slant of the slice axis) and slices that are shifted out of line."""
    usual = float(np.median(np.diff(along)))
    whole = positions[-1] - positions[0]
    slant = float(np.linalg.norm(whole - (whole @ normal) * normal)) / float(along[-1] - along[0])
    share = (along - along[0]) / (along[-1] - along[0])
    residual = float(np.linalg.norm(positions - positions[0] - share[:, None] * whole, axis=1).max())
    if residual > max(ABSOLUTE_TOLERANCE_MM, POSITION_TOLERANCE * usual):
        message = f"the slices are shifted against each other by up to {residual:.2f} mm"
        return [Issue("shifted-slices", "repairable", message, REPAIR)]
    if slant * usual > max(ABSOLUTE_TOLERANCE_MM, STEP_TOLERANCE * usual):
        degrees = math.degrees(math.atan(slant))
        message = f"the slices are sheared by {degrees:.1f} degrees against their normal (gantry tilt)"
        return [Issue("gantry-tilt", "repairable", message, REPAIR)]
    return []


def _geometry(frames: Sequence[Frame], positions: NDArray[np.float64]) -> Geometry:
    """The grid of a uniform stack (PS3.3 equation C.7.6.2.1-1, index order k, j, i)."""
    first = frames[0]
    step = (positions[-1] - positions[0]) / (len(frames) - 1)
    return Geometry(
        (len(frames), first.instance.format.rows, first.instance.format.columns),
        plane_affine(first, positions[0], step),
        frame_of_reference(first),
    )


def plane_affine(frame: Frame, origin_mm: NDArray[np.float64], step_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4) affine of index (k, j, i, 1) with a slice step and the in-plane axes of a frame."""
    axes = np.reshape(np.asarray(frame.orientation, dtype=np.float64), (2, 3))
    axes = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    row_spacing, column_spacing = frame.spacing_mm or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3, 0] = step_mm
    affine[:3, 1] = axes[1] * row_spacing
    affine[:3, 2] = axes[0] * column_spacing
    affine[:3, 3] = origin_mm
    return affine


def frame_of_reference(frame: Frame) -> str | None:
    """FrameOfReferenceUID, or ``None``."""
    value = frame.get("FrameOfReferenceUID")
    return str(value) if value else None
