"""Key images: valid objects of the scan's own study, with the answer drawn in and no word of the patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import dcmread
from writing_phantoms import dciodvfy, result_for

from hounsfield.writing import write_captures


def test_captures_are_valid_and_show_the_answer(tmp_path: Path) -> None:
    result = result_for(tmp_path)
    written = write_captures(result, tmp_path)
    found = [dcmread(one.path) for one in written]
    assert len(found) == 1 + len([one for one in result.findings.segments if (result.labels.array == one.number).any()])
    for one in written:
        assert dciodvfy(one.path) == []
    study = {one.StudyInstanceUID for one in found}
    assert study == {result.volume.provenance.study_instance_uid}
    assert len({one.SeriesInstanceUID for one in found}) == 1
    assert [one.InstanceNumber for one in found] == list(range(1, len(found) + 1))
    colours = {segment.colour_rgb for segment in result.findings.segments}
    for one in found[:-1]:
        flat = one.pixel_array.reshape(-1, 3).astype(int)
        assert any((np.abs(flat - colour).max(axis=1) < 40).any() for colour in colours)
    assert all("RESEARCH USE ONLY" in one.SeriesDescription for one in found)
    assert found[-1].pixel_array.any()


def test_writing_again_makes_the_same_bytes(tmp_path: Path) -> None:
    result = result_for(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = (write_captures(result, tmp_path / name) for name in ("a", "b"))
    assert [one.sha256 for one in first] == [one.sha256 for one in second]
    assert {one.sop_class_uid for one in first} <= {None, "1.2.840.10008.5.1.4.1.1.7"}


def test_an_empty_answer_gives_the_page_alone(tmp_path: Path) -> None:
    written = write_captures(result_for(tmp_path, empty=True), tmp_path)
    assert len(written) == 1
