"""Third stage of one scan: measure, and write everything or nothing."""

from __future__ import annotations

import datetime as dt
import secrets
import shutil
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hounsfield.findings import CodedConcept, Finding, Findings, Segment
from hounsfield.findings.maps import map_findings, quantity_findings
from hounsfield.findings.measuring import measure_segments
from hounsfield.findings.scoring import class_findings
from hounsfield.findings.terminology import DIAMETER, FINDING_COUNT, VOLUME
from hounsfield.packages import ModelPackage, Precision
from hounsfield.packages.manifest import Code, SegmentSpec
from hounsfield.reading import Series
from hounsfield.usecases.job import Choices, SeriesResult
from hounsfield.usecases.resident import peak_bytes
from hounsfield.version import __version__
from hounsfield.volume import Volume

if TYPE_CHECKING:
    pass
from hounsfield.usecases.stages import Labelled, Loaded


def write_stage(
    name: str, series: Series, loaded: Loaded, labelled: Labelled, package: ModelPackage, choices: Choices, output: Path
) -> SeriesResult:
    """Measure and write everything into ``output/name``, all of it or nothing."""
    from hounsfield.writing import Result, ResultUids

    began = time.perf_counter()
    run_uid = f"2.25.{uuid.uuid4().int}"
    segments = tuple(segment_of(spec) for spec in package.manifest.output.segments)
    if labelled.scores:
        findings = Findings((), class_findings(labelled.scores, run_uid), labelled.scores)
    elif labelled.maps or labelled.numbers:
        found = (*map_findings(labelled.maps, run_uid), *quantity_findings(labelled.numbers, run_uid))
        findings = Findings((), found, maps=labelled.maps)
    elif package.manifest.output.boxes:
        from hounsfield.usecases.detecting import detection_findings

        findings = Findings((), detection_findings(labelled.detected, package.manifest.output.boxes, run_uid))
    else:
        findings = measure_segments(labelled.labels, loaded.whole, segments, seed=run_uid)
    facts = _facts(package, loaded, labelled, choices, run_uid, began)
    result = Result(
        loaded.whole,
        labelled.labels,
        findings,
        facts,
        ResultUids.for_run(run_uid),
        labelled.record,
        labelled.explanations,
    )
    written = _write_all(result, output, name, choices)
    rows = _rows(findings, segments)
    figures = {
        **facts.figures,
        "write_seconds": round(time.perf_counter() - began, 3),
        "peak_resident_mib": round(peak_bytes() / 2**20, 1),
    }
    return SeriesResult(name, series.summary, "done", written, rows, result.warnings, figures)


def _located_row(finding: Finding) -> dict[str, Any]:
    """A located finding, how many there are of a kind, or a number (of a map its median)."""
    values = {one.concept: one.value for one in finding.measurements}
    if finding.centre_mm is None and FINDING_COUNT not in values:
        middle = finding.measurements[len(finding.measurements) // 2] if finding.measurements else None
        told = {"value": None, "unit": ""} if middle is None else {"value": middle.value, "unit": middle.unit.value}
        return {"label": finding.tracking_id, "point_mm": None, **told}
    point = None if finding.centre_mm is None else list(finding.centre_mm)
    if point is None:
        return {"label": finding.tracking_id, "count": round(values[FINDING_COUNT]), "point_mm": None}
    return {
        "label": finding.tracking_id,
        "probability": finding.score,
        "point_mm": point,
        "called": {},
        "diameter_mm": values[DIAMETER],
    }


def _rows(findings: Findings, segments: tuple[Segment, ...]) -> tuple[dict[str, Any], ...]:
    """One row per finding or class, for summaries."""
    if findings.class_scores:
        from hounsfield.usecases.classifying import score_rows

        return score_rows(findings.class_scores)
    if not segments:
        return tuple(_located_row(finding) for finding in findings.findings)
    return tuple(
        {
            "label": segments[finding.segment_number - 1].label,
            "component": finding.component,
            "volume_ml": next((m.value for m in finding.measurements if m.concept == VOLUME), 0.0),
            "tracking_uid": finding.tracking_uid,
        }
        for finding in findings.findings
        if finding.segment_number is not None
    )


def _write_all(result: Any, output: Path, name: str, choices: Choices) -> dict[str, Path]:
    from hounsfield.writing import (
        SegKind,
        why_not_dicom,
        write_captures,
        write_json,
        write_map,
        write_nifti,
        write_parametric_maps,
        write_picture,
        write_report,
        write_seg,
        write_sr,
    )

    partial = output / f".partial-{name}-{secrets.token_hex(4)}"
    partial.mkdir(parents=True)
    try:
        files = {}
        if not result.has_segments:
            if why_not_dicom(result.volume, located=False) is None:
                files["sr"] = write_sr(result, partial / "sr.dcm").path
        elif why_not_dicom(result.volume) is None:
            kinds = (SegKind.BINARY, SegKind.LABELMAP) if choices.seg == "both" else (SegKind.BINARY,)
            segs = {f"seg-{kind.value.lower()}" if len(kinds) > 1 else "seg": kind for kind in kinds}
            stored = {key: write_seg(result, partial / f"{key}.dcm", kind=kind) for key, kind in segs.items()}
            files.update({key: one.path for key, one in stored.items()})
            files["sr"] = write_sr(result, partial / "sr.dcm", seg=next(iter(stored.values()))).path
        if choices.captures and why_not_dicom(result.volume, located=False) is None:
            captures = write_captures(result, partial)
            files.update({one.path.stem: one.path for one in captures})
        if result.has_segments:
            files["nifti"] = write_nifti(result, partial / "labels.nii.gz").path
        for number, one in enumerate(result.findings.maps, start=1):
            files[f"map-{number}"] = write_map(result, one, partial / f"map-{number}.nii.gz").path
        if result.findings.maps and why_not_dicom(result.volume) is None and result.volume.geometry.is_orthonormal:
            files.update({one.path.stem: one.path for one in write_parametric_maps(result, partial)})
        for number, one in enumerate(result.explanations, start=1):
            files[f"explanation-{number}"] = write_map(result, one, partial / f"explanation-{number}.nii.gz").path
            files[f"picture-{number}"] = write_picture(result, one, partial / f"explanation-{number}.png").path
        files["json"] = write_json(result, partial / "result.json").path
        files["report"] = write_report(result, partial / "report.html").path
        final = output / name
        partial.rename(final)
        return {kind: final / path.name for kind, path in files.items()}
    except OSError as error:
        from hounsfield.errors import OutputError

        fact = f"the results cannot be written ({error.strerror or error})"
        raise OutputError(fact, "free some space or choose another folder", output) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _facts(
    package: ModelPackage, loaded: Loaded, labelled: Labelled, choices: Choices, run_uid: str, began: float
) -> Any:
    from hounsfield.writing import ResultFacts

    manifest = package.manifest
    finished = dt.datetime.now().astimezone()
    spent = loaded.seconds + labelled.figures["infer_seconds"]
    figures = {"read_seconds": round(loaded.seconds, 3), **labelled.figures}
    figures["peak_resident_mib"] = round(peak_bytes() / 2**20, 1)
    if "host_peak_bytes" in labelled.plan:
        figures["predicted_peak_mib"] = round(labelled.plan["host_peak_bytes"] / 2**20, 1)
        if labelled.plan["device_peak_bytes"]:
            figures["predicted_device_peak_mib"] = round(labelled.plan["device_peak_bytes"] / 2**20, 1)
    return ResultFacts(
        package_id=manifest.id,
        package_version=manifest.version,
        package_title=manifest.title,
        package_digest=package.digest,
        precision=labelled.precision,
        engine=labelled.engine,
        software_version=__version__,
        run_uid=run_uid,
        started=finished - dt.timedelta(seconds=spent),
        finished=finished,
        plan=labelled.plan,
        figures=figures,
        warnings=(*_no_dicom(loaded.whole, package), *loaded.warnings, *labelled.warnings),
        limits=card_limits(package.card()),
        intended_use=" ".join(manifest.intended_use.split()),
        attribution=manifest.licence.attribution,
        lacks=package.why_unproven(cast(Precision, labelled.precision)),
    )


def _no_dicom(volume: Volume, package: ModelPackage) -> tuple[str, ...]:
    from hounsfield.writing import why_not_dicom

    located = bool(package.manifest.output.segments)
    reason = why_not_dicom(volume, located=located)
    what = "DICOM SEG and SR were" if located else "DICOM SR was"
    return () if reason is None else (f"no {what} written: {reason}",)


def card_limits(card: str) -> tuple[str, ...]:
    """The bullet points under the heading ``## Limits`` of a model card, as plain text."""
    inside, points = False, []
    for line in card.splitlines():
        if line.startswith("## "):
            inside = line[3:].strip().lower() == "limits"
        elif inside and line.startswith("- "):
            points.append(line[2:].strip())
        elif inside and points and line.startswith("  "):
            points[-1] += " " + line.strip()
    return tuple(points)


def segment_of(spec: SegmentSpec) -> Segment:
    return Segment(
        number=spec.number,
        label=spec.label,
        category=_concept(spec.category),
        type=_concept(spec.type),
        type_modifier=None if spec.modifier is None else _concept(spec.modifier),
        lesion=spec.lesion,
        colour_rgb=spec.colour_rgb,
    )


def _concept(code: Code) -> CodedConcept:
    return CodedConcept(code.value, code.scheme, code.meaning)
