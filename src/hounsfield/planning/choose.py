"""Budget → Plan, or the smallest budget that would do and the knobs that reach it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from hounsfield.errors import EngineUnavailable
from hounsfield.planning.budget import Budget
from hounsfield.planning.cost import Candidate, Cost, slab_depth, whole_cost, window_cost
from hounsfield.planning.machine import Machine
from hounsfield.planning.need import Footprint, Need, Offer, WholeOffer
from hounsfield.planning.noplan import Knob, NoPlan, excess, grown
from hounsfield.planning.plan import Accumulate, Float, Plan
from hounsfield.planning.units import format_bytes

_MIB = 2**20
_BLOCK = 1 << 14


def choose(
    need: Need,
    budget: Budget,
    machine: Machine,
    offers: Sequence[Offer],
    whole: Sequence[WholeOffer] = (),
    footprint: Footprint | None = None,
) -> Plan | NoPlan:
    """The best plan that keeps the budget, or the reason why there is none.

    Plans are ordered the same way whatever the budget is, and a larger budget only admits
    more of them, so it never gives a worse plan. Better means: a proven precision, then exact
    accumulation, then fewer seconds, then less memory.

    Parameters
    ----------
    offers
        What each engine could run, available or not.
    whole
        The ways to run the whole volume, for ``need.mode == "whole"``.

    Raises
    ------
    EngineUnavailable
        If no offer can run at all here, whatever the budget.
    """
    footprint = footprint or Footprint()
    plans = list(_all_plans(need, machine, offers, whole, footprint))
    if not plans:
        raise _nothing_runs(need, offers)
    fitting = [plan for plan in plans if excess(plan, budget) <= 1]
    if fitting:
        return min(fitting, key=_rank)
    return _no_plan(need, budget, machine, (offers, whole), footprint, plans)


def _rank(plan: Plan) -> tuple[object, ...]:
    """The order of plans, best first; it does not depend on the budget."""
    exact = plan.storage == "fp32" if plan.mode == "whole" else plan.accumulator == "float32"
    seconds = float(f"{plan.seconds:.2g}")
    return (
        0 if exact else 1,
        seconds,
        plan.mapped,
        plan.host_peak_bytes,
        plan.engine,
        plan.precision,
        plan.threads,
        plan.batch,
    )


def _all_plans(
    need: Need, machine: Machine, offers: Sequence[Offer], whole: Sequence[WholeOffer], footprint: Footprint
) -> Iterator[Plan]:
    if need.mode == "whole":
        yield from _whole_plans(need, whole, footprint)
        return
    for candidate in _candidates(need, machine, offers):
        cost = window_cost(need, candidate, footprint)
        yield _window_plan(need, candidate, cost, machine)


def _wanted(need: Need, engine: str, precision: str, device: str, proven: bool) -> bool:
    return (
        (need.engine is None or engine == need.engine)
        and (need.device is None or device == need.device)
        and (precision == need.precision if need.precision is not None else True)
        and (proven or need.allow_unproven)
    )


def _candidates(need: Need, machine: Machine, offers: Sequence[Offer]) -> Iterator[Candidate]:
    widths: list[Accumulate] = ["logits"]
    if need.features is not None and need.features < need.classes:
        widths = ["features"]
    accumulators: tuple[Float, ...] = ("float32", "float16")
    for offer in offers:
        if offer.unavailable or not _wanted(need, offer.engine, offer.precision, offer.device, offer.proven):
            continue
        for window in (need.window, *need.other_windows):
            for batch in offer.batches:
                for threads in _thread_counts(machine, offer):
                    for accumulator in accumulators:
                        for mapped in (False, True):
                            yield Candidate(offer, window, batch, threads, widths[0], accumulator, _BLOCK, mapped)


def _thread_counts(machine: Machine, offer: Offer) -> tuple[int, ...]:
    """All cores; one only where a measurement says what that gives."""
    return (machine.cores, *(threads for threads in offer.calibrations if threads != machine.cores))


def _window_plan(need: Need, candidate: Candidate, cost: Cost, machine: Machine) -> Plan:
    offer = candidate.offer
    return Plan(
        engine=offer.engine,
        precision=offer.precision,
        device=offer.device,
        mode="window",
        window=candidate.window,
        overlap=need.overlap,
        batch=candidate.batch,
        threads=candidate.threads,
        accumulate=candidate.accumulate,
        accumulator=candidate.accumulator,
        head_block=candidate.head_block,
        slab_depth=slab_depth(need, candidate.window),
        storage="fp32",
        mapped=candidate.mapped,
        host_peak_bytes=cost.host_peak_bytes,
        device_peak_bytes=cost.device_bytes,
        spill_bytes=cost.spill_bytes,
        seconds=cost.seconds,
        calibrated=cost.calibrated,
        host_parts=cost.host_parts,
        reasons=_reasons(need, candidate, cost, machine),
    )


def _reasons(need: Need, candidate: Candidate, cost: Cost, machine: Machine) -> dict[str, str]:
    offer = candidate.offer
    pinned = "asked for"
    precision = "the package proves it" if offer.proven else "allowed without proof"
    if offer.precision == "bf16" and offer.fast and machine.fast_bf16:
        precision += ", and this CPU has AMX"
    reasons = {
        "engine": pinned if need.engine else "fastest of those that fit",
        "precision": pinned if need.precision else precision,
        "window": "the package's own" if candidate.window == need.window else "the package allows it",
        "threads": "all cores that may be used" if candidate.threads == machine.cores else "measured best in memory",
        "accumulate": f"{need.features} features are fewer than {need.classes} classes, and the head is linear"
        if candidate.accumulate == "features"
        else "class logits are the smaller",
        "accumulator": "exact" if candidate.accumulator == "float32" else "half the slab's memory; fp32 did not fit",
        "peak": f"reached while {cost.peak_phase}",
    }
    if candidate.mapped:
        reasons["mapped"] = "the prepared scan and the labels did not fit in memory"
    notes = offer.graph.notes
    return {**reasons, "graph": "; ".join(notes)} if notes else reasons


def _whole_plans(need: Need, whole: Sequence[WholeOffer], footprint: Footprint) -> Iterator[Plan]:
    for offer in whole:
        if not _wanted(need, offer.engine, offer.precision, "cpu", offer.proven):
            continue
        process = footprint.process_bytes.get(offer.engine, 500 * _MIB)
        for mapped in (False, True):
            cost = whole_cost(need, offer, process, mapped, footprint)
            yield _whole_plan(need, offer, mapped, cost)


def _whole_plan(need: Need, offer: WholeOffer, mapped: bool, cost: Cost) -> Plan:
    exact = offer.storage == "fp32" and offer.precision == "fp32"
    return Plan(
        engine=offer.engine,
        precision=offer.precision,
        device="cpu",
        mode="whole",
        window=need.window,
        overlap=need.overlap,
        batch=1,
        threads=offer.threads,
        accumulate="logits",
        accumulator="float32",
        head_block=_BLOCK,
        slab_depth=offer.slab_depth,
        storage=offer.storage,
        mapped=mapped,
        host_peak_bytes=cost.host_peak_bytes,
        device_peak_bytes=0,
        spill_bytes=cost.spill_bytes,
        seconds=cost.seconds,
        calibrated=False,
        slab_bytes=offer.slab_bytes,
        host_parts=cost.host_parts,
        reasons={
            "mode": "asked for",
            "storage": "equal to one pass over the whole volume" if exact else "less traffic; close to one pass",
            "slab_depth": f"slabs within {format_bytes(offer.slab_bytes)}",
            "peak": f"reached while {cost.peak_phase}",
        },
    )


def _nothing_runs(need: Need, offers: Sequence[Offer]) -> EngineUnavailable:
    reasons = sorted({f"{offer.engine}: {offer.unavailable}" for offer in offers if offer.unavailable})
    usable = sorted(
        {f"{offer.engine} {offer.precision} on {offer.device}" for offer in offers if not offer.unavailable}
    )
    unproven = sorted({offer.precision for offer in offers if not offer.proven and not offer.unavailable})
    if usable:
        hint = f"; {', '.join(unproven)} is not proven and needs --allow-unproven" if unproven else ""
        return EngineUnavailable(
            f"nothing runs this package as asked (engine {need.engine or 'any'}, precision {need.precision or 'any'}, "
            f"device {need.device or 'any'}, mode {need.mode})",
            f"what could run here: {', '.join(usable)}{hint}",
        )
    return EngineUnavailable(
        "no engine can run this package here", f"{'; '.join(reasons) or 'install openvino or onnxruntime'}"
    )


def _freer(need: Need) -> Iterator[tuple[str, Need]]:
    """What the user could let go, one thing at a time."""
    if not need.allow_unproven:
        yield "allow a precision without proof (--allow-unproven)", replace(need, allow_unproven=True)
    if need.precision is not None:
        yield f"let the precision be chosen instead of {need.precision}", replace(need, precision=None)
    if need.engine is not None:
        yield f"let the engine be chosen instead of {need.engine}", replace(need, engine=None)
    if need.device is not None:
        yield f"let the device be chosen instead of {need.device}", replace(need, device=None)
    if need.mode == "whole":
        yield "use the sliding window instead of the whole volume", replace(need, mode="window")
    if need.grid_shape[0] > need.window[0]:
        halved = (math.ceil(need.scan_shape[0] / 2), *need.scan_shape[1:])
        grid = (math.ceil(need.grid_shape[0] / 2), *need.grid_shape[1:])
        yield "crop the scan to half its slices", replace(need, scan_shape=halved, grid_shape=grid)


def _no_plan(
    need: Need,
    budget: Budget,
    machine: Machine,
    engines: tuple[Sequence[Offer], Sequence[WholeOffer]],
    footprint: Footprint,
    plans: Sequence[Plan],
) -> NoPlan:
    nearest = min(plans, key=lambda plan: (excess(plan, budget), _rank(plan)))
    knobs = []
    for change, freer in _freer(need):
        found = list(_all_plans(freer, machine, *engines, footprint))
        best = min(found, key=lambda plan: (excess(plan, budget), _rank(plan)), default=None)
        if best is not None and excess(best, budget) < excess(nearest, budget):
            knobs.append((excess(best, budget), Knob(change, *_takes(best))))
    knobs.sort(key=lambda pair: pair[0])
    smallest = grown(budget, nearest)
    first = Knob(f"give {smallest} ({_settings(nearest)})", *_takes(nearest))
    return NoPlan(budget, smallest, (first, *(knob for _, knob in knobs[:2])))


def _takes(plan: Plan) -> tuple[int, int, float]:
    return plan.host_peak_bytes, plan.device_peak_bytes, plan.seconds


def _settings(plan: Plan) -> str:
    """The knobs of a plan that save memory, in words."""
    words = [f"{plan.engine} {plan.precision}"]
    words += [f"{plan.accumulator} accumulators"] if plan.mode == "window" else [f"{plan.storage} activations"]
    words += [f"slabs of {plan.slab_depth} slices"]
    words += ["input and labels mapped to disk"] if plan.mapped else []
    return ", ".join(words)
