"""Second stage of one scan: prepare it, run the network as planned, restore, clean up."""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.inference import accelerator
from hounsfield.inference.clean_up import clean_up
from hounsfield.packages import ModelPackage
from hounsfield.planning import Plan
from hounsfield.preparing import Prepared, prepare
from hounsfield.usecases.events import OnEvent, Progress
from hounsfield.usecases.job import Choices
from hounsfield.usecases.sessions import Sessions
from hounsfield.usecases.spots import Spot, joined
from hounsfield.usecases.stages import Labelled, Loaded
from hounsfield.volume import Volume


def infer_stage(
    loaded: Loaded,
    package: ModelPackage,
    choices: Choices,
    sessions: Sessions,
    on_event: OnEvent,
    plan: Plan | None = None,
) -> Labelled:
    """Prepare, run the network as planned, restore, clean up."""
    device = choices.checked_device()
    accelerator.forget_peak(device)
    before, began = time.process_time(), time.perf_counter()
    if package.manifest.input.record:
        from hounsfield.usecases.fusing import fuse

        network = fuse(loaded, package, choices, on_event)
    elif package.manifest.output.classes and package.manifest.input.times is None:
        from hounsfield.usecases.classifying import classify

        network = classify(loaded, package, choices, sessions, on_event, plan)
        if choices.explain:
            from hounsfield.usecases.explaining import explain

            maps, told = explain(loaded, package, network)
            network = replace(network, explanations=maps, warnings=(*network.warnings, *told))
    elif package.manifest.input.times is not None:
        from hounsfield.usecases.sequences import read_sequence

        network = read_sequence(loaded, package, choices, on_event)
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
    if device != "cpu":
        figures["device_peak_mib"] = round(accelerator.peak_bytes(device) / 2**20, 1)
    return replace(network, figures=figures, plan=_what_ran(package, network.plan, plan))


def _labelled(
    spot: Spot, package: ModelPackage, choices: Choices, sessions: Sessions, on_event: OnEvent, plan: Plan | None
) -> Labelled:
    """The labels of one part, cleaned up, on its own grid."""
    if package.manifest.steps:
        from hounsfield.usecases.stepping import infer_steps

        network = infer_steps(spot.part, package, choices, sessions, on_event, plan)
    else:
        prepared = prepared_part(spot.part, package, plan)
        room = label_room(spot.part.shape, _label_type(package)) if plan is not None and plan.mapped else None
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


def _label_type(package: ModelPackage) -> Any:
    return np.uint8 if package.manifest.output.channels <= 256 else np.uint16


def label_room(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Labels in an unlinked temporary file instead of memory."""
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, "w+", shape=shape)


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
