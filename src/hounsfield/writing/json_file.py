"""The result as plain JSON: for programs, without patient data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hounsfield.findings import ClassScore, CodedConcept, Finding, Segment
from hounsfield.findings.maps import ParameterMap
from hounsfield.volume import Geometry
from hounsfield.writing.facts import RESEARCH_USE, Result, RunFacts
from hounsfield.writing.files import Written, same, write_checked

FORMAT: Final = "hounsfield-findings"
FORMAT_VERSION: Final = 1


def write_json(result: Result, path: Path, *, overwrite: bool = False) -> Written:
    """Write findings, facts, geometry and provenance as JSON (UTF-8), read it back, compare.

    No names, ids, dates of the person, free-text descriptions or file paths go in; the
    DICOM UIDs of study, series and results do, so that the file can be joined to its scan.

    Raises
    ------
    OutputError, OutputExists, ReadBackFailed
        See ``hounsfield.writing.files``.
    """
    text = json.dumps(as_data(result), indent=1, ensure_ascii=False, allow_nan=False, default=_plain) + "\n"

    def check(temporary: Path) -> None:
        back = json.loads(temporary.read_text(encoding="utf-8"))
        same("the JSON", json.dumps(back, indent=1, ensure_ascii=False) + "\n" == text, path)
        same("the number of findings", len(back["findings"]) == len(result.findings.findings), path)

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    return write_checked(path, "json", write, check, overwrite=overwrite)


def as_data(result: Result) -> dict[str, Any]:
    """The content of the JSON file; units are in the names or beside the value."""
    facts = result.facts
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "notice": RESEARCH_USE,
        "empty": result.is_empty,
        "complete": facts.complete,
        "warnings": list(result.warnings),
        "segments": [_segment(segment) for segment in result.findings.segments],
        "findings": [_finding(finding) for finding in result.findings.findings],
        "class_scores": [class_score_data(score) for score in result.findings.class_scores],
        **({"record": {one.name: one.value for one in result.record}} if result.record else {}),
        "maps": [_map("map", number, one) for number, one in enumerate(result.findings.maps, start=1)],
        "explanations": [_map("explanation", number, one) for number, one in enumerate(result.explanations, start=1)],
        "package": package_data(facts),
        "run": {
            **run_data(facts),
            "started": facts.started.isoformat(),
            "plan": dict(facts.plan),
            "figures": dict(facts.figures),
        },
        "geometry": _geometry(result.labels.geometry),
        "source": _source(result),
        "result_uids": vars(result.uids),
    }


def package_data(facts: RunFacts) -> dict[str, str]:
    """The package as data for JSON."""
    return {
        "id": facts.package_id,
        "version": facts.package_version,
        "title": facts.package_title,
        "sha256": facts.package_digest,
        "attribution": facts.attribution,
    }


def run_data(facts: RunFacts) -> dict[str, Any]:
    """What ran and when it ended, as data for JSON."""
    return {
        "uid": facts.run_uid,
        "software": {"name": "hounsfield", "version": facts.software_version},
        "engine": facts.engine,
        "precision": facts.precision,
        "unproven": facts.unproven,
        "finished": facts.finished.isoformat(),
    }


def _code(concept: CodedConcept | None) -> dict[str, str] | None:
    return None if concept is None else vars(concept)


def class_score_data(score: ClassScore) -> dict[str, Any]:
    """A class score as data for JSON."""
    return {
        "label": score.label,
        "concept": _code(score.concept),
        "probability": score.probability,
        "threshold": score.threshold,
        "reported": score.reported,
        "operating_points": dict(score.operating_points),
        "called": {name: score.probability >= value for name, value in score.operating_points},
        "point_mm": None if score.centre_mm is None else list(score.centre_mm),
    }


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "number": segment.number,
        "label": segment.label,
        "category": _code(segment.category),
        "type": _code(segment.type),
        "modifier": _code(segment.type_modifier),
        "lesion": segment.lesion,
        "colour_rgb": list(segment.colour_rgb),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "tracking_id": finding.tracking_id,
        "tracking_uid": finding.tracking_uid,
        "segment_number": finding.segment_number,
        "component": finding.component,
        "concept": _code(finding.concept),
        "site": _code(finding.site),
        "laterality": _code(finding.laterality),
        "centre_lps_mm": None if finding.centre_mm is None else list(finding.centre_mm),
        "box_lps_mm": None if finding.box_mm is None else [list(corner) for corner in finding.box_mm],
        "score": finding.score,
        "called": dict(finding.called),
        "measurements": [
            {
                "concept": _code(one.concept),
                "derivation": _code(one.derivation),
                "method": _code(one.method),
                "value": one.value,
                "unit": one.unit.value,
            }
            for one in finding.measurements
        ],
    }


def _map(kind: str, number: int, one: ParameterMap) -> dict[str, Any]:
    """Which file holds what; the quartiles are among the findings."""
    return {
        "number": number,
        "file": f"{kind}-{number}.nii.gz",
        "label": one.label,
        "concept": _code(one.concept),
        "unit": one.unit.value,
        "voxels": one.voxels,
    }


def _geometry(geometry: Geometry) -> dict[str, Any]:
    return {
        "shape_kji": list(geometry.shape),
        "spacing_kji_mm": list(geometry.spacing_mm),
        "affine_kji_to_lps_mm": geometry.affine.tolist(),
        "orientation_ijk": geometry.orientation,
        "frame_of_reference_uid": geometry.frame_of_reference_uid,
    }


def _source(result: Result) -> dict[str, Any]:
    provenance = result.volume.provenance
    acquisition = provenance.acquisition
    return {
        "format": provenance.format,
        "study_instance_uid": provenance.study_instance_uid,
        "series_instance_uid": provenance.series_instance_uid,
        "instances": len({frame.sop_instance_uid for frame in provenance.frames}),
        "voxels_sha256": provenance.sha256,
        "quantity": str(result.volume.quantity),
        "modality": acquisition.modality,
        "manufacturer": acquisition.manufacturer,
        "manufacturer_model_name": acquisition.manufacturer_model_name,
        "slice_thickness_mm": acquisition.slice_thickness_mm,
        "repairs": list(provenance.repairs),
    }


def _plain(value: Any) -> Any:
    """Numpy scalars and arrays, tuples in mappings, as JSON knows them."""
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    raise TypeError(f"a {type(value).__name__} has no place in JSON")
