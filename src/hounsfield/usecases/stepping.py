"""Packages of several steps: planned network by network, run one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from hounsfield.packages import ModelPackage, Precision
from hounsfield.packages.steps import StepSpec
from hounsfield.planning import Budget, Machine, Need, NoPlan, Offer, Plan, choose, read_cost
from hounsfield.preparing import Prepared
from hounsfield.usecases.events import OnEvent, Progress
from hounsfield.usecases.job import Choices
from hounsfield.usecases.sessions import Sessions, proven_precision

if TYPE_CHECKING:
    from hounsfield.inference.engine import Session
    from hounsfield.usecases.stages import Labelled

_MIB = 2**20
#: Parts of the scan and of coordinates that the geometry between two networks holds (4 million voxels at a time).
_BETWEEN_BYTES = 256 * _MIB


def plan_steps(package: ModelPackage, need: Need, budget: Budget, machine: Machine, offers: Iterable[Offer]) -> Plan:
    """One plan for all steps: the engine of the first, the peak of the largest, the time of all together.

    Parameters
    ----------
    need
        As for a package of one window; its grid is that of the scan.
    offers
        What each engine could run; their graph costs are replaced by those of each step.

    Raises
    ------
    DoesNotFit
        If a step does not keep the budget (a ``NoPlan``).
    """
    plans: list[Plan] = []
    kept = tuple(offers)
    if budget.host_bytes is not None:
        budget = replace(budget, host_bytes=max(1, budget.host_bytes - _BETWEEN_BYTES))
    for step in package.manifest.steps:
        precision = cast(Precision, need.precision)
        channels, shape, classes, _ = step.ends()
        cost = read_cost(package.graph_path(precision, step.name), shape)
        asked = replace(
            need,
            grid_shape=shape,
            window=shape,
            overlap=0.0,
            channels=channels,
            classes=classes,
            features=None,
            engine=plans[0].engine if plans else need.engine,
            mode="window",
        )
        answer = choose(asked, budget, machine, [replace(offer, graph=cost, calibrations={}) for offer in kept])
        if isinstance(answer, NoPlan):
            raise answer
        plans.append(answer)
    largest = max(plans, key=lambda plan: plan.host_peak_bytes)
    return replace(
        largest,
        mode="steps",
        window=package.manifest.input.window.shape,
        host_peak_bytes=largest.host_peak_bytes + _BETWEEN_BYTES,
        host_parts={**largest.host_parts, "between": _BETWEEN_BYTES},
        seconds=sum(plan.seconds for plan in plans),
        reasons={"steps": ", then ".join(step.name for step in package.manifest.steps), **largest.reasons},
    )


def infer_steps(
    prepared: Prepared,
    package: ModelPackage,
    choices: Choices,
    sessions: Sessions,
    on_event: OnEvent,
    plan: Plan | None,
) -> Labelled:
    """Run the steps; each network is loaded when its turn comes, and freed after it."""
    from hounsfield.inference import LoadSettings, OnnxGraph, engine
    from hounsfield.inference.stepping import run_steps
    from hounsfield.usecases.stages import Labelled

    sessions.close()
    precision = proven_precision(package, choices)
    name = plan.engine if plan is not None else choices.engine or "openvino"
    threads = plan.threads if plan is not None else choices.threads

    def opened(step: StepSpec) -> Session:
        channels, shape, _, _ = step.ends()
        settings = LoadSettings(precision, shape, channels, threads=threads, requests=1)
        graph = OnnxGraph(package.graph_path(precision, step.name), quantised=precision == "int8")
        return engine(name).load(graph, settings)

    answer = run_steps(
        prepared,
        package.manifest.steps,
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
