"""Points that somebody marked, from DICOM: structured reports (SCOORD3D, SCOORD) and presentation states (GSPS).

Pixel coordinates of both have their origin in the outer corner of the first pixel (PS3.3 C.18.6.1.2
and C.10.5.1.2), so the centre of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hounsfield.errors import InputError, NotReadable
from hounsfield.volume import Place

if TYPE_CHECKING:
    from pydicom import Dataset

_MOST_BYTES: Final = 64 * 2**20
_MOST_DEPTH: Final = 64
_SR: Final = "1.2.840.10008.5.1.4.1.1.88."
_GSPS: Final = "1.2.840.10008.5.1.4.1.1.11.1"
_REMEDY: Final = "give a DICOM SR with SCOORD or SCOORD3D, a GSPS with point annotations, or JSON"


def read_marks(path: Path) -> tuple[Place, ...]:
    """Every marked point of a DICOM SR or GSPS, in the order of the document.

    A point, every point of a multipoint, and the middle of a circle, ellipse, polygon or closed line
    count as one mark each.

    Raises
    ------
    NotReadable
        If it is not a DICOM file, or is damaged.
    InputError
        If it is another kind of object, or marks nothing.
    """
    dataset = _read(path)
    uid = str(dataset.get("SOPClassUID", ""))
    try:
        if uid.startswith(_SR):
            places = tuple(_of_item(dataset, "", 0))
        elif uid == _GSPS:
            places = tuple(_of_state(dataset))
        else:
            raise InputError(f"it is neither a structured report nor a presentation state ({uid})", _REMEDY, path)
    except InputError as error:
        raise type(error)(error.fact, error.remedy, path) from error
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        fact = f"its marks do not follow the standard ({type(error).__name__})"
        raise NotReadable(fact, _REMEDY, path) from error
    if not places:
        raise InputError("no point is marked in it", _REMEDY, path)
    return places


def _read(path: Path) -> Dataset:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        if path.stat().st_size > _MOST_BYTES:
            raise NotReadable(f"it is larger than {_MOST_BYTES >> 20} MiB", _REMEDY, path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dcmread(path)
    except (OSError, InvalidDicomError, ValueError, EOFError, NotImplementedError, AttributeError) as error:
        raise NotReadable("it cannot be read as DICOM", _REMEDY, path) from error


def _of_item(item: Dataset, label: str, depth: int) -> Iterator[Place]:
    """The marks of an SR content item and of those below it; the nearest concept name is the label."""
    if depth > _MOST_DEPTH:
        raise InputError("its content is nested too deeply", _REMEDY)
    kind, names = str(item.get("ValueType", "")), item.get("ConceptNameCodeSequence") or ()
    if kind == "CONTAINER" or not label:
        label = next((str(name.get("CodeMeaning", "")) for name in names), label)
    if kind == "SCOORD3D":
        points = _points(item.GraphicData, 3)
        for x, y, z in _middles(str(item.GraphicType), points):
            yield Place(
                lps_mm=(x, y, z),
                frame_of_reference_uid=str(item.get("ReferencedFrameOfReferenceUID", "")) or None,
                label=label,
            )
    elif kind == "SCOORD":
        image = _image_below(item)
        for column, row in _middles(str(item.GraphicType), _points(item.GraphicData, 2)):
            yield _on_image(image, column, row, label)
    for child in item.get("ContentSequence") or ():
        yield from _of_item(child, label, depth + 1)


def _image_below(item: Dataset) -> Dataset:
    for child in item.get("ContentSequence") or ():
        if str(child.get("ValueType", "")) == "IMAGE":
            image: Dataset = child.ReferencedSOPSequence[0]
            return image
    raise InputError("a mark on an image does not say on which", _REMEDY)


def _of_state(dataset: Dataset) -> Iterator[Place]:
    for annotation in dataset.get("GraphicAnnotationSequence") or ():
        images = annotation.get("ReferencedImageSequence") or _all_images(dataset)
        label = str(annotation.get("GraphicLayer", ""))
        for graphic in annotation.get("GraphicObjectSequence") or ():
            if str(graphic.get("GraphicAnnotationUnits", "")) != "PIXEL":
                continue
            if len(images) != 1:
                raise InputError(f"a mark is on {len(images)} images at once, so its place is not known", _REMEDY)
            for column, row in _middles(str(graphic.GraphicType), _points(graphic.GraphicData, 2)):
                yield _on_image(images[0], column, row, label)


def _all_images(dataset: Dataset) -> list[Any]:
    series = dataset.get("ReferencedSeriesSequence") or ()
    return [image for one in series for image in one.get("ReferencedImageSequence") or ()]


def _on_image(image: Any, column: float, row: float, label: str) -> Place:
    frames = image.get("ReferencedFrameNumber")
    number = None
    if frames is not None and str(frames) != "":
        number = int(frames[0] if isinstance(frames, Sequence) and not isinstance(frames, str) else frames)
    return Place(
        sop_instance_uid=str(image.ReferencedSOPInstanceUID),
        frame_number=number,
        column=column - 0.5,
        row=row - 0.5,
        label=label,
    )


def _points(data: Any, width: int) -> list[tuple[float, ...]]:
    numbers = [float(value) for value in data]
    if not numbers or len(numbers) % width or not all(math.isfinite(value) for value in numbers):
        raise InputError("the coordinates of a mark are not complete", _REMEDY)
    return [tuple(numbers[n : n + width]) for n in range(0, len(numbers), width)]


def _middles(kind: str, points: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Points stay; a circle of a centre and a rim gives its centre; outlines the mean of their corners."""
    if kind in ("POINT", "MULTIPOINT"):
        return points
    if kind == "CIRCLE":
        return points[:1]
    corners = points[:-1] if len(points) > 1 and points[0] == points[-1] else points
    return [tuple(np.mean(corners, axis=0).tolist())]
