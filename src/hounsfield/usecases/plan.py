"""How a package would read a scan within a budget, before any voxel is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hounsfield.errors import DoesNotFit, GeometryRefused, HounsfieldError, SettingsError
from hounsfield.inference.accelerator import why_unseen
from hounsfield.packages import ModelPackage, Precision, open_package
from hounsfield.packages.manifest import OutputSpec
from hounsfield.planning import Budget, CalibrationKey, Machine, Need, NoPlan, Offer, Plan, choose, read_machine
from hounsfield.plugins import registry
from hounsfield.preparing import resampling
from hounsfield.reading import Series, scan
from hounsfield.settings import Settings, load_settings
from hounsfield.usecases.events import Note, OnEvent, silent
from hounsfield.usecases.job import Choices
from hounsfield.usecases.sessions import proven_precision
from hounsfield.usecases.small_networks import reads_named_inputs
from hounsfield.usecases.spots import demand_points, largest_region
from hounsfield.volume import Geometry

_NO_DEVICE = "leave --device out"


@dataclass(frozen=True)
class PlanRequest:
    """What to plan: as a run, with a budget.

    Parameters
    ----------
    measure
        Measure the graph on this machine first where no measurement is kept (some seconds, once).
    """

    model: str | Path
    input: Path
    budget: Budget = field(default_factory=Budget)
    series: str | None = None
    choices: Choices = field(default_factory=Choices)
    measure: bool = True


@dataclass(frozen=True)
class SeriesPlan:
    """The plan for one series, or why there is none."""

    series: str
    plan: Plan | None
    error: HounsfieldError | None = None

    def as_dict(self) -> dict[str, Any]:
        """The plan as data."""
        return {
            "series": self.series,
            "plan": None if self.plan is None else self.plan.as_dict(),
            "error": None if self.error is None else self.error.as_dict(),
        }


def plan_run(request: PlanRequest, on_event: OnEvent = silent) -> tuple[SeriesPlan, ...]:
    """Plan every series that could be read.

    Raises
    ------
    PackageError, InputError
        If the package or the input cannot be used at all.
    """
    package = open_package(request.model)
    demand_points(package, request.choices)
    if reads_named_inputs(package):
        raise SettingsError(
            f"{package.reference} reads a sequence or a record, for which there is no plan", "run it without one"
        )
    planner = Planner(package, request.choices, request.measure, on_event)
    with scan(request.input) as contents:
        if request.series is not None:
            wanted: tuple[Series, ...] = (contents.choose(request.series),)
        else:
            wanted = tuple(one for one in contents.series if one.geometry is not None and one.is_loadable)
            if not wanted:
                contents.choose(repair=request.choices.repair)
        return tuple(_plan_one(planner, series, request.budget) for series in wanted)


def _plan_one(planner: Planner, series: Series, budget: Budget) -> SeriesPlan:
    try:
        return SeriesPlan(series.summary, planner.plan(series, budget))
    except HounsfieldError as error:
        return SeriesPlan(series.summary, None, error)


class Planner:
    """Plans the series of one run: what the package and the engines take is looked up once.

    Parameters
    ----------
    measure
        Measure what no calibration is kept for; else plans rest on conservative bounds.
    """

    def __init__(
        self,
        package: ModelPackage,
        choices: Choices,
        measure: bool,
        on_event: OnEvent = silent,
        settings: Settings | None = None,
        machine: Machine | None = None,
    ) -> None:
        self._package, self._choices, self._measure, self._on_event = package, choices, measure, on_event
        self._settings = settings or load_settings()
        self._machine = machine or read_machine()
        self._precision = proven_precision(package, choices)
        self._device = choices.checked_device()
        if self._device != "cpu" and package.manifest.steps:
            raise SettingsError(f"{package.reference} is a package of steps, which run on the processor", _NO_DEVICE)
        if self._precision == "int8" and not self._machine.fast_int8:
            on_event(
                Note("this processor has no int8 instructions: int8 is emulated, slow, and not what was judged", "warn")
            )
        self._features = None if package.manifest.steps else features_of(package, self._precision)
        self._needs: dict[str, tuple[Need, ...]] = {}
        self._kept: tuple[Offer, ...] | None = None

    def plan(self, series: Series, budget: Budget, name: str = "") -> Plan:
        """The best plan that keeps the budget; under ``name`` it can be planned again.

        Raises
        ------
        DoesNotFit
            If there is none (a ``NoPlan``, which names the smallest budget that would do).
        """
        return self._choose(self.remember(series, name), budget)

    def remember(self, series: Series, name: str) -> tuple[Need, ...]:
        """What a scan asks of a plan, one per step of the package, so that it can be planned again under ``name``."""
        if series.geometry is None:
            raise GeometryRefused("its grid is not known before it is repaired", "plan without --memory", series.source)
        self._needs[name] = self.needs(series.geometry, series.voxel_bytes)
        return self._needs[name]

    def replan(self, name: str, budget: Budget) -> Plan:
        """Another plan for the scan that is remembered under ``name``."""
        if name not in self._needs:
            raise DoesNotFit("its grid was not known when the run began", "give it more memory")
        return self._choose(self._needs[name], budget)

    def _choose(self, needs: tuple[Need, ...], budget: Budget) -> Plan:
        if self._package.manifest.steps:
            from hounsfield.usecases.stepping import plan_steps

            return plan_steps(self._package, needs, budget, self._machine, self._offers())
        (need,) = needs
        whole = tuple(self._whole(need)) if need.mode == "whole" else ()
        answer = choose(need, budget, self._machine, self._offers(), whole)
        if isinstance(answer, NoPlan):
            raise answer
        return answer

    def needs(self, geometry: Geometry, voxel_bytes: int = 2) -> tuple[Need, ...]:
        """What one scan asks of a plan: one, or in a package of steps one per step."""
        need = self.need(geometry, voxel_bytes)
        if not self._package.manifest.steps:
            return (need,)
        from hounsfield.usecases.stepping import needs_of_steps

        return needs_of_steps(self._package, need, largest_region(geometry, self._package, self._choices))

    def need(self, geometry: Geometry, voxel_bytes: int) -> Need:
        """What one scan asks of a plan of one window; ``voxel_bytes`` are those of a loaded voxel."""
        manifest = self._package.manifest
        spec = manifest.input
        whole = geometry
        geometry = largest_region(geometry, self._package, self._choices)
        grid = geometry.reoriented(spec.orientation)[0]
        resample = resampling(spec, grid)
        grid = grid if resample is None else resample.geometry(grid)
        per_image = bool(manifest.output.classes or manifest.output.quantities or manifest.output.boxes)
        return Need(
            scan_shape=whole.shape,
            scan_itemsize=voxel_bytes,
            grid_shape=grid.shape if manifest.output.boxes or not per_image else spec.window.shape,
            window=spec.window.shape,
            overlap=spec.window.overlap,
            classes=manifest.output.channels,
            channels=len(spec.channels),
            features=self._features,
            labels_itemsize=0 if per_image else 1 if manifest.output.channels <= 256 else 2,
            positions=spec.window.positions,
            skipping=spec.window.skip_below is not None,
            weighted=not per_image and _weighted(manifest.output),
            precision=self._precision,
            engine=self._wanted_engine() or None,
            device=self._device,
            mode=self._choices.mode,
            allow_unproven=self._choices.allow_unproven,
        )

    def _offers(self) -> tuple[Offer, ...]:
        if self._kept is None:
            self._measure = self._measure and not self._package.manifest.steps
            self._kept = tuple(self._each_offer())
        return self._kept

    def _each_offer(self) -> Iterator[Offer]:
        from hounsfield.planning import read_cost

        package, precision = self._package, self._precision
        shape = package.manifest.ends_of(package.graph(precision))[1]
        cost = read_cost(package.graph_path(precision), shape)
        proven = not package.why_unproven(precision)
        wanted, on_host = self._wanted_engine(), self._device == "cpu"
        known = {"bf16": self._machine.fast_bf16, "int8": self._machine.fast_int8}
        fast = known.get(precision, precision == "fp32") if on_host else True
        for name, answer in registry().survey().items():
            if name == "torch" and wanted != "torch" and on_host:
                continue
            reason = (answer.reason or "it is not installed") if not answer else self._why_not(name)
            found = {} if reason or (wanted and name != wanted) else self._calibrations(name, cost)
            yield Offer(name, precision, cost, self._device, proven, (1,), found, fast, reason or None)

    def _wanted_engine(self) -> str:
        """The engine that was asked for; what the settings prefer holds for the processor only."""
        return self._choices.engine or (self._settings.engine if self._device == "cpu" else "")

    def _why_not(self, engine: str) -> str:
        """Why an engine that is installed does not run this package on the device; empty where it does."""
        if engine == "torch" and self._package.weights_path is None:
            return "the package has no reference weights"
        if self._device == "cpu":
            return ""
        if engine == "openvino" or (engine != self._wanted_engine() and engine != "torch"):
            return f"it is not used on {self._device} unless it is asked for"
        return "" if engine != "torch" else why_unseen(self._device)

    def _calibrations(self, engine: str, cost: Any) -> dict[int, Any]:
        from hounsfield.usecases.calibrate import Measurable, calibrated

        package, spec = self._package, self._package.manifest.input
        threads = self._choices.threads or self._settings.threads or self._machine.cores
        key = CalibrationKey(
            package_digest=package.digest,
            engine=engine,
            precision=self._precision,
            device=self._device,
            cpu=self._machine.key_of(self._device),
            threads=threads,
            window=spec.window.shape,
        )
        path = package.graph_path(self._precision)
        what = Measurable(path, len(spec.channels), quantised=self._precision == "int8")
        if engine == "torch":
            what = replace(what, weights=package.weights_path, architecture=package.manifest.architecture)
        folder = self._settings.home / "calibration"
        try:
            record = calibrated(what, key, cost, folder, measure=False)
            if record is None and self._measure:
                self._on_event(
                    Note(f"measuring {package.reference} in {engine} {self._precision} on this machine, once")
                )
                record = calibrated(what, key, cost, folder)
        except HounsfieldError as error:
            self._on_event(Note(f"{engine} could not be measured: {error.fact}", "warn"))
            return {}
        return {} if record is None else {threads: record}

    def _whole(self, need: Need) -> Iterator[Any]:
        from hounsfield.inference.whole import read_network
        from hounsfield.inference.whole.offers import whole_offers

        network = read_network(self._package.graph_path(self._precision))
        there = [name for name, answer in registry().survey().items() if answer]
        proven = self._package.proven()
        for offer in whole_offers(network, need.grid_shape, self._machine, proven, there):
            if offer.precision == self._precision:
                yield offer


def _weighted(output: OutputSpec) -> bool:
    """Whether the package's labels depend on the blending weights."""
    from hounsfield.inference.deciding import Decider, decision

    return Decider(decision(output, output.channels), None).weighted


def features_of(package: ModelPackage, precision: Precision, step: str | None = None) -> int | None:
    """Input channels of a graph's linear head, where it has one that is worth cutting off."""
    from hounsfield.inference import OnnxGraph, split_head

    if reads_named_inputs(package) or precision == "int8" or package.manifest.output.restore == "probabilities":
        return None
    split = split_head(OnnxGraph(package.graph_path(precision, step)))
    return split[1].features if split is not None and split[1].smaller else None
