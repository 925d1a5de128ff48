"""Packages of several steps: planned network by network, run one after the other."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hounsfield.packages import ModelPackage, Precision
from hounsfield.packages.steps import StepSpec, WindowStep
from hounsfield.planning import Budget, Machine, Need, NoPlan, Offer, Plan, choose, read_cost
from hounsfield.preparing import resampling
from hounsfield.usecases.events import OnEvent, Progress
from hounsfield.usecases.job import Choices
from hounsfield.usecases.sessions import Sessions, proven_precision
from hounsfield.volume import Geometry, Volume

if TYPE_CHECKING:
    from hounsfield.inference import Loaded
    from hounsfield.inference.engine import Session
    from hounsfield.usecases.stages import Labelled

_MIB = 2**20
#: Parts of the scan and of coordinates that the geometry between two networks holds (4 million voxels at a time).
_GEOMETRY_BYTES = 256 * _MIB
#: Neighbours and weights of voxels at borders of labels that are resampled (preparing/given.py), 8 of each.
_BORDER_BYTES = 96 * _MIB


def needs_of_steps(package: ModelPackage, need: Need, geometry: Geometry) -> tuple[Need, ...]:
    """What each step asks of a plan.

    Parameters
    ----------
    need
        As for a package of one window.
    geometry
        The scan's grid, or of the largest part of it that is read.
    """
    return tuple(
        _window_need(step, need, geometry, package) if isinstance(step, WindowStep) else _small_need(step, need)
        for step in package.manifest.steps
    )


def _small_need(step: StepSpec, need: Need) -> Need:
    """Of a network that sees a small grid once."""
    channels, shape, classes, _ = step.ends()
    once: dict[str, Any] = {"grid_shape": shape, "window": shape, "overlap": 0.0, "features": None, "mode": "window"}
    return replace(need, channels=channels, classes=classes, **once)


def _window_need(step: WindowStep, need: Need, geometry: Geometry, package: ModelPackage) -> Need:
    from hounsfield.inference import step_decision
    from hounsfield.inference.deciding import Decider
    from hounsfield.usecases.plan import features_of

    channels, window, classes, _ = step.ends()
    grid = geometry.reoriented(step.input.orientation)[0]
    resample = resampling(step.input, grid)
    grid = grid if resample is None else resample.geometry(grid)
    spec = step.input.window
    return replace(
        need,
        grid_shape=grid.shape,
        window=window,
        overlap=spec.overlap,
        positions=spec.positions,
        skipping=spec.skip_below is not None,
        channels=channels,
        classes=classes,
        features=features_of(package, cast(Precision, need.precision), step.name),
        weighted=Decider(step_decision(step), None).weighted,
        mode="window",
    )


def plan_steps(
    package: ModelPackage, needs: tuple[Need, ...], budget: Budget, machine: Machine, offers: Iterable[Offer]
) -> Plan:
    """One plan for all steps: the engine of the first, the peak of the largest, the time of all together.

    Parameters
    ----------
    needs
        One per step.
    offers
        What each engine could run; their graph costs are replaced by those of each step.

    Raises
    ------
    DoesNotFit
        If a step does not keep the budget (a ``NoPlan``).
    """
    plans: list[Plan] = []
    kept = tuple(offers)
    between = _between(package, needs)
    if budget.host_bytes is not None:
        budget = replace(budget, host_bytes=max(1, budget.host_bytes - between))
    for step, need in zip(package.manifest.steps, needs, strict=True):
        cost = read_cost(package.graph_path(cast(Precision, need.precision), step.name), need.window)
        asked = replace(need, engine=plans[0].engine if plans else need.engine)
        answer = choose(asked, budget, machine, [replace(offer, graph=cost, calibrations={}) for offer in kept])
        if isinstance(answer, NoPlan):
            raise answer
        plans.append(answer)
    return _as_one(package, plans, between)


def _as_one(package: ModelPackage, plans: list[Plan], between: int) -> Plan:
    """The plan of the largest step; where one must save memory, all do."""
    largest = max(plans, key=lambda plan: plan.host_peak_bytes)
    return replace(
        largest,
        mode="steps",
        window=package.manifest.input.window.shape,
        batch=1,
        accumulator="float16" if any(plan.accumulator == "float16" for plan in plans) else "float32",
        head_block=min(plan.head_block for plan in plans),
        mapped=any(plan.mapped for plan in plans),
        host_peak_bytes=largest.host_peak_bytes + between,
        host_parts={**largest.host_parts, "between": between},
        spill_bytes=max(plan.spill_bytes for plan in plans),
        seconds=sum(plan.seconds for plan in plans),
        reasons={"steps": ", then ".join(step.name for step in package.manifest.steps), **largest.reasons},
    )


def _between(package: ModelPackage, needs: tuple[Need, ...]) -> int:
    """Bytes that lie between the networks: geometry, or label maps that are merged and given on."""
    held = 0
    for step, need in zip(package.manifest.steps, needs, strict=True):
        if not isinstance(step, WindowStep):
            return _GEOMETRY_BYTES
        labels = need.scan_voxels * need.labels_itemsize
        # The merged labels lie beside those of the step; a step before it left its own, resampled as 32-bit labels.
        given = labels + 2 * 4 * max(need.scan_voxels, math.prod(need.grid_shape)) + _BORDER_BYTES
        held = max(held, labels + (given if step.after is not None else 0))
    return held


def infer_steps(
    part: Volume,
    package: ModelPackage,
    choices: Choices,
    sessions: Sessions,
    on_event: OnEvent,
    plan: Plan | None,
) -> Labelled:
    """Run the steps; each network is loaded when its turn comes, and freed after it."""
    sessions.close()
    if isinstance(package.manifest.steps[0], WindowStep):
        return _infer_windows(part, package, choices, on_event, plan)
    return _infer_geometry(part, package, choices, on_event, plan)


def _infer_windows(
    part: Volume, package: ModelPackage, choices: Choices, on_event: OnEvent, plan: Plan | None
) -> Labelled:
    from hounsfield.inference import RunSettings
    from hounsfield.inference.window_steps import StepsSettings, run_window_steps
    from hounsfield.usecases.inferring import label_room
    from hounsfield.usecases.stages import Labelled

    settings = StepsSettings() if plan is None else StepsSettings(RunSettings(1, plan.accumulator, plan.head_block))
    if plan is not None and plan.mapped:
        settings = replace(settings, store_in=Path(tempfile.gettempdir()), room=label_room)
    answer = run_window_steps(
        part,
        tuple(step for step in package.manifest.steps if isinstance(step, WindowStep)),
        lambda step: _opened(step, package, choices, plan),
        settings,
        lambda done, total: on_event(Progress("windows", done, total)),
    )
    total = answer.seconds["total"]
    figures = {
        "infer_seconds": round(total, 3),
        "network_seconds": round(answer.seconds["network"], 3),
        "steps": len(package.manifest.steps),
        "windows": answer.windows,
        "windows_skipped": answer.skipped,
        "windows_per_second": round(answer.windows / max(total, 1e-9), 2),
    }
    facts = answer.facts
    return Labelled(answer.labels, f"{facts['engine']} {facts['version']}", facts["precision"], facts, figures)


def _infer_geometry(
    part: Volume, package: ModelPackage, choices: Choices, on_event: OnEvent, plan: Plan | None
) -> Labelled:
    from hounsfield.inference.stepping import run_steps
    from hounsfield.usecases.inferring import prepared_part
    from hounsfield.usecases.stages import Labelled

    def opened(step: StepSpec) -> Session:
        return _opened(step, package, choices, plan, "logits").session

    answer = run_steps(
        prepared_part(part, package, plan),
        tuple(step for step in package.manifest.steps if not isinstance(step, WindowStep)),
        opened,
        lambda done, total: on_event(Progress("steps", done, total)),
    )
    figures = {
        "infer_seconds": round(answer.seconds["total"], 3),
        "network_seconds": round(answer.seconds["network"], 3),
        "steps": len(package.manifest.steps),
    }
    facts = answer.facts
    return Labelled(answer.labels, f"{facts['engine']} {facts['version']}", facts["precision"], facts, figures)


def _opened(
    step: StepSpec, package: ModelPackage, choices: Choices, plan: Plan | None, accumulate: Any = "auto"
) -> Loaded:
    """The network of a step on the planned engine."""
    from hounsfield.inference import LoadSettings, OnnxGraph, engine, load_network

    precision = proven_precision(package, choices)
    name = plan.engine if plan is not None else choices.engine or "openvino"
    threads = plan.threads if plan is not None else choices.threads
    channels, shape, _, _ = step.ends()
    settings = LoadSettings(precision, shape, channels, threads=threads, requests=1)
    graph = OnnxGraph(package.graph_path(precision, step.name), quantised=precision == "int8")
    return load_network(engine(name), graph, settings, accumulate)
