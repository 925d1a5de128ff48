"""Maps of numbers as DICOM: the right number at the right millimetre, with its unit, for readers of others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom.pm import ParametricMap
from pydicom import dcmread
from writing_phantoms import dciodvfy, grid, result_for

from hounsfield.errors import OutputError
from hounsfield.findings import CodedConcept
from hounsfield.findings.maps import ParameterMap
from hounsfield.writing import write_parametric_maps
from hounsfield.writing.facts import Result
from hounsfield.writing.parametric_map import UNKNOWN

KTRANS = CodedConcept("126312", "DCM", "Ktrans")
PER_MINUTE = CodedConcept("/min", "UCUM", "/min")


def with_map(result: Result, unknown: bool = True) -> tuple[Result, ParameterMap]:
    """A map whose number says its voxel: no turn, mirror or shift of it looks the same."""
    shape = result.volume.geometry.shape
    array = (np.arange(np.prod(shape), dtype=np.float32) / 7).reshape(shape)
    if unknown:
        array[0, 1, 2] = np.nan
    made = ParameterMap("Ktrans", KTRANS, PER_MINUTE, array)
    return replace(result, findings=replace(result.findings, maps=(made,))), made


def by_place(path: Path) -> dict[tuple[float, ...], float]:
    """The numbers by LPS millimetres, by highdicom's own reading of the frames."""
    pixels = ParametricMap.from_dataset(dcmread(path), copy=False)
    volume = pixels.get_volume(apply_real_world_transform=True, dtype=np.float64)
    index = np.stack(np.meshgrid(*map(np.arange, volume.array.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    points = np.round(volume.map_indices_to_reference(index), 2) + 0.0
    return {tuple(point): value for point, value in zip(points.tolist(), volume.array.ravel().tolist(), strict=True)}


@pytest.mark.parametrize("code", ["LPS", "LPI", "RAS", "PIR", "SPL", "AIL"])
@pytest.mark.parametrize("oblique", [False, True])
def test_every_number_lies_where_the_scan_has_its_voxel(tmp_path: Path, code: str, oblique: bool) -> None:
    geometry = grid(code, oblique=oblique)
    result, made = with_map(result_for(tmp_path, geometry=geometry), unknown=False)
    (written,) = write_parametric_maps(result, tmp_path)
    assert dciodvfy(written.path) == []
    found = by_place(written.path)
    index = np.argwhere(np.isfinite(made.array))[:: max(1, made.array.size // 500)]
    for place, point in zip(index, np.round(geometry.index_to_mm(index), 2) + 0.0, strict=True):
        assert found[tuple(point.tolist())] == pytest.approx(float(made.array[tuple(place)]))


def test_what_is_not_known_is_padding_and_the_unit_is_said(tmp_path: Path) -> None:
    result, made = with_map(result_for(tmp_path))
    (written,) = write_parametric_maps(result, tmp_path)
    dataset: Any = dcmread(written.path)
    assert dataset.FloatPixelPaddingValue == pytest.approx(UNKNOWN)
    values = np.frombuffer(dataset.FloatPixelData, "<f4")
    assert (values == np.float32(UNKNOWN)).sum() == 1
    mapping = dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "/min"
    assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeValue == "126312"
    assert mapping.DoubleFloatRealWorldValueLastValueMapped == pytest.approx(float(np.nanmax(made.array)))
    assert "RESEARCH USE ONLY" in dataset.SeriesDescription
    assert dataset.StudyInstanceUID == result.volume.provenance.study_instance_uid
    sources = {frame.sop_instance_uid for frame in result.volume.provenance.frames}
    assert {item.ReferencedSOPInstanceUID for item in dataset.SourceImageSequence} == sources


def test_writing_again_makes_the_same_bytes(tmp_path: Path) -> None:
    result, _ = with_map(result_for(tmp_path))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (first,), (second,) = (write_parametric_maps(result, tmp_path / name) for name in ("a", "b"))
    assert first.sha256 == second.sha256


def test_several_maps_are_one_series_each_with_its_own_number(tmp_path: Path) -> None:
    result, made = with_map(result_for(tmp_path))
    twice = replace(made, label="ve", array=made.array * 2)
    both = replace(result, findings=replace(result.findings, maps=(made, twice)))
    found = [dcmread(one.path) for one in write_parametric_maps(both, tmp_path)]
    assert [one.InstanceNumber for one in found] == [1, 2]
    assert len({one.SeriesInstanceUID for one in found}) == 1
    assert len({one.SOPInstanceUID for one in found}) == 2


def test_a_map_of_which_nothing_is_known_is_still_valid(tmp_path: Path) -> None:
    result, made = with_map(result_for(tmp_path))
    empty = replace(made, array=np.full_like(made.array, np.nan))
    (written,) = write_parametric_maps(replace(result, findings=replace(result.findings, maps=(empty,))), tmp_path)
    assert dciodvfy(written.path) == []


def test_a_sheared_grid_is_refused(tmp_path: Path) -> None:
    result, _ = with_map(result_for(tmp_path))
    affine = result.volume.geometry.affine.copy()
    affine[:3, 0] += 0.3 * affine[:3, 1]
    sheared = replace(result.volume.geometry, affine=affine)
    tilted = replace(result, volume=replace(result.volume, geometry=sheared))
    with pytest.raises(OutputError, match="sheared"):
        write_parametric_maps(tilted, tmp_path)
    assert not (tmp_path / "pm-1.dcm").exists()
