"""The road of one scan, in three stages: read and check, infer, write."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.metadata
import os
import re
import secrets
import shutil
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import DomainRefused, GeometryRefused
from hounsfield.findings import ClassScore, CodedConcept, Finding, Findings, Segment
from hounsfield.findings.measuring import measure_segments
from hounsfield.findings.scoring import class_findings
from hounsfield.findings.terminology import DIAMETER, FINDING_COUNT, VOLUME
from hounsfield.inference.clean_up import clean_up
from hounsfield.packages import ModelPackage, Precision
from hounsfield.packages.manifest import Code, SegmentSpec
from hounsfield.planning import Plan
from hounsfield.preparing import Prepared, check_domain, prepare
from hounsfield.preparing.domain import demand_domain
from hounsfield.reading import Series, load
from hounsfield.usecases.events import OnEvent, Progress
from hounsfield.usecases.job import Choices, SeriesResult
from hounsfield.usecases.resident import peak_bytes
from hounsfield.usecases.sessions import Sessions
from hounsfield.usecases.spots import Spot, joined, spots_of
from hounsfield.version import __version__
from hounsfield.volume import LabelMap, TimeSeries, Volume

if TYPE_CHECKING:
    from hounsfield.usecases.detecting import Detected


@dataclass(frozen=True)
class Loaded:
    """A scan that the package may read: the whole, and the parts that are read."""

    whole: Volume
    spots: tuple[Spot, ...]
    warnings: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Labelled:
    """Labels on the whole scan's grid or class scores, and what they took."""

    labels: LabelMap
    engine: str
    precision: str
    plan: Mapping[str, Any]
    figures: Mapping[str, Any]
    warnings: tuple[str, ...] = field(default=())
    scores: tuple[ClassScore, ...] = ()
    detected: tuple[Detected, ...] = ()


def result_name(series: Series) -> str:
    """A folder name for the results: a hash for DICOM, the file's own plain name and a hash else."""
    identity = "/".join(series.series_instance_uids) or "/".join(str(path) for path in series.files)
    key = hashlib.sha256(f"{identity}#{_stack(series)}".encode()).hexdigest()[:10]
    if series.format == "dicom" or not series.files:
        return f"series-{key}"
    stem = re.sub(r"(\.nii|\.seg)?\.[A-Za-z0-9]+$", "", series.files[0].name)
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', stem)[:40] or 'scan'}-{key[:6]}"


def _stack(series: Series) -> str:
    """What tells apart several volumes of one DICOM series: its grid."""
    if series.geometry is None:
        return series.kind.value
    return f"{series.geometry.shape}{series.geometry.affine.round(4).tolist()}"


def load_stage(series: Series, package: ModelPackage, choices: Choices, known: tuple[str, ...] = ()) -> Loaded:
    """Read the voxels and check the domain; ``known`` are warnings from before.

    Raises
    ------
    InputError, DomainRefused
        If the series cannot be read, or the package must not read it.
    """
    began = time.perf_counter()
    whole = load(series, repair=choices.repair)
    if isinstance(whole, TimeSeries):
        raise GeometryRefused(
            f"the series has {len(whole.times_s)} time points, the model reads one volume",
            "extract a time point, or choose another series",
            series.source,
        )
    return loaded_part(whole, package, choices, known, series.source, began)


def loaded_part(
    whole: Volume, package: ModelPackage, choices: Choices, known: tuple[str, ...], source: Path, began: float
) -> Loaded:
    """A scan in memory with the parts of it that are read, each within the package's domain."""
    spots = spots_of(whole, package, choices)
    warnings = list(known)
    for spot in spots:
        warnings += _within_domain(spot.part, package, choices, source)
        if spot.point_mm is not None:
            warnings.append(f"only the region around {spot} was read")
    return Loaded(whole, spots, tuple(dict.fromkeys(warnings)), time.perf_counter() - began)


def _within_domain(part: Volume, package: ModelPackage, choices: Choices, source: Path) -> tuple[str, ...]:
    """The warnings of the domain; a refusal names the scan, and the way out where a region would do."""
    domain = package.manifest.domain
    try:
        return demand_domain(check_domain(part, domain), package.reference)
    except DomainRefused as error:
        high = None if domain.extent_mm is None else domain.extent_mm.high
        too_large = high is not None and max(part.geometry.extent_mm) > high
        if too_large and not choices.at and package.manifest.input.spacing_mm is not None:
            remedy = "give the place to read with --at X,Y,Z (LPS mm), or choose another series or model"
            raise DomainRefused(error.fact, remedy, source) from error
        raise DomainRefused(error.fact, error.remedy, source) from error


def infer_stage(
    loaded: Loaded,
    package: ModelPackage,
    choices: Choices,
    sessions: Sessions,
    on_event: OnEvent,
    plan: Plan | None = None,
) -> Labelled:
    """Prepare, run the network as planned, restore, clean up."""
    before, began = time.process_time(), time.perf_counter()
    if package.manifest.output.classes:
        from hounsfield.usecases.classifying import classify

        network = classify(loaded, package, choices, sessions, on_event, plan)
    elif package.manifest.output.boxes:
        from hounsfield.usecases.detecting import detect

        network = detect(loaded, package, choices, sessions, on_event, plan)
    else:
        answers = [_labelled(spot, package, choices, sessions, on_event, plan) for spot in loaded.spots]
        network = _together(loaded, answers)
    busy, elapsed = time.process_time() - before, max(time.perf_counter() - began, 1e-9)
    voxels = sum(spot.part.array.size for spot in loaded.spots)
    figures = {
        "engine": network.engine,
        "precision": network.precision,
        **network.figures,
        "voxels_per_second": round(voxels / max(network.figures["infer_seconds"], 1e-9)),
        "cpu_utilisation": round(min(1.0, busy / elapsed / len(os.sched_getaffinity(0))), 4),
    }
    return replace(network, figures=figures, plan=_what_ran(package, network.plan, plan))


def _labelled(
    spot: Spot, package: ModelPackage, choices: Choices, sessions: Sessions, on_event: OnEvent, plan: Plan | None
) -> Labelled:
    """The labels of one part, cleaned up, on its own grid."""
    prepared = prepared_part(spot.part, package, plan)
    room = _label_room(spot.part, package) if plan is not None and plan.mapped else None
    if package.manifest.steps:
        from hounsfield.usecases.stepping import infer_steps

        network = infer_steps(prepared, package, choices, sessions, on_event, plan)
    else:
        network = (_whole if choices.mode == "whole" else _windows)(
            prepared, package, choices, sessions, on_event, plan, room
        )
    return replace(network, labels=clean_up(network.labels, package.manifest.output.clean_up, spot.point_mm))


def _together(loaded: Loaded, answers: list[Labelled]) -> Labelled:
    """The answers of all parts as one; times and windows add up, and a part without a label is told."""
    labels = joined(loaded.spots, [one.labels for one in answers], loaded.whole.geometry)
    counted = ("infer_seconds", "network_seconds", "windows", "windows_skipped")
    sums = {name: round(sum(one.figures[name] for one in answers), 3) for name in counted if name in answers[0].figures}
    empty = tuple(
        f"nothing was found around {spot}"
        for spot, one in zip(loaded.spots, answers, strict=True)
        if spot.point_mm is not None and not one.labels.array.any()
    )
    first = answers[0]
    figures = {**first.figures, **(sums if len(answers) > 1 else {})}
    return replace(first, labels=labels, figures=figures, warnings=(*first.warnings, *empty))


def prepared_part(part: Volume, package: ModelPackage, plan: Plan | None) -> Prepared:
    """A part of the scan as the network sees it, on disk where the plan says so."""
    if plan is not None and plan.mapped:
        return prepare(part, package.manifest.input, store_in=Path(tempfile.gettempdir()))
    return prepare(part, package.manifest.input)


def _label_room(part: Volume, package: ModelPackage) -> NDArray[Any]:
    """Labels in an unlinked temporary file instead of memory."""
    dtype = np.uint8 if package.manifest.output.channels <= 256 else np.uint16
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, "w+", shape=part.shape)


def _windows(
    prepared: Prepared,
    package: ModelPackage,
    choices: Choices,
    sessions: Sessions,
    on_event: OnEvent,
    plan: Plan | None,
    room: NDArray[Any] | None,
) -> Labelled:
    from hounsfield.inference import RunSettings, decision, segment

    manifest = package.manifest
    opened = sessions.open(package, choices, plan)
    settings = RunSettings() if plan is None else RunSettings(plan.batch, plan.accumulator, plan.head_block)
    answer = segment(
        prepared,
        opened.session,
        manifest.input.window,
        decision(manifest.output, opened.classes),
        head=opened.head,
        settings=settings,
        out=room,
        on_progress=lambda done, total: on_event(Progress("windows", done, total)),
    )
    total = answer.seconds["total"]
    figures = {
        "infer_seconds": round(total, 3),
        "network_seconds": round(answer.seconds["network"], 3),
        "windows": answer.windows,
        "windows_skipped": answer.skipped,
        "windows_per_second": round(answer.windows / max(total, 1e-9), 2),
    }
    facts = opened.session.facts()
    engine = f"{facts['engine']} {facts['version']}"
    return Labelled(answer.labels, engine, opened.session.precision, facts, figures)


def _whole(
    prepared: Prepared,
    package: ModelPackage,
    choices: Choices,
    sessions: Sessions,
    on_event: OnEvent,
    plan: Plan | None,
    room: NDArray[Any] | None,
) -> Labelled:
    from hounsfield.inference import decision
    from hounsfield.inference.whole import WholeSettings, read_network, segment_whole
    from hounsfield.usecases.sessions import proven_precision

    sessions.close()
    manifest, precision = package.manifest, proven_precision(package, choices)
    if plan is None:
        settings = WholeSettings(choices.engine or "openvino", precision)
    else:
        settings = WholeSettings(plan.engine, precision, plan.storage, plan.threads, plan.slab_bytes)
    began = time.perf_counter()
    answer = segment_whole(
        prepared,
        read_network(package.graph_path(precision)),
        decision(manifest.output, manifest.output.channels),
        settings,
        pad_value=manifest.input.window.pad_value,
        out=room,
        on_progress=lambda done, total: on_event(Progress("slabs", done, total)),
    )
    figures = {"infer_seconds": round(time.perf_counter() - began, 3)}
    version = importlib.metadata.version(settings.engine)
    facts = {"engine": settings.engine, "version": version, "precision": precision, "storage": settings.storage}
    return Labelled(answer.labels, f"{settings.engine} {version}", precision, facts, figures)


def _what_ran(package: ModelPackage, facts: Mapping[str, Any], plan: Plan | None) -> dict[str, Any]:
    """The plan of the result: what was planned, and over it what the engine says really ran."""
    window = package.manifest.input.window
    described = {"window": list(window.shape), "overlap": window.overlap, "positions": window.positions}
    return {**described, **({} if plan is None else plan.as_dict()), **facts}


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
    elif package.manifest.output.boxes:
        from hounsfield.usecases.detecting import detection_findings

        findings = Findings((), detection_findings(labelled.detected, package.manifest.output.boxes, run_uid))
    else:
        findings = measure_segments(labelled.labels, loaded.whole, segments, seed=run_uid)
    facts = _facts(package, loaded, labelled, choices, run_uid, began)
    result = Result(loaded.whole, labelled.labels, findings, facts, ResultUids.for_run(run_uid))
    written = _write_all(result, output, name, choices)
    rows = _rows(findings, segments)
    figures = {
        **facts.figures,
        "write_seconds": round(time.perf_counter() - began, 3),
        "peak_resident_mib": round(peak_bytes() / 2**20, 1),
    }
    return SeriesResult(name, series.summary, "done", written, rows, result.warnings, figures)


def _located_row(finding: Finding) -> dict[str, Any]:
    """A located finding, or how many there are of a kind."""
    values = {one.concept: one.value for one in finding.measurements}
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
    from hounsfield.writing import SegKind, why_not_dicom, write_json, write_nifti, write_report, write_seg, write_sr

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
        if result.has_segments:
            files["nifti"] = write_nifti(result, partial / "labels.nii.gz").path
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
        unproven=package.evidence(cast(Precision, labelled.precision)) is None,
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
