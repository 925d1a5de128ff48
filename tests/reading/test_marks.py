"""Points marked in structured reports and presentation states, made with highdicom and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from hounsfield.errors import InputError, NotReadable, SettingsError
from hounsfield.reading.marks import read_marks
from hounsfield.usecases.points import read_points
from hounsfield.volume import Geometry, Place, SourceFrame

FRAME = "2.25.77"


def save(dataset: pydicom.Dataset, path: Path, sop_class_uid: str) -> Path:
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop_class_uid
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "2.25.1"
    dataset.save_as(path, enforce_file_format=True)
    return path


def concept(meaning: str) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "111030", "DCM", meaning
    return item


def content(kind: str, meaning: str, *children: pydicom.Dataset) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.ValueType, item.ConceptNameCodeSequence = kind, [concept(meaning)]
    if children:
        item.ContentSequence = list(children)
    return item


def scoord3d(kind: str, *numbers: float) -> pydicom.Dataset:
    item = content("SCOORD3D", "Image Region")
    item.GraphicType, item.GraphicData, item.ReferencedFrameOfReferenceUID = kind, list(numbers), FRAME
    return item


def image(uid: str) -> pydicom.Dataset:
    item, reference = content("IMAGE", "Source"), pydicom.Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", uid
    item.ReferencedSOPSequence = [reference]
    return item


def scoord(kind: str, uid: str, *numbers: float) -> pydicom.Dataset:
    item = content("SCOORD", "Image Region", image(uid))
    item.GraphicType, item.GraphicData = kind, list(numbers)
    return item


def report(path: Path, *items: pydicom.Dataset) -> Path:
    return save(content("CONTAINER", "Nodules", *items), path, "1.2.840.10008.5.1.4.1.1.88.34")


def test_points_in_space_and_on_images_are_found_in_order(tmp_path: Path) -> None:
    inner = content("CONTAINER", "Measurement Group", scoord3d("POINT", 1.0, 2.0, 3.0))
    path = report(tmp_path / "sr.dcm", inner, scoord("POINT", "2.25.9", 10.5, 20.5))
    first, second = read_marks(path)
    assert first == Place(lps_mm=(1, 2, 3), frame_of_reference_uid=FRAME, label="Measurement Group")
    assert (second.sop_instance_uid, second.column, second.row) == ("2.25.9", 10.0, 20.0)


def test_outlines_give_their_middle(tmp_path: Path) -> None:
    square = scoord3d("POLYGON", 0, 0, 5, 10, 0, 5, 10, 10, 5, 0, 10, 5, 0, 0, 5)
    circle = scoord("CIRCLE", "2.25.9", 30.5, 40.5, 35.5, 40.5)
    first, second = read_marks(report(tmp_path / "sr.dcm", square, circle))
    assert first.lps_mm == (5.0, 5.0, 5.0)
    assert (second.column, second.row) == (30.0, 40.0)


def test_a_point_on_an_image_lies_on_its_slice() -> None:
    """The voxel centre of column 4, row 3 of the second slice, by the geometry's own rule."""
    geometry = Geometry.from_parts((3, 8, 9), (2.5, 0.7, 0.6), (-10.0, 20.0, 30.0))
    frames = tuple(SourceFrame("1.2", f"2.25.{n}", None, Path("x")) for n in range(3))
    point = Place(sop_instance_uid="2.25.1", column=4.0, row=3.0).resolve(geometry, frames)
    assert point == pytest.approx((-10 + 4 * 0.6, 20 + 3 * 0.7, 32.5))
    with pytest.raises(InputError, match="not of this series"):
        Place(sop_instance_uid="2.25.5").resolve(geometry, frames)


def test_a_point_of_another_frame_of_reference_is_refused() -> None:
    geometry = Geometry.from_parts((3, 8, 9), frame_of_reference_uid="2.25.1")
    with pytest.raises(InputError, match="another frame of reference"):
        Place(lps_mm=(1, 1, 1), frame_of_reference_uid="2.25.2").resolve(geometry)


def state(path: Path, units: str = "PIXEL", images: int = 1) -> Path:
    graphic, annotation, dataset = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    graphic.GraphicAnnotationUnits, graphic.GraphicType, graphic.GraphicData = units, "POINT", [7.5, 8.5]
    annotation.GraphicLayer, annotation.GraphicObjectSequence = "FINDINGS", [graphic]
    annotation.ReferencedImageSequence = []
    for n in range(images):
        one = pydicom.Dataset()
        one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"2.25.{n}"
        annotation.ReferencedImageSequence.append(one)
    dataset.GraphicAnnotationSequence = [annotation]
    return save(dataset, path, "1.2.840.10008.5.1.4.1.1.11.1")


def test_a_presentation_state_s_point_is_found(tmp_path: Path) -> None:
    (place,) = read_marks(state(tmp_path / "gsps.dcm"))
    assert (place.sop_instance_uid, place.column, place.row, place.label) == ("2.25.0", 7.0, 8.0, "FINDINGS")


def test_marks_that_say_no_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="on 2 images at once"):
        read_marks(state(tmp_path / "two.dcm", images=2))
    with pytest.raises(InputError, match="no point is marked"):
        read_marks(state(tmp_path / "display.dcm", units="DISPLAY"))
    with pytest.raises(InputError, match="does not say on which"):
        read_marks(report(tmp_path / "lost.dcm", _without_image()))
    with pytest.raises(InputError, match="neither a structured report nor"):
        read_marks(save(pydicom.Dataset(), tmp_path / "ct.dcm", "1.2.840.10008.5.1.4.1.1.2"))
    (tmp_path / "noise.dcm").write_bytes(np.random.default_rng(0).bytes(500))
    with pytest.raises(NotReadable):
        read_marks(tmp_path / "noise.dcm")


def _without_image() -> pydicom.Dataset:
    item = scoord("POINT", "2.25.9", 1, 2)
    del item.ContentSequence
    return item


def test_what_is_typed_is_understood(tmp_path: Path) -> None:
    (tmp_path / "points.json").write_text('{"points": [{"ras_mm": [1, 2, 3], "label": "a"}, {"index_kji": [4, 5, 6]}]}')
    places = read_points(["10,-20.5,3", "index:1,2,3", str(tmp_path / "points.json")])
    assert [place.lps_mm for place in places] == [(10, -20.5, 3), None, (-1, -2, 3), None]
    assert [place.index for place in places] == [None, (1, 2, 3), None, (4, 5, 6)]


@pytest.mark.parametrize("text", ["1,2", "a,b,c", "1,2,nan", "index:1,2", "kji:1,2,3", "nowhere.json"])
def test_what_is_no_point_is_refused_with_the_three_forms(text: str) -> None:
    with pytest.raises(SettingsError, match="neither a point nor a file"):
        read_points([text])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "has no list of points"),
        ('{"points": [{"lps": [1, 2, 3]}]}', "point 1 is not three numbers"),
        ('{"points": [{"lps_mm": [1, 2]}]}', "point 1 is not three numbers"),
        ('{"points": [', "not JSON"),
    ],
)
def test_a_file_of_points_with_a_mistake_names_it(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "points.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_points([str(tmp_path / "points.json")])
