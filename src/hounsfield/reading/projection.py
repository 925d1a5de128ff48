"""Single X-ray images (CR, DX, MG ...): a nominal grid, and numbers where bigger is brighter."""

from __future__ import annotations

import numpy as np

from hounsfield.reading.instances import Frame
from hounsfield.reading.series import Issue
from hounsfield.reading.stacking import LARGEST_SPACING_MM
from hounsfield.volume import Geometry


def projection_geometry(frame: Frame) -> tuple[Geometry, tuple[Issue, ...]]:
    """A one-slice grid with the pixel spacing of the image, and what is to be known about it.

    A projection has no place in the patient: origin and axes are nominal. PixelSpacing is
    preferred (calibrated to the patient); ImagerPixelSpacing is that at the detector, larger
    than in the patient (PS3.3 10.7).
    """
    issues = [Issue("projection", "note", "it is a projection: its position in the patient is nominal")]
    spacing = _usable(frame.floats("PixelSpacing", 2))
    if spacing is None:
        spacing = _usable(frame.floats("ImagerPixelSpacing", 2))
        if spacing is not None:
            issues.append(
                Issue("imager-spacing", "warn", "the pixel spacing is that at the detector, not in the patient")
            )
    if spacing is None:
        spacing = (1.0, 1.0)
        issues.append(Issue("no-spacing", "warn", "the pixel spacing is unknown; 1 mm is a stand-in"))
    stored = frame.instance.format
    if stored.photometric == "MONOCHROME1":
        issues.append(
            Issue("monochrome1", "note", "it is stored as MONOCHROME1; values are mirrored so that bigger is brighter")
        )
    shape = frame.get("PresentationLUTShape")
    if shape and (shape == "INVERSE") != (stored.photometric == "MONOCHROME1"):
        message = f"PresentationLUTShape {shape} contradicts {stored.photometric}, which is followed"
        issues.append(Issue("presentation", "warn", message))
    if frame.get("VOILUTSequence"):
        issues.append(Issue("voi-lut", "note", "its VOI LUT is for display and is not applied"))
    return Geometry.from_parts((1, stored.rows, stored.columns), (1.0, *spacing)), tuple(issues)


def _usable(spacing: tuple[float, ...] | None) -> tuple[float, float] | None:
    if spacing is None or not all(np.isfinite(s) and 0 < s < LARGEST_SPACING_MM for s in spacing):
        return None
    return spacing[0], spacing[1]
