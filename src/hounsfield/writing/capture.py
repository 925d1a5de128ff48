"""Key images as Secondary Capture (PS3.3 A.8): pictures with the answer drawn in, for viewers that know nothing else.

They are drawings for the eye: no grid, no numbers to measure. SEG and SR stay the answer.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.findings import Finding, Segment
from hounsfield.findings.measuring import derived_uid
from hounsfield.findings.terminology import VOLUME
from hounsfield.writing.dicom import common_arguments, contributing_equipment, finish, quiet_headers, save
from hounsfield.writing.facts import MANUFACTURER, RESEARCH_USE, Result
from hounsfield.writing.files import Written, same, write_checked
from hounsfield.writing.pictures import Plane, Stage, View, display_range, draw, richest_slice
from hounsfield.writing.source import SourceImages, read_source

_SERIES_NUMBER: Final = 9300
_MOST: Final = 8
_WIDTH, _LINE, _MARGIN = 768, 22, 12
_EXPLICIT: Final = "1.2.840.10008.1.2.1"


def write_captures(result: Result, folder: Path) -> tuple[Written, ...]:
    """One picture for each segment with a voxel, where it is largest, and one page with what was measured.

    Returns
    -------
    tuple of Written
        ``capture-1.dcm`` … in one series; the last is the page.

    Raises
    ------
    OutputError
        If the scan has no DICOM study to attach to.
    OutputExists, ReadBackFailed
        See ``hounsfield.writing.files``.
    """
    source = read_source(result.volume, located=False)
    pictures = [*(_segments(result) if result.has_segments else []), _page(result)]
    return tuple(
        _write(result, source, picture, number, folder / f"capture-{number}.dcm")
        for number, picture in enumerate(pictures, 1)
    )


def _segments(result: Result) -> list[NDArray[np.uint8]]:
    stage = Stage.of(result.volume, result.labels)
    start, stop = (0, 0, 0), stage.labels.shape
    window = display_range(stage, start, (stop[0], stop[1], stop[2]))
    found = []
    for segment in result.findings.segments[:_MOST]:
        index = richest_slice(stage, Plane.AXIAL, start, (stop[0], stop[1], stop[2]), segment.number)
        if index is not None:
            view = View(start, (stop[0], stop[1], stop[2]), window, {segment.number: segment.colour_rgb}, _WIDTH)
            found.append(
                _captioned(_composed(draw(stage, Plane.AXIAL, (index, 0, 0), view)), _caption(result, segment))
            )
    return found


def _composed(picture: Any) -> NDArray[np.uint8]:
    """Scan and labels in one (height, width, 3) picture, the sides lettered."""
    from PIL import Image, ImageDraw

    grey, overlay = (Image.open(io.BytesIO(png)) for png in (picture.grey_png, picture.overlay_png))
    whole = Image.alpha_composite(grey.convert("RGBA"), overlay).convert("RGB")
    drawn, (width, height) = ImageDraw.Draw(whole), whole.size
    places = ((4, height // 2), (width - 14, height // 2), (width // 2, 2), (width // 2, height - 14))
    for letter, place in zip(picture.letters, places, strict=True):
        drawn.text(place, letter, fill=(255, 255, 255))
    drawn.text((4, 2), f"{picture.plane.value} {picture.position}", fill=(255, 255, 255))
    return np.asarray(whole)


def _caption(result: Result, segment: Segment) -> list[str]:
    volumes = [_volume(one) for one in result.findings.findings if one.segment_number == segment.number]
    total = f"{sum(volumes):.2f} ml" if volumes else ""
    parts = f" in {len(volumes)} parts" if len(volumes) > 1 else ""
    return [f"{segment.label} {total}{parts}".strip(), *_signature(result)]


def _volume(finding: Finding) -> float:
    return next((one.value for one in finding.measurements if one.concept == VOLUME), 0.0)


def _signature(result: Result) -> list[str]:
    facts = result.facts
    return [RESEARCH_USE.upper(), f"{facts.package_id} {facts.package_version}, {facts.precision}"]


def _page(result: Result) -> NDArray[np.uint8]:
    """What was measured, as text on black."""
    lines = []
    for score in result.findings.class_scores:
        lines.append(f"{score.label or score.concept.meaning}: probability {score.probability:.3f}")
    for finding in result.findings.findings[: 4 * _MOST]:
        told = ", ".join(f"{one.concept.meaning} {one.value:.4g} {one.unit.value}" for one in finding.measurements[:3])
        lines.append(f"{finding.tracking_id}: {told}" if told else finding.tracking_id)
    left_out = len(result.findings.findings) - 4 * _MOST
    lines += [f"and {left_out} more, in the structured report"] if left_out > 0 else []
    lines += ["Nothing was found." for _ in range(not lines)]
    lines += [f"Note: {one}" for one in result.warnings[:_MOST]]
    return _captioned(np.zeros((1, _WIDTH, 3), np.uint8), [*_signature(result), "", *lines])


def _captioned(picture: NDArray[np.uint8], lines: list[str]) -> NDArray[np.uint8]:
    """A picture on a black sheet with lines of text below it."""
    from PIL import Image, ImageDraw

    wrapped = [line[start : start + 110] for line in lines for start in range(0, max(1, len(line)), 110)]
    height, width = picture.shape[0] + _LINE * len(wrapped) + 2 * _MARGIN, max(_WIDTH, picture.shape[1])
    sheet = Image.new("RGB", (width, height))
    sheet.paste(Image.fromarray(picture), ((width - picture.shape[1]) // 2, 0))
    drawn = ImageDraw.Draw(sheet)
    for number, line in enumerate(wrapped):
        place = (_MARGIN, picture.shape[0] + _MARGIN + _LINE * number)
        drawn.text(place, line.encode("latin-1", "replace").decode("latin-1"), fill=(255, 255, 255))
    return np.asarray(sheet)


def _write(result: Result, source: SourceImages, picture: NDArray[np.uint8], number: int, path: Path) -> Written:
    from highdicom.sc import SCImage

    run = result.facts.run_uid
    shared = common_arguments(result)
    with quiet_headers():
        found = SCImage.from_ref_dataset(
            source.first,
            picture,
            "RGB",
            8,
            "PATIENT",
            derived_uid(run, "capture/series"),
            _SERIES_NUMBER,
            derived_uid(run, f"capture/{number}"),
            number,
            MANUFACTURER,
            patient_orientation=("L", "P"),
            transfer_syntax_uid=_EXPLICIT,
            contributing_equipment=contributing_equipment(result),
            manufacturer_model_name=shared["manufacturer_model_name"],
            software_versions=shared["software_versions"],
            device_serial_number=shared["device_serial_number"],
            content_date=shared["content_date"],
            content_time=shared["content_time"],
            series_description=f"RESEARCH USE ONLY key images {result.facts.package_title}"[:64].rstrip(),
        )
        if "Laterality" not in found:
            found.Laterality = None
        found.DateOfSecondaryCapture = result.facts.finished.date()
        found.TimeOfSecondaryCapture = result.facts.finished.time()
        found.BurnedInAnnotation = "NO"  # nothing of the patient is drawn
        found.DerivationDescription = f"{RESEARCH_USE}. Drawn from {result.facts.package_id}"[:1024]
        finish(found, result)

    def check(temporary: Path) -> None:
        from pydicom import dcmread

        back = dcmread(temporary)
        same("the picture", np.array_equal(back.pixel_array, picture), path)
        same("the study", back.StudyInstanceUID == source.first.StudyInstanceUID, path)

    written = write_checked(path, "capture", save(found), check)
    return replace(written, sop_class_uid=str(found.SOPClassUID), sop_instance_uid=str(found.SOPInstanceUID))
