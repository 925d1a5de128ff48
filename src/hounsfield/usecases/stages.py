"""The road of one scan, in three stages: read and check, infer, write."""

from __future__ import annotations

import datetime as dt
import secrets
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from hounsfield.errors import GeometryRefused, HounsfieldError, PackageInvalid
from hounsfield.findings import CodedConcept, Segment
from hounsfield.findings.measuring import measure_segments
from hounsfield.findings.terminology import VOLUME
from hounsfield.inference.clean_up import clean_up
from hounsfield.packages import ModelPackage, Precision
from hounsfield.packages.manifest import Code, SegmentSpec
from hounsfield.preparing import check_domain
from hounsfield.preparing.domain import demand_domain
from hounsfield.preparing.region import Region, region_around
from hounsfield.reading import Series, load
from hounsfield.usecases.events import Note, OnEvent, Progress
from hounsfield.usecases.job import Choices, SeriesResult
from hounsfield.usecases.sessions import Sessions
from hounsfield.version import __version__
from hounsfield.volume import LabelMap, TimeSeries, Volume


@dataclass(frozen=True)
class Loaded:
    """A scan that the package may read: the whole, and the part that is read."""

    whole: Volume
    part: Volume
    region: Region | None
    warnings: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Labelled:
    """Labels on the whole scan's grid, and what they took."""

    labels: LabelMap
    engine: str
    precision: str
    plan: Mapping[str, Any]
    figures: Mapping[str, Any]
    warnings: tuple[str, ...] = field(default=())


def load_stage(series: Series, package: ModelPackage, choices: Choices) -> Loaded:
    """Read the voxels and check the domain.

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
    region = None
    if choices.at_mm is not None:
        region = region_around(whole.geometry, choices.at_mm, _region_mm(package))
    part = whole if region is None else region.of(whole)
    warnings = demand_domain(check_domain(part, package.manifest.domain), package.reference)
    if region is not None:
        point = ", ".join(f"{value:g}" for value in choices.at_mm or ())
        warnings = (*warnings, f"only the region around ({point}) mm was read")
    return Loaded(whole, part, region, warnings, time.perf_counter() - began)


def infer_stage(
    loaded: Loaded, package: ModelPackage, choices: Choices, sessions: Sessions, on_event: OnEvent
) -> Labelled:
    """Prepare, run the network window by window, restore, clean up."""
    from hounsfield.inference import segment
    from hounsfield.inference.deciding import decision
    from hounsfield.preparing import prepare

    manifest = package.manifest
    prepared = prepare(loaded.part, manifest.input)
    opened = sessions.open(package, choices)
    rule = decision(manifest.output, opened.classes)
    answer = segment(
        prepared,
        opened.session,
        manifest.input.window,
        rule,
        head=opened.head,
        on_progress=lambda done, total: on_event(Progress("windows", done, total)),
    )
    labels = clean_up(answer.labels, manifest.output.clean_up)
    if loaded.region is not None:
        labels = loaded.region.put_back(labels, loaded.whole.geometry)
    facts = opened.session.facts()
    total = answer.seconds["total"]
    figures = {
        "infer_seconds": round(total, 3),
        "network_seconds": round(answer.seconds["network"], 3),
        "windows": answer.windows,
        "windows_skipped": answer.skipped,
        "windows_per_second": round(answer.windows / max(total, 1e-9), 2),
        "voxels_per_second": round(loaded.part.array.size / max(total, 1e-9)),
    }
    window = manifest.input.window
    plan = {**facts, "window": list(window.shape), "overlap": window.overlap, "positions": window.positions}
    return Labelled(labels, f"{facts['engine']} {facts['version']}", opened.session.precision, plan, figures)


def write_stage(
    name: str, series: Series, loaded: Loaded, labelled: Labelled, package: ModelPackage, choices: Choices, output: Path
) -> SeriesResult:
    """Measure and write everything into ``output/name``, all of it or nothing."""
    from hounsfield.writing import Result, ResultUids

    began = time.perf_counter()
    run_uid = f"2.25.{uuid.uuid4().int}"
    segments = tuple(_segment(spec) for spec in package.manifest.output.segments)
    findings = measure_segments(labelled.labels, loaded.whole, segments, seed=run_uid)
    facts = _facts(package, loaded, labelled, choices, run_uid, began)
    result = Result(loaded.whole, labelled.labels, findings, facts, ResultUids.for_run(run_uid))
    written = _write_all(result, output, name, choices)
    rows = tuple(
        {
            "label": segments[finding.segment_number - 1].label,
            "component": finding.component,
            "volume_ml": next((m.value for m in finding.measurements if m.concept == VOLUME), 0.0),
            "tracking_uid": finding.tracking_uid,
        }
        for finding in findings.findings
        if finding.segment_number is not None
    )
    figures = {**facts.figures, "write_seconds": round(time.perf_counter() - began, 3)}
    return SeriesResult(name, series.summary, "done", written, rows, result.warnings, figures)


def _write_all(result: Any, output: Path, name: str, choices: Choices) -> dict[str, Path]:
    from hounsfield.writing import SegKind, why_not_dicom, write_json, write_nifti, write_report, write_seg, write_sr

    partial = output / f".partial-{name}-{secrets.token_hex(4)}"
    partial.mkdir(parents=True)
    try:
        files = {}
        if why_not_dicom(result.volume) is None:
            kinds = {"binary": (SegKind.BINARY,), "labelmap": (SegKind.LABELMAP,)}.get(choices.seg, tuple(SegKind))
            segs = {f"seg-{kind.value.lower()}" if len(kinds) > 1 else "seg": kind for kind in kinds}
            stored = {key: write_seg(result, partial / f"{key}.dcm", kind=kind) for key, kind in segs.items()}
            files.update({key: one.path for key, one in stored.items()})
            files["sr"] = write_sr(result, partial / "sr.dcm", seg=next(iter(stored.values()))).path
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
    figures = {"read_seconds": round(loaded.seconds, 3), **labelled.figures, **_peak()}
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
        warnings=(*_no_dicom(loaded.whole), *loaded.warnings, *labelled.warnings),
        limits=card_limits(package.card()),
        intended_use=" ".join(manifest.intended_use.split()),
        attribution=manifest.licence.attribution,
        unproven=package.evidence(cast(Precision, labelled.precision)) is None,
    )


def _no_dicom(volume: Volume) -> tuple[str, ...]:
    from hounsfield.writing import why_not_dicom

    reason = why_not_dicom(volume)
    return () if reason is None else (f"no DICOM SEG and SR were written: {reason}",)


def _peak() -> dict[str, Any]:
    """The highest resident memory of this process so far (VmHWM)."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
    return {} if line is None else {"peak_resident_mib": round(int(line.split()[1]) / 1024, 1)}


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


def _region_mm(package: ModelPackage) -> tuple[float, float, float]:
    """Size (x, y, z) mm of one window, the region that a model reads around a point."""
    spec = package.manifest.input
    if spec.spacing_mm is None:
        raise PackageInvalid(f"{package.reference} has no spacing, so a point gives no region", "leave --at out")
    from hounsfield.volume import parse_orientation

    size = [0.0, 0.0, 0.0]
    for (axis, _), voxels, spacing in zip(
        parse_orientation(spec.orientation), spec.window.shape, spec.spacing_mm, strict=True
    ):
        size[axis] = voxels * spacing
    return (size[0], size[1], size[2])


def _segment(spec: SegmentSpec) -> Segment:
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


def finished_error(error: BaseException, on_event: OnEvent) -> HounsfieldError:
    """Any error as one of ours, so that one scan never stops the others; the kind is kept."""
    if isinstance(error, HounsfieldError):
        return error
    from hounsfield.errors import InternalError

    on_event(Note(f"{type(error).__name__}: {error}", "error"))
    return InternalError(
        fact=f"reading this scan failed unexpectedly ({type(error).__name__}: {error})",
        remedy="please report it with the command that was run",
    )
