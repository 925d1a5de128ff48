"""SEG objects against independent readers: highdicom, pydicom by hand, dciodvfy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom.seg import segread
from pydicom.sr.codedict import codes
from writing_phantoms import LIVER, NODULE, SEGMENTS, dciodvfy, grid, labels_on, newest_dciodvfy, result_for, truth

from hounsfield.errors import OutputError, OutputExists, ReadBackFailed
from hounsfield.findings.measuring import measure_segments
from hounsfield.volume import Geometry, LabelMap, Volume, all_orientations
from hounsfield.writing import Correction, Result, SegKind, why_not_dicom, write_seg
from hounsfield.writing import seg as seg_module

# What dciodvfy of Debian 12 says of every Label Map Segmentation, a SOP class (2024) that it
# does not know: no rule of that IOD is checked, and item 0 (background) breaks a rule of the old one.
LABELMAP_UNKNOWN = {"SegmentNumber not monotonically increasing", "Information Object Not found"}

# Told that it is the old class, dciodvfy checks all else; these are the rules that a label map breaks by design.
LABELMAP_ONLY = {
    "SegmentNumber",
    "Unrecognized enumerated value = <LABELMAP>",
    "SegmentIdentificationSequence(0062,000a)> - Missing",
}


def package_labels(result: Result, seg: highdicom.seg.Segmentation, stored: np.ndarray) -> np.ndarray:
    """Stored segment numbers back to the package's, by label and type of each item."""
    table = np.zeros(256, np.uint8)
    by_type = {segment.type.value: segment.number for segment in result.findings.segments}
    for number in seg.segment_numbers:
        table[number] = by_type[seg.get_segment_description(number).segmented_property_type.value]
    return table[stored]


def assert_every_voxel_at_its_place(path: Path, result: Result) -> None:
    """Read with highdicom; the label at each voxel's mm must be the truth there, and none lost."""
    seg = segread(path)
    volume = seg.get_volume(combine_segments=True)
    found = package_labels(result, seg, volume.array)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in volume.spatial_shape), indexing="ij"), axis=-1)
    points = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    assert np.array_equal(found, truth(points))
    assert np.count_nonzero(found) == np.count_nonzero(result.labels.array) > 300


@pytest.mark.parametrize("code", all_orientations())
def test_every_voxel_in_all_48_orientations(tmp_path: Path, code: str) -> None:
    result = result_for(tmp_path, grid(code, (4.0, 1.6, 1.3)))
    kind = SegKind.LABELMAP if code[0] in "LAS" else SegKind.BINARY
    assert_every_voxel_at_its_place(write_seg(result, tmp_path / "seg.dcm", kind=kind).path, result)


@pytest.mark.parametrize("kind", list(SegKind))
@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("enhanced", [False, True])
def test_oblique_and_anisotropic(tmp_path: Path, kind: SegKind, modality: str, enhanced: bool) -> None:
    geometry = grid("PIR", (3.1, 0.9, 1.7), oblique=True)
    result = result_for(tmp_path, geometry, modality=modality, enhanced=enhanced)
    assert_every_voxel_at_its_place(write_seg(result, tmp_path / "seg.dcm", kind=kind).path, result)


@pytest.mark.parametrize("kind", list(SegKind))
@pytest.mark.parametrize("enhanced", [False, True])
def test_each_frame_references_the_source_frame_at_its_place(tmp_path: Path, kind: SegKind, enhanced: bool) -> None:
    result = result_for(tmp_path, grid("SPL"), enhanced=enhanced)
    ds = pydicom.dcmread(write_seg(result, tmp_path / "seg.dcm", kind=kind).path)
    stored = {frame.path: pydicom.dcmread(frame.path) for frame in result.volume.provenance.frames}
    by_uid = {str(source.SOPInstanceUID): source for source in stored.values()}
    for group in ds.PerFrameFunctionalGroupsSequence:
        (derivation,) = group.DerivationImageSequence
        (item,) = derivation.SourceImageSequence
        source = by_uid[item.ReferencedSOPInstanceUID]
        if enhanced:
            place = source.PerFrameFunctionalGroupsSequence[int(item.ReferencedFrameNumber) - 1].PlanePositionSequence[
                0
            ]
        else:
            assert "ReferencedFrameNumber" not in item
            place = source
        own = group.PlanePositionSequence[0].ImagePositionPatient
        assert [float(n) for n in own] == pytest.approx([float(n) for n in place.ImagePositionPatient], abs=1e-6)
        assert item.SpatialLocationsPreserved == "YES"
        assert derivation.DerivationCodeSequence[0].CodeValue == "113076"
    references = {i.ReferencedSOPInstanceUID for i in ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert references == set(by_uid)


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("empty", [False, True])
def test_dciodvfy_finds_no_error_in_binary(tmp_path: Path, enhanced: bool, oblique: bool, empty: bool) -> None:
    result = result_for(tmp_path, grid(oblique=oblique), enhanced=enhanced, empty=empty)
    path = write_seg(result, tmp_path / "seg.dcm").path
    assert dciodvfy(path) == []
    assert newest_dciodvfy(path) == []


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("empty", [False, True])
def test_the_newest_dciodvfy_finds_no_error_in_labelmap(
    tmp_path: Path, enhanced: bool, oblique: bool, empty: bool
) -> None:
    result = result_for(tmp_path, grid(oblique=oblique), enhanced=enhanced, empty=empty)
    assert newest_dciodvfy(write_seg(result, tmp_path / "seg.dcm", kind=SegKind.LABELMAP).path) == []


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("empty", [False, True])
def test_debian_s_dciodvfy_knows_no_labelmap_but_finds_nothing_else(
    tmp_path: Path, enhanced: bool, empty: bool
) -> None:
    path = write_seg(
        result_for(tmp_path, enhanced=enhanced, empty=empty), tmp_path / "seg.dcm", kind=SegKind.LABELMAP
    ).path
    errors = dciodvfy(path)
    assert len(errors) == 2
    assert all(any(known in error for known in LABELMAP_UNKNOWN) for error in errors)
    disguised = pydicom.dcmread(path)
    disguised.SOPClassUID = disguised.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    disguised.save_as(tmp_path / "as-old-class.dcm")
    remaining = dciodvfy(tmp_path / "as-old-class.dcm")
    assert [line for line in remaining if not any(known in line for known in LABELMAP_ONLY)] == []


def test_identity_is_inherited_and_results_are_marked(tmp_path: Path) -> None:
    result = result_for(tmp_path)
    ds = pydicom.dcmread(write_seg(result, tmp_path / "seg.dcm").path)
    source = pydicom.dcmread(result.volume.provenance.frames[0].path)
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientName", "PatientID", "PatientBirthDate"):
        assert ds[keyword].value == source[keyword].value
    for keyword in ("PatientSex", "AccessionNumber", "StudyDate", "StudyTime", "StudyID", "StudyDescription"):
        assert ds[keyword].value == source[keyword].value
    assert ds.SeriesInstanceUID == result.uids.seg_series_uid != source.SeriesInstanceUID
    assert ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID == result.uids.seg_binary_uid
    assert ds.ContentQualification == "RESEARCH"
    assert "RESEARCH USE ONLY" in ds.SeriesDescription
    assert "Research use only" in ds.ContentDescription
    purposes = [item.PurposeOfReferenceCodeSequence[0].CodeValue for item in ds.ContributingEquipmentSequence]
    ours = ds.ContributingEquipmentSequence[purposes.index("109102")]
    assert result.facts.package_digest in ours.ContributionDescription


def test_segments_say_what_they_are_and_which_algorithm_made_them(tmp_path: Path) -> None:
    result = result_for(tmp_path)
    seg = segread(write_seg(result, tmp_path / "seg.dcm").path)
    assert seg.segment_numbers == [1, 2, 3, 4, 5]
    labels = [seg.get_segment_description(n).segment_label for n in seg.segment_numbers]
    assert labels == ["Liver", "Left kidney", "Nodule 1", "Nodule 2", "Spleen"]
    liver = seg.get_segment_description(1)
    assert liver.segmented_property_category == codes.SCT.AnatomicalStructure
    assert liver.segmented_property_type == codes.SCT.Liver
    assert liver.algorithm_type.value == "AUTOMATIC"
    algorithm = liver.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("phantom-organs", "1.2.3")
    assert f"package_sha256={result.facts.package_digest}" in algorithm.AlgorithmParameters
    assert "precision=fp32" in algorithm.AlgorithmParameters
    assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"
    assert "RecommendedDisplayCIELabValue" in liver
    kidney = seg.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0]
    assert kidney.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    uids = {seg.get_segment_description(n).tracking_uid for n in seg.segment_numbers}
    known = {finding.tracking_uid for finding in result.findings.findings}
    assert len(uids) == 5
    assert uids <= known


@pytest.mark.parametrize("oblique", [False, True])
def test_corrected_labels_are_a_hand_s_with_every_voxel_at_its_place(tmp_path: Path, oblique: bool) -> None:
    made = result_for(tmp_path, grid(oblique=oblique))
    result = replace(made, correction=Correction("rita", 2, 31.5))
    path = write_seg(result, tmp_path / "seg.dcm").path
    assert dciodvfy(path) == newest_dciodvfy(path) == []
    assert_every_voxel_at_its_place(path, result)
    ds = pydicom.dcmread(path)
    assert {item.SegmentAlgorithmType for item in ds.SegmentSequence} == {"MANUAL"}
    assert not any("SegmentAlgorithmName" in item for item in ds.SegmentSequence)
    assert str(ds.ContentCreatorName) == "rita"
    (ours,) = [item for item in ds.ContributingEquipmentSequence if item.ManufacturerModelName == "hounsfield"]
    assert "version 2, drawn by rita in 32 s" in ours.ContributionDescription
    assert result.facts.package_digest in ours.ContributionDescription


def test_empty_segment_keeps_its_item_and_stores_no_frame(tmp_path: Path) -> None:
    result = result_for(tmp_path)
    ds = pydicom.dcmread(write_seg(result, tmp_path / "seg.dcm").path)
    assert ds.SegmentSequence[4].SegmentLabel == "Spleen"
    stored = [g.SegmentIdentificationSequence[0].ReferencedSegmentNumber for g in ds.PerFrameFunctionalGroupsSequence]
    assert set(stored) == {1, 2, 3, 4}
    assert ds.pixel_array.any(axis=(1, 2)).all(), "no stored frame is empty"


@pytest.mark.parametrize("kind", list(SegKind))
def test_nothing_found_is_one_empty_frame_and_said(tmp_path: Path, kind: SegKind) -> None:
    result = result_for(tmp_path, empty=True)
    ds = pydicom.dcmread(write_seg(result, tmp_path / "seg.dcm", kind=kind).path)
    assert int(ds.NumberOfFrames) == 1
    assert not ds.pixel_array.any()
    assert "Nothing was found" in ds.ContentDescription
    assert len([item for item in ds.SegmentSequence if item.SegmentNumber > 0]) == len(SEGMENTS)


def test_writing_again_makes_the_same_bytes(tmp_path: Path) -> None:
    result = result_for(tmp_path)
    first = write_seg(result, tmp_path / "a.dcm")
    second = write_seg(result, tmp_path / "b.dcm")
    assert first.sha256 == second.sha256
    assert first.sop_instance_uid == second.sop_instance_uid == result.uids.seg_binary_uid


def test_repaired_scan_is_stored_on_its_own_grid(tmp_path: Path) -> None:
    """After resampling across slices no frame matches a source frame; the series is referenced."""
    result = result_for(tmp_path)
    old = result.volume.geometry
    geometry = old.resampled((1.5, 1.6, 1.3))
    labels = labels_on(geometry)
    provenance = replace(result.volume.provenance, frames=()).with_repair("uneven slices were resampled")
    volume = Volume(np.zeros(geometry.shape, np.int16), geometry, provenance=provenance)
    repaired = replace(
        result, volume=volume, labels=labels, findings=measure_segments(labels, volume, SEGMENTS, seed="1.2")
    )
    path = write_seg(repaired, tmp_path / "seg.dcm").path
    assert_every_voxel_at_its_place(path, repaired)
    ds = pydicom.dcmread(path)
    (derivation,) = ds.SharedFunctionalGroupsSequence[0].DerivationImageSequence
    assert {item.SpatialLocationsPreserved for item in derivation.SourceImageSequence} == {"NO"}
    assert len(derivation.SourceImageSequence) == old.shape[0]
    assert ds.ReferencedSeriesSequence[0].SeriesInstanceUID == provenance.series_instance_uid
    assert dciodvfy(path) == []


def test_more_than_255_lesions_survive(tmp_path: Path) -> None:
    result = result_for(tmp_path)
    segments = (LIVER, replace(NODULE, number=2))
    array = np.zeros(result.labels.array.shape, np.uint8)
    array[::3, ::3, ::3] = 2
    labels = LabelMap(array, result.labels.geometry)
    findings = measure_segments(labels, result.volume, segments, seed="1", max_components=300)
    many = replace(result, labels=labels, findings=findings)
    seg = segread(write_seg(many, tmp_path / "seg.dcm", kind=SegKind.LABELMAP).path)
    assert len(seg.segment_numbers) == 302
    assert seg.BitsAllocated == 16
    assert np.count_nonzero(seg.pixel_array) == np.count_nonzero(array)


@pytest.mark.parametrize("fact", ["format", "study", "frame of reference"])
def test_scan_without_dicom_identity_is_refused_clearly(tmp_path: Path, fact: str) -> None:
    result = result_for(tmp_path)
    volume = result.volume
    if fact == "frame of reference":
        geometry = Geometry(volume.shape, volume.geometry.affine, None)
        volume, labels = replace(volume, geometry=geometry), LabelMap(result.labels.array, geometry)
        result = replace(result, labels=labels)
    else:
        change = {"format": "nifti"} if fact == "format" else {"study_instance_uid": None}
        volume = replace(volume, provenance=replace(volume.provenance, **change))
    assert why_not_dicom(volume)
    with pytest.raises(OutputError, match="write NIfTI, JSON and the report instead"):
        write_seg(replace(result, volume=volume), tmp_path / "seg.dcm")
    assert not (tmp_path / "seg.dcm").exists()


def test_scan_that_changed_during_the_run_is_noticed(tmp_path: Path) -> None:
    result = result_for(tmp_path)
    path = result.volume.provenance.frames[3].path
    ds = pydicom.dcmread(path)
    ds.StudyInstanceUID = "1.2.3.4"
    ds.save_as(path)
    with pytest.raises(OutputError, match="changed"):
        write_seg(result, tmp_path / "seg.dcm")
    path.unlink()
    with pytest.raises(OutputError, match="cannot be read again"):
        write_seg(result, tmp_path / "seg.dcm")


def test_sheared_grid_is_refused(tmp_path: Path) -> None:
    result = result_for(tmp_path)
    affine = result.labels.geometry.affine.copy()
    affine[1, 0] += 0.5
    geometry = Geometry(result.labels.geometry.shape, affine, result.labels.geometry.frame_of_reference_uid)
    with pytest.raises(OutputError, match="sheared"):
        write_seg(replace(result, labels=LabelMap(result.labels.array, geometry)), tmp_path / "seg.dcm")


def test_odd_but_common_source_headers_are_taken(tmp_path: Path) -> None:
    """No birth date, a wrong sex, a missing accession number, a date of eight zeros with dots."""
    result = result_for(tmp_path)
    for frame in result.volume.provenance.frames:
        ds = pydicom.dcmread(frame.path)
        del ds.AccessionNumber
        del ds.PatientBirthDate
        with pydicom.config.disable_value_validation():
            ds.PatientSex = "W"
            ds.StudyTime = "10:11"
        ds.save_as(frame.path)
    ds = pydicom.dcmread(write_seg(result, tmp_path / "seg.dcm").path)
    assert ds.PatientSex in ("", None)
    assert ds.PatientID == "PH-1"
    assert dciodvfy(tmp_path / "seg.dcm") == []


def test_existing_file_stays_unless_asked_by_name(tmp_path: Path) -> None:
    result = result_for(tmp_path)
    path = tmp_path / "seg.dcm"
    path.write_bytes(b"mine")
    with pytest.raises(OutputExists):
        write_seg(result, path)
    assert path.read_bytes() == b"mine"
    write_seg(result, path, overwrite=True)
    assert path.stat().st_size > 4


def test_one_wrong_voxel_is_caught_and_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = result_for(tmp_path)
    build = seg_module._build

    def spoiled(*arguments: object) -> object:
        ds = build(*arguments)  # type: ignore[arg-type]
        data = bytearray(ds.PixelData)
        data[len(data) // 2] ^= 4
        ds.PixelData = bytes(data)
        return ds

    monkeypatch.setattr(seg_module, "_build", spoiled)
    with pytest.raises(ReadBackFailed, match="segmentation"):
        write_seg(result, tmp_path / "seg.dcm")
    assert [p.name for p in tmp_path.iterdir()] == ["scan"]


def test_dciodvfy_complains_when_something_is_missing(tmp_path: Path) -> None:
    path = write_seg(result_for(tmp_path), tmp_path / "seg.dcm").path
    ds = pydicom.dcmread(path)
    del ds.ContentLabel
    ds.save_as(path)
    assert any("ContentLabel" in line for line in dciodvfy(path))
