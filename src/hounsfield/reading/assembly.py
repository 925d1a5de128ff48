"""From instances to series: what belongs together, in which order, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hounsfield.reading.acquisition import acquisition_of
from hounsfield.reading.dynamic import merged, time_points, times_s
from hounsfield.reading.formats import Found
from hounsfield.reading.grouping import by_grid, by_measurement
from hounsfield.reading.instances import Frame, Instance
from hounsfield.reading.kinds import kind_of
from hounsfield.reading.limits import Limits
from hounsfield.reading.pixels import PixelPlan, pixel_fault, pixel_plan, voxel_bytes
from hounsfield.reading.projection import projection_geometry
from hounsfield.reading.series import Issue, Series, SeriesKind, Skipped
from hounsfield.reading.stacking import Stack, frame_fault, stack

_AGAIN: Final = "fetch the series again from its source"
_WHOLE: Final = "fetch all time points again from their source"


@dataclass(frozen=True, eq=False)
class _Candidate:
    """One volume, or one time point of one, before time points of several series are joined."""

    stacks: tuple[Stack, ...]
    labels: tuple[str, ...]
    issues: tuple[Issue, ...]


def assemble(instances: Sequence[Instance], source: Path, limits: Limits) -> Found:
    """All series in a set of instances, in the order of study, series number and file name."""
    unique, copies = _without_copies(instances)
    by_series: dict[tuple[str, str], list[Instance]] = {}
    for instance in unique:
        header = instance.header
        key = (str(header.get("StudyInstanceUID", "")), str(header.get("SeriesInstanceUID", "")))
        by_series.setdefault(key, []).append(instance)
    series: list[Series] = []
    candidates: list[_Candidate] = []
    skipped: list[Skipped] = []
    for (_, series_uid), members in sorted(by_series.items(), key=lambda pair: _rank(pair[1])):
        shared = _copy_issues(copies.get(series_uid, 0))
        sorted_out, volumes, faults = _sort_out(members, source, limits, shared)
        series += sorted_out
        candidates += volumes
        skipped += faults
    series += _volumes(candidates, source, limits)
    return Found(tuple(sorted(series, key=_series_rank)), tuple(skipped))


def _rank(members: Sequence[Instance]) -> tuple[str, int, Path]:
    header = members[0].header
    number = header.get("SeriesNumber", 0)
    return str(header.get("StudyInstanceUID", "")), number if isinstance(number, int) else 0, members[0].path


def _series_rank(series: Series) -> tuple[str, int, Path]:
    number = series.plan.first.get("SeriesNumber", 0)
    return series.study_instance_uid or "", number if isinstance(number, int) else 0, series.files[0]


def _without_copies(instances: Iterable[Instance]) -> tuple[list[Instance], dict[str, int]]:
    """The first instance of each SOP Instance UID, and the number of copies by series."""
    seen: set[str] = set()
    unique: list[Instance] = []
    copies: dict[str, int] = {}
    for instance in instances:
        uid = instance.sop_instance_uid
        if uid and uid in seen:
            series_uid = str(instance.header.get("SeriesInstanceUID", ""))
            copies[series_uid] = copies.get(series_uid, 0) + 1
            continue
        seen.add(uid)
        unique.append(instance)
    return unique, copies


def _copy_issues(copies: int) -> tuple[Issue, ...]:
    if not copies:
        return ()
    message = (
        f"{copies} further cop{'ies' if copies > 1 else 'y'} of the same instances (equal SOP Instance UID) left out"
    )
    return (Issue("copy", "warn", message),)


def _sort_out(
    members: Sequence[Instance], source: Path, limits: Limits, shared: tuple[Issue, ...]
) -> tuple[list[Series], list[_Candidate], list[Skipped]]:
    """One series UID apart: what is no volume at once, and candidates for volumes."""
    by_kind: dict[tuple[SeriesKind, Issue | None], list[Instance]] = {}
    skipped: list[Skipped] = []
    for instance in members:
        kind, issue = kind_of(instance)
        fault = pixel_fault(instance, limits) if kind in (SeriesKind.VOLUME, SeriesKind.PROJECTION) else None
        if fault is not None and fault.code != "limit" and len(members) > 1 and kind is SeriesKind.VOLUME:
            skipped.append(Skipped(instance.path, fault.message))
        else:
            kind, issue = (kind, issue) if fault is None else (SeriesKind.UNREADABLE, fault)
            by_kind.setdefault((kind, issue), []).append(instance)
    if len(skipped) == len(members):
        return [_unreadable(members, source, skipped, pixel_fault(members[0], limits))], [], []
    series: list[Series] = []
    candidates: list[_Candidate] = []
    for (kind, issue), some in by_kind.items():
        if kind is SeriesKind.PROJECTION:
            series += [_projection(one, source, shared) for one in some]
        elif kind is SeriesKind.VOLUME:
            found, faults, lone = _candidates(some, skipped, shared, source)
            candidates, skipped, series = candidates + found, skipped + faults, series + lone
        else:
            issues = shared if issue is None else (issue, *shared)
            first = [one.first_frame for one in some]
            series.append(_plain([one for one in first if one is not None] or _bare(some), kind, source, issues))
    return series, candidates, skipped


def _bare(instances: Sequence[Instance]) -> list[Frame]:
    return [Frame(instance, None, {}) for instance in instances]


def _candidates(
    instances: Sequence[Instance], broken: Sequence[Skipped], shared: tuple[Issue, ...], source: Path
) -> tuple[list[_Candidate], list[Skipped], list[Series]]:
    """Volumes among instances of one series: by grid, by measurement, by time."""
    faults = [(frame, frame_fault(frame)) for instance in instances for frame in instance.frames]
    frames = [frame for frame, fault in faults if fault is None]
    bad = [(frame, fault) for frame, fault in faults if fault is not None]
    if not frames:
        fault = next((fault for _, fault in bad), "it declares no frames")
        issue = Issue("position", "refuse", f"no slice has a place in space: {fault}", "give a series with positions")
        whole = [frame for frame, _ in bad] or _bare(instances)
        return [], [], [_plain(whole, SeriesKind.UNREADABLE, source, (issue, *shared))]
    skipped = [Skipped(frame.instance.path, fault) for frame, fault in bad]
    issues = (*shared, *_incomplete([*broken, *skipped]))
    grids = by_grid(frames)
    if len(grids) > 1:
        message = f"the series mixes {len(grids)} orientations, sizes or pixel spacings, which are kept apart"
        issues = (*issues, Issue("mixed-orientation", "warn", message, "choose one of them"))
    found: list[_Candidate] = []
    for grid in grids:
        for labels, part in by_measurement(grid):
            points = time_points(part)
            stacks = tuple(stack(point) for point in points)
            notes = tuple(
                Issue("mixture", "note", f"one of several volumes in the series: {label}") for label in labels
            )
            found.append(_Candidate(stacks, labels, (*issues, *notes)))
    return found, skipped, []


def _incomplete(skipped: Sequence[Skipped]) -> tuple[Issue, ...]:
    """Slices that cannot be used leave a hole, or an end that is not seen to be missing."""
    if not skipped:
        return ()
    first = skipped[0]
    message = f"{len(skipped)} of its files cannot be used, the first is {first.path.name}: {first.reason}"
    return (Issue("damaged", "repairable", message, "fetch it again, or allow the repair, which leaves them out"),)


def _volumes(candidates: Sequence[_Candidate], source: Path, limits: Limits) -> list[Series]:
    """Series of kind VOLUME and DYNAMIC; single volumes of several series may make one run."""
    lone = {id(one.stacks[0]): one for one in candidates if len(one.stacks) == 1}
    series = [_dynamic(one.stacks, one, source, limits) for one in candidates if len(one.stacks) > 1]
    for run in merged([one.stacks[0] for one in lone.values()]):
        candidate = lone[id(run.stacks[0])]
        if len(run.stacks) == 1:
            apart = (Issue("apart-in-time", "note", run.apart, _WHOLE),) if run.apart else ()
            series.append(_volume(replace(candidate, issues=(*candidate.issues, *apart)), source, limits))
        else:
            issues = tuple(dict.fromkeys(issue for one in run.stacks for issue in lone[id(one)].issues))
            series.append(_dynamic(run.stacks, replace(candidate, issues=issues), source, limits))
    return series


def _volume(candidate: _Candidate, source: Path, limits: Limits) -> Series:
    one = candidate.stacks[0]
    plan, issues = pixel_plan((one,), limits)
    found = _plain(one.frames, SeriesKind.VOLUME, source, (*one.issues, *issues, *candidate.issues), plan)
    loadable = not any(issue.severity in ("repairable", "refuse") for issue in found.issues)
    return replace(
        found,
        geometry=one.geometry if loadable else None,
        description=_described(one.frames[0], candidate.labels),
        voxel_bytes=voxel_bytes(plan) if loadable else found.voxel_bytes,
    )


def _dynamic(stacks: Sequence[Stack], candidate: _Candidate, source: Path, limits: Limits) -> Series:
    """A time series: every time point whole, on one grid, with a time."""
    plan, issues = pixel_plan(tuple(stacks), limits)
    times = times_s([one.frames for one in stacks])
    own = tuple(dict.fromkeys(issue for one in stacks for issue in one.issues))
    first = stacks[0].geometry
    found: list[Issue] = []
    if times is None:
        found.append(Issue("no-times", "refuse", "the time points have no increasing times", _AGAIN))
    sizes = {len(one.frames) for one in stacks}
    if len(sizes) > 1:
        message = f"the {len(stacks)} time points have from {min(sizes)} to {max(sizes)} slices"
        found.append(Issue("incomplete-time", "refuse", message, _AGAIN))
    elif first is not None and not all(
        one.geometry is not None and one.geometry.is_close(first, 0.1) for one in stacks
    ):
        found.append(Issue("moving-grid", "refuse", "the time points lie on different grids", _AGAIN))
    # A time series is never resampled: what one volume could have repaired is final here.
    severe = tuple(replace(issue, severity="refuse") if issue.severity == "repairable" else issue for issue in own)
    frames = [frame for one in stacks for frame in one.frames]
    series = _plain(frames, SeriesKind.DYNAMIC, source, (*found, *severe, *issues, *candidate.issues), plan)
    loadable = not any(issue.severity in ("repairable", "refuse") for issue in series.issues)
    return replace(
        series,
        geometry=first if loadable else None,
        times_s=times or (),
        description=_described(frames[0], candidate.labels),
    )


def _described(frame: Frame, labels: tuple[str, ...]) -> str | None:
    description = str(frame.get("SeriesDescription") or "")
    return ", ".join(part for part in (description, *labels) if part) or None


def _projection(instance: Instance, source: Path, shared: tuple[Issue, ...]) -> Series:
    geometry, issues = projection_geometry(instance.frames[0])
    plan = PixelPlan.of_projection(instance.frames[0])
    found = _plain(instance.frames, SeriesKind.PROJECTION, source, (*issues, *shared), plan)
    return replace(found, geometry=geometry)


def _unreadable(members: Sequence[Instance], source: Path, skipped: Sequence[Skipped], fault: Issue | None) -> Series:
    issue = fault or Issue("pixels", "refuse", skipped[0].reason, _AGAIN)
    return _plain(_bare(members), SeriesKind.UNREADABLE, source, (replace(issue, severity="refuse"),))


def _plain(
    frames: Sequence[Frame], kind: SeriesKind, source: Path, issues: tuple[Issue, ...], plan: PixelPlan | None = None
) -> Series:
    """A series of any kind with the facts of its middle frame."""
    middle = frames[len(frames) // 2]
    files = tuple(dict.fromkeys(frame.instance.path for frame in frames))
    uids = tuple(dict.fromkeys(str(frame.get("SeriesInstanceUID", "")) for frame in frames))
    study = middle.get("StudyInstanceUID")
    return Series(
        key="",
        source=source,
        format="dicom",
        kind=kind,
        modality=middle.get("Modality"),
        description=middle.get("SeriesDescription"),
        study_instance_uid=str(study) if study else None,
        series_instance_uids=uids,
        instances=len(files),
        files=files,
        issues=issues,
        acquisition=acquisition_of(middle),
        plan=plan or PixelPlan.empty(frames[0]),
    )
