"""Let a model read one or many scans and write its answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from hounsfield.errors import HounsfieldError, NothingToRead, SettingsError
from hounsfield.packages import ModelPackage, open_package
from hounsfield.planning import Budget, Plan, read_machine
from hounsfield.reading import Contents, Series, SeriesKind
from hounsfield.reading import scan as scan_path
from hounsfield.reading.scan import refusal
from hounsfield.usecases.events import OnEvent, Progress, silent
from hounsfield.usecases.job import Choices, Job, SeriesResult
from hounsfield.usecases.plan import Planner
from hounsfield.usecases.records import checked_record, read_record
from hounsfield.usecases.resuming import finished_before
from hounsfield.usecases.run_record import is_record_only, run_record
from hounsfield.usecases.sequence_series import dynamic_series
from hounsfield.usecases.small_networks import reads_named_inputs
from hounsfield.usecases.spots import demand_points
from hounsfield.usecases.stages import result_name
from hounsfield.usecases.supervise import Supervisor

_UNKNOWN_FORMAT: Final = "not a format"


@dataclass(frozen=True)
class RunRequest:
    """What to run on what.

    Parameters
    ----------
    model
        Id, ``id-version`` or folder of a model package.
    input
        Folder, file, zip or tar with one or many scans.
    output
        Folder for the results: new or empty, unless ``resume``.
    series
        Key or UID of the only series to read; ``None`` reads all that can be read.
    budget
        What each series may take; it is kept, or the series ends with the facts.
    plan
        A saved plan to carry out instead of a new one.
    resume
        Go on in ``output`` where an earlier run of the same package stopped.
    record
        JSON with the numbers that the package reads beside or instead of a scan; ``input`` may then be ``None``.
    """

    model: str | Path
    input: Path | None
    output: Path
    series: str | None = None
    choices: Choices = field(default_factory=Choices)
    budget: Budget = field(default_factory=Budget)
    plan: Plan | None = None
    resume: bool = False
    record: Path | None = None


@dataclass(frozen=True)
class RunResult:
    """What became of every series, in the order they were found."""

    package: str
    package_digest: str
    series: tuple[SeriesResult, ...]
    skipped_files: int = 0

    @property
    def outputs(self) -> Mapping[str, Mapping[str, Path]]:
        """Files by kind, for each series folder that was written."""
        return {one.name: one.outputs for one in self.series if one.outputs}

    @property
    def succeeded(self) -> bool:
        """Whether nothing failed and at least one series was read."""
        statuses = {one.status for one in self.series}
        return "failed" not in statuses and bool(statuses & {"done", "skipped"})

    def as_dict(self) -> dict[str, Any]:
        """The outcome as data."""
        return {
            "package": self.package,
            "package_digest": self.package_digest,
            "succeeded": self.succeeded,
            "skipped_files": self.skipped_files,
            "series": [one.as_dict() for one in self.series],
        }


def run(
    model: str | Path,
    scan: str | Path,
    output: str | Path,
    *,
    series: str | None = None,
    choices: Choices | None = None,
    memory: str | None = None,
    on_event: OnEvent = silent,
) -> RunResult:
    """Run a model on a scan: the short form of :func:`run_model`.

    Parameters
    ----------
    model, scan, output, series
        As in :class:`RunRequest`.
    choices
        As in :class:`hounsfield.usecases.job.Choices`; by default fp32, everything proven.
    memory
        A budget such as ``"2GiB"``, which is kept.
    """
    budget = Budget.parse(memory)
    request = RunRequest(model, Path(scan), Path(output), series, choices or Choices(), budget)
    return run_model(request, on_event)


def run_model(request: RunRequest, on_event: OnEvent = silent) -> RunResult:
    """Read every series of the input that the package may read, and write the answers.

    Each series is read in a worker process. What goes wrong with one never stops the others: it
    is in the result.

    Raises
    ------
    PackageError
        If the package cannot be used.
    NothingToRead, OutputExists
        If there is no scan, or the output folder is not empty.
    """
    package = open_package(request.model)
    if is_record_only(package):
        return run_record(package, request)
    request = _with_record(package, _as_planned(request, package))
    demand_points(package, request.choices)
    source = _scan_of(package, request)
    finished = finished_before(request.output, package, request.choices.precision, resume=request.resume)
    planner = Planner(package, request.choices, request.budget.host_bytes is not None, on_event)
    with scan_path(source) as contents:
        wanted = _wanted(contents, request, package)
        if request.choices.record and len(wanted) > 1:
            raise SettingsError(
                f"a record is of one scan, and {len(wanted)} series could be read", "name one with --series"
            )
        order = [result_name(series) for series in wanted]
        results, jobs = dict(finished), []
        for name, series in zip(order, wanted, strict=True):
            if name in results:
                continue
            try:
                jobs.append(_job(name, series, contents, package, planner, request))
            except HounsfieldError as error:
                results[name] = SeriesResult.not_done(name, series.summary, error)
        _work(jobs, results, len(wanted), planner, request, on_event)
        summaries = {name: series.summary for name, series in zip(order, wanted, strict=True)}
        listed = tuple(replace(results[name], series=summaries[name]) for name in dict.fromkeys(order))
        result = RunResult(package.reference, package.digest, listed, len(contents.skipped))
    _write_summary(result, request.output)
    return result


def _with_record(package: ModelPackage, request: RunRequest) -> RunRequest:
    """The request with the numbers of its record, which are checked before any scan is read."""
    columns = package.manifest.input.record
    if not columns:
        return request
    if request.record is None:
        raise SettingsError(
            f"{package.reference} reads a record beside the scan, and none was given", "give it with --record FILE.json"
        )
    if request.resume:
        raise SettingsError("a run with a record is not resumed", "leave --resume out")
    data = read_record(request.record)
    checked_record(data, columns, request.record)
    return replace(request, choices=replace(request.choices, record=tuple(data.items())))


def _scan_of(package: ModelPackage, request: RunRequest) -> Path:
    """The scan that the package reads, or why it cannot be read."""
    if request.choices.explain:
        from hounsfield.usecases.explaining import demand_explainable

        demand_explainable(package)
    if request.record is not None and not package.manifest.input.record:
        raise SettingsError(f"{package.reference} reads no record", "leave --record out")
    if request.input is None:
        raise SettingsError("no scan was given", "give a folder, file, zip or tar after the model")
    return request.input


def _as_planned(request: RunRequest, package: ModelPackage) -> RunRequest:
    """The request with the choices that its saved plan made.

    Raises
    ------
    SettingsError
        If the plan is for other windows than the package's, or another precision was asked for.
    """
    plan, choices, window = request.plan, request.choices, package.manifest.input.window
    if plan is None:
        return request
    if plan.mode == "window" and (plan.window, plan.overlap) != (window.shape, window.overlap):
        fact = f"the plan has windows of {plan.window} at overlap {plan.overlap:g}, {package.reference} has others"
        raise SettingsError(fact, "plan again with this package; its windows are part of what was proven")
    if choices.precision not in (Choices().precision, plan.precision):
        raise SettingsError(f"the plan is for {plan.precision}, not {choices.precision}", "leave --precision out")
    if choices.device and choices.checked_device() != plan.device:
        raise SettingsError(f"the plan is for {plan.device}, not {choices.device}", "leave --device out")
    made = replace(choices, precision=plan.precision, engine=plan.engine, threads=plan.threads, device=plan.device)
    made = replace(made, mode="whole" if plan.mode == "whole" else "window")
    return replace(request, choices=made)


def _work(
    jobs: list[Job],
    results: dict[str, SeriesResult],
    total: int,
    planner: Planner,
    request: RunRequest,
    on_event: OnEvent,
) -> None:
    """Do the jobs and put their results beside the others."""
    workers = _workers(jobs, request.budget)
    if request.budget.host_bytes is not None:
        jobs = [replace(job, budget_bytes=request.budget.host_bytes // workers) for job in jobs]
    elif len(jobs) > workers:
        jobs = [replace(job, keep_network=True) for job in jobs]
    if request.budget.device_bytes is not None:
        jobs = [replace(job, device_budget_bytes=request.budget.device_bytes // workers) for job in jobs]

    def replan(job: Job, share: float) -> Plan:
        return planner.replan(job.name, _smaller(request.budget, job, share))

    on_event(Progress("series", len(results), total))
    for result in Supervisor(on_event, workers, replan).run(jobs):
        results[result.name] = result
        on_event(Progress("series", len(results), total))


def _smaller(budget: Budget, job: Job, share: float) -> Budget:
    """The budget of the next try: on a GPU its memory was too small, else the host's."""
    if job.plan is None or job.plan.device == "cpu":
        return replace(budget, host_bytes=max(1, int((job.budget_bytes or 0) * share)))
    room = job.device_budget_bytes or job.plan.device_peak_bytes
    return replace(budget, device_bytes=max(1, int(room * share)))


def _workers(jobs: list[Job], budget: Budget) -> int:
    """Two where both fit: one reads and writes while the other's network runs."""
    if len(jobs) < 2 or any(job.plan is not None and job.plan.device != "cpu" for job in jobs):
        return 1
    peak = max(job.plan.host_peak_bytes if job.plan else 2**31 for job in jobs)
    room = budget.host_bytes if budget.host_bytes is not None else read_machine(accelerators=False).available_bytes // 2
    return 2 if 2 * peak <= room else 1


def _job(
    name: str, series: Series, contents: Contents, package: ModelPackage, planner: Planner, request: RunRequest
) -> Job:
    """What a worker is told, or the reason why the series is not read."""
    refused = refusal(series, repair=request.choices.repair)
    if refused is not None:
        raise refused
    plan = request.plan
    if reads_named_inputs(package):
        plan = None
    elif plan is not None and series.geometry is not None:
        planner.remember(series, name)
    elif plan is None and (series.geometry is not None or request.budget.host_bytes is not None):
        plan = planner.plan(series, request.budget, name)
    return Job(
        package=package.root,
        package_digest=package.digest,
        source=contents.source,
        files=series.files,
        name=name,
        output=request.output,
        choices=request.choices,
        plan=plan,
        warnings=_unread(contents),
    )


def _unread(contents: Contents) -> tuple[str, ...]:
    """A warning when files of a known format were damaged: they could be slices of this scan."""
    damaged = [one for one in contents.skipped if not one.reason.startswith(_UNKNOWN_FORMAT)]
    if not damaged:
        return ()
    return (f"{len(damaged)} files beside the scan could not be read and may belong to it: {damaged[0].reason}",)


def _wanted(contents: Contents, request: RunRequest, package: ModelPackage) -> tuple[Series, ...]:
    """The series to read: the one asked for, else all that have voxels, refused ones included."""
    if request.series is not None:
        return (contents.choose(request.series),)
    if package.manifest.input.times is not None:
        return dynamic_series(contents)
    wanted = tuple(s for s in contents.series if s.is_loadable or s.is_repairable or _is_refused_volume(s))
    if not wanted:
        contents.choose(repair=request.choices.repair)
        raise NothingToRead("no series is a volume", "inspect it", contents.source)
    return wanted


def _is_refused_volume(series: Series) -> bool:
    kinds = (SeriesKind.VOLUME, SeriesKind.DYNAMIC, SeriesKind.UNREADABLE)
    return series.kind in kinds and any(issue.severity == "refuse" for issue in series.issues)


def _write_summary(result: RunResult, output: Path) -> None:
    """``summary.json`` beside the series folders; nothing when nothing was written."""
    from hounsfield.writing.files import whole_file

    if not result.outputs:
        return
    with whole_file(output / "summary.json", overwrite=True) as temporary:
        temporary.write_text(json.dumps(result.as_dict(), indent=1), encoding="utf-8")
