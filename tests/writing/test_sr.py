"""SR objects: read with highdicom and by walking the content tree, validated with dciodvfy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from highdicom.sr import srread
from writing_phantoms import dciodvfy, grid, newest_dciodvfy, result_for

from hounsfield.errors import OutputError, OutputExists, ReadBackFailed
from hounsfield.findings import terminology as terms
from hounsfield.writing import Result, SegKind, Written, write_seg, write_sr
from hounsfield.writing import sr as sr_module


def both(tmp_path: Path, result: Result, kind: SegKind = SegKind.BINARY) -> tuple[Written, Written]:
    seg = write_seg(result, tmp_path / "seg.dcm", kind=kind)
    return seg, write_sr(result, tmp_path / "sr.dcm", seg=seg)


@dataclass(frozen=True)
class Case:
    """One phantom written once for the tests that only read."""

    result: Result
    seg: Written
    sr: Written


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("usual")
    result = result_for(folder, warnings=("the patient is older than the training set",), lacks="no evidence for fp32")
    return Case(result, *both(folder, result))


def walk(item: Any) -> Any:
    yield item
    for child in item.get("ContentSequence", ()):
        yield from walk(child)


def named(ds: Any, meaning: str) -> list[Any]:
    return [
        i for i in walk(ds) if "ConceptNameCodeSequence" in i and i.ConceptNameCodeSequence[0].CodeMeaning == meaning
    ]


@pytest.mark.parametrize(
    ("enhanced", "oblique", "empty"),
    [(False, False, False), (False, True, False), (True, False, False), (True, True, False), (False, False, True)],
)
def test_dciodvfy_finds_no_error(tmp_path: Path, enhanced: bool, oblique: bool, empty: bool) -> None:
    modality = "MR" if enhanced else "CT"
    result = result_for(tmp_path, grid(oblique=oblique), enhanced=enhanced, empty=empty, modality=modality)
    path = both(tmp_path, result)[1].path
    assert dciodvfy(path) == []
    assert newest_dciodvfy(path) == []


def test_sr_on_a_labelmap_breaks_only_the_rule_that_dciodvfy_applies_to_old_classes(tmp_path: Path) -> None:
    errors = dciodvfy(both(tmp_path, result_for(tmp_path), SegKind.LABELMAP)[1].path)
    assert len(errors) == 4, "one per referenced segment"
    assert all("not segmentation" in error and "ReferencedSegmentNumber" in error for error in errors)


def test_groups_carry_the_numbers_of_the_findings(usual: Case) -> None:
    result, seg, sr = usual.result, usual.seg, usual.sr
    document = srread(sr.path)
    assert document.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    groups = document.content.get_volumetric_roi_measurement_groups()
    by_uid = {str(group.tracking_uid): group for group in groups}
    stored = pydicom.dcmread(seg.path)
    by_number = {item.SegmentNumber: item for item in stored.SegmentSequence}
    assert len(groups) == 4
    for finding in result.findings.findings:
        if finding.tracking_uid not in by_uid:
            continue
        group = by_uid[finding.tracking_uid]
        segment = group.referenced_segment
        assert segment.referenced_sop_instance_uid == seg.sop_instance_uid
        item = by_number[int(segment.referenced_segment_numbers[0])]
        assert (item.TrackingUID, item.TrackingID) == (finding.tracking_uid, finding.tracking_id)
        values = [(m.name.value, m.unit.value, m.value) for m in group.get_measurements()]
        wanted = [(m.concept.value, m.unit.value, pytest.approx(m.value, rel=1e-7)) for m in finding.measurements]
        assert values == wanted
        assert group.finding_type.value == finding.concept.value


def test_source_series_site_and_laterality(usual: Case) -> None:
    result = usual.result
    document = srread(usual.sr.path)
    (kidney,) = [
        g for g in document.content.get_volumetric_roi_measurement_groups() if g.tracking_identifier == "Left kidney"
    ]
    (site,) = kidney.finding_sites
    assert site.value.value == "64033007"
    assert site.laterality.value == "7771000"
    assert kidney.finding_category.value == "91723000"
    series = kidney.referenced_segment.source_series_for_segmentation
    assert series.value == result.volume.provenance.series_instance_uid


def test_lesion_totals_and_absent_segments_have_groups_without_region(usual: Case) -> None:
    document = srread(usual.sr.path)
    groups = {g.tracking_identifier: g for g in document.content.get_image_measurement_groups()}
    assert set(groups) == {"Nodule", "Spleen"}
    volume = groups["Spleen"].get_measurements(name=sr_module.code(terms.VOLUME))[0]
    assert (volume.value, volume.unit.value) == (0.0, "ml")
    found = {(e.name.value, e.value.value) for e in groups["Spleen"].get_qualitative_evaluations()}
    assert ("121052", "272519000") in found
    absent = {e.value.value for e in groups["Nodule"].get_qualitative_evaluations()}
    assert "272519000" not in absent


@pytest.mark.parametrize("lacks", ["no gate for bf16", "an undecided gate for int8", "a failed gate for int8"])
def test_a_variant_without_a_passed_gate_says_so_in_seg_sr_and_warnings(tmp_path: Path, lacks: str) -> None:
    result = result_for(tmp_path, lacks=lacks)
    seg, sr = both(tmp_path, result)
    parameters = {item.TextValue for item in named(pydicom.dcmread(sr.path), "Algorithm Parameters")}
    assert f"evidence=in package, but {lacks}" in parameters
    told = pydicom.dcmread(seg.path, stop_before_pixels=True).SegmentSequence[0]
    assert f"in package, but {lacks}" in str(told.SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters)
    assert f"the package has {lacks}" in result.warnings
    assert (result_for(tmp_path).facts.unproven, result.facts.unproven) == (False, True)


def test_nothing_found_is_said_in_words_and_codes(tmp_path: Path) -> None:
    result = result_for(tmp_path, empty=True)
    ds = pydicom.dcmread(both(tmp_path, result)[1].path)
    text = [item.TextValue for item in named(ds, "Comment")]
    assert any("Nothing was found" in one for one in text)
    assert srread(tmp_path / "sr.dcm").content.get_volumetric_roi_measurement_groups() == []
    assert len(named(ds, "Measurement Group")) == 4


def test_document_says_device_algorithm_library_flags_and_warnings(usual: Case) -> None:
    result = usual.result
    ds = pydicom.dcmread(usual.sr.path)
    assert (ds.VerificationFlag, ds.CompletionFlag, ds.PreliminaryFlag) == ("UNVERIFIED", "COMPLETE", "PRELIMINARY")
    assert ds.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert result.uids.device_uid == named(ds, "Device Observer UID")[0].UID
    assert named(ds, "Device Observer Name")[0].TextValue == "phantom-organs 1.2.3"
    assert named(ds, "Procedure reported")[0].ConceptCodeSequence[0].CodingSchemeDesignator == "99HOUNSFIELD"
    parameters = {item.TextValue for item in named(ds, "Algorithm Parameters")}
    assert f"package_sha256={result.facts.package_digest}" in parameters
    assert {"precision=fp32", "evidence=none for this precision"} <= parameters
    assert {item.TextValue for item in named(ds, "Algorithm Version")} == {"1.2.3"}
    library = named(ds, "Image Library Group")[0]
    images = [i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in walk(library) if i.ValueType == "IMAGE"]
    assert images == [frame.sop_instance_uid for frame in result.volume.provenance.frames]
    assert named(library, "Modality")[0].ConceptCodeSequence[0].CodeValue == "CT"
    warnings = [item.TextValue for item in named(ds, "Warning")]
    assert warnings == list(result.warnings)
    assert len(warnings) == 3
    evidence = {
        i.ReferencedSOPInstanceUID
        for study in ds.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for i in series.ReferencedSOPSequence
    }
    assert set(images) | {result.uids.seg_binary_uid} == evidence
    assert "RESEARCH USE ONLY" in ds.SeriesDescription


@pytest.mark.parametrize("charset", ["ISO_IR 100", "", None, ["", "ISO 2022 IR 87"]])
def test_letters_of_source_and_result_survive_any_character_set(tmp_path: Path, charset: Any) -> None:
    result = result_for(tmp_path, warnings=("slices are 3 mm apart — thicker than 2 mm",))
    name = "Müller^Jörg" if charset == "ISO_IR 100" else "Mueller^Joerg"
    for frame in result.volume.provenance.frames:
        source = pydicom.dcmread(frame.path)
        source.decode()
        source.SpecificCharacterSet = charset
        if charset is None:
            del source.SpecificCharacterSet
        source.PatientName = name
        source.save_as(frame.path)
    for written in both(tmp_path, result):
        ds = pydicom.dcmread(written.path)
        assert str(ds.PatientName) == name
        assert dciodvfy(written.path) == []
    assert "slices are 3 mm apart — thicker than 2 mm" in [item.TextValue for item in named(ds, "Warning")]


def test_incomplete_work_is_a_partial_document(tmp_path: Path) -> None:
    ds = pydicom.dcmread(both(tmp_path, result_for(tmp_path, complete=False))[1].path)
    assert ds.CompletionFlag == "PARTIAL"


def test_coded_procedure_is_inherited(tmp_path: Path) -> None:
    result = result_for(tmp_path)
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "241541005", "SCT", "CT of abdomen"
    path = result.volume.provenance.frames[0].path
    source = pydicom.dcmread(path)
    source.ProcedureCodeSequence = [item]
    source.save_as(path)
    ds = pydicom.dcmread(both(tmp_path, result)[1].path)
    assert named(ds, "Procedure reported")[0].ConceptCodeSequence[0].CodeValue == "241541005"


def test_writing_again_makes_the_same_bytes(usual: Case, tmp_path: Path) -> None:
    result, seg, first = usual.result, usual.seg, usual.sr
    second = write_sr(result, tmp_path / "again.dcm", seg=seg)
    assert first.sha256 == second.sha256
    assert first.sop_instance_uid == second.sop_instance_uid == result.uids.sr_uid


def test_foreign_seg_and_existing_file_are_refused(usual: Case, tmp_path: Path) -> None:
    result, seg, sr = usual.result, usual.seg, usual.sr
    with pytest.raises(OutputExists):
        write_sr(result, sr.path, seg=seg)
    with pytest.raises(OutputError, match="not the SEG of the same result"):
        write_sr(result, tmp_path / "new.dcm", seg=replace(seg, sop_instance_uid="1.2.3"))


def test_a_wrong_number_is_caught_and_nothing_is_kept(
    usual: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, seg = usual.result, usual.seg
    monkeypatch.setattr(sr_module, "stored_value", lambda value: value * 1.01)
    with pytest.raises(ReadBackFailed, match="Volume of Liver"):
        write_sr(result, tmp_path / "sr.dcm", seg=seg)
    assert list(tmp_path.iterdir()) == []
