"""Measure what a graph takes in an engine: in a process of its own, so that its peak is its own.

    python -m hounsfield.usecases.calibrate '{"graph": ..., "engine": ...}'

prints one line of JSON. ``calibrate`` starts that process, and ``calibrated`` keeps its answer.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hounsfield.errors import EngineError, OutputError
from hounsfield.inference import accelerator
from hounsfield.inference.engine import LoadSettings, Network, OnnxGraph, engine
from hounsfield.inference.loading import load_network
from hounsfield.planning.calibration import Calibration, CalibrationKey, load, plausible, save
from hounsfield.planning.graph import GraphCost
from hounsfield.usecases.asking import answer, ask
from hounsfield.usecases.reference_network import network_of
from hounsfield.usecases.resident import forget_peak, peak_bytes, tree_bytes

_TIMED = 3
_LONGEST_SECONDS = 600.0


@dataclass(frozen=True)
class Measurable:
    """What is to be measured.

    Parameters
    ----------
    graph
        The ONNX file.
    channels
        Its input channels.
    quantised
        Whether it is an int8 graph.
    requests
        Windows under way at once, as the run will have.
    weights, architecture
        Reference weights and the description of their network, which PyTorch runs instead of the graph.
    """

    graph: Path
    channels: int = 1
    quantised: bool = False
    requests: int = 2
    weights: Path | None = None
    architecture: Mapping[str, Any] | None = None


def calibrated(
    what: Measurable, key: CalibrationKey, cost: GraphCost, folder: Path, measure: bool = True
) -> Calibration | None:
    """The calibration from the cache, or measured now and kept.

    Parameters
    ----------
    cost
        What the graph alone says; a record that cannot be true of it is measured again.
    folder
        The cache, ``settings.home / "calibration"``. If it cannot be written the answer is
        given all the same.
    measure
        False only looks into the cache.

    Raises
    ------
    EngineError
        If the engine cannot run the graph at all.
    """
    record = load(key, folder)
    if record is not None and plausible(record, cost):
        return record
    if not measure:
        return None
    record = calibrate(what, key)
    with suppress(OutputError):  # a cache that cannot be kept only costs the time to measure again
        save(record, folder)
    return record


def calibrate(what: Measurable, key: CalibrationKey, seconds: float = _LONGEST_SECONDS) -> Calibration:
    """Load the graph in a child process, run a few windows, and give what it took.

    Raises
    ------
    EngineError
        If the engine cannot load or run the graph, or takes longer than ``seconds``.
    """
    task = {
        "graph": str(what.graph),
        "channels": what.channels,
        "quantised": what.quantised,
        "requests": what.requests,
        "weights": None if what.weights is None else str(what.weights),
        "architecture": None if what.architecture is None else dict(what.architecture),
        "engine": key.engine,
        "precision": key.precision,
        "device": key.device,
        "threads": key.threads,
        "window": list(key.window),
        "batch": key.batch,
        "accumulate": key.accumulate,
    }
    try:
        found = ask("hounsfield.usecases.calibrate", task, seconds)
    except TimeoutError as error:
        raise EngineError(
            f"{key.engine} did not finish a few windows of the graph in {seconds:.0f} s",
            "choose a smaller window, a faster precision, or another engine",
            what.graph,
        ) from error
    if not isinstance(found, dict) or "process_bytes" not in found:
        reason = found.get("error") if isinstance(found, dict) else "no answer"
        raise EngineError(
            f"{key.engine} could not be measured on the graph: {str(reason)[:300]}",
            "choose another engine or precision, or run without calibration",
            what.graph,
        )
    return Calibration(key=key, **found)


def _measure(task: dict[str, Any]) -> dict[str, float | int]:
    """The measurement itself, in the child."""
    found = engine(task["engine"])
    settings = LoadSettings(
        precision=task["precision"],
        window=tuple(task["window"]),
        channels=task["channels"],
        batch=task["batch"],
        threads=task["threads"],
        device=task["device"],
        requests=task["requests"],
    )
    batch = np.random.default_rng(0).normal(size=settings.input_shape).astype(np.float32)
    process = tree_bytes(os.getpid())
    began = time.perf_counter()
    session = load_network(found, _network(task), settings, task["accumulate"]).session
    load_seconds = time.perf_counter() - began
    load_peak, loaded = peak_bytes(), tree_bytes(os.getpid())
    starts_again = forget_peak()
    times = []
    list(session.stream([batch] * settings.requests))  # the first is slower: buffers are made
    for _ in range(_TIMED):
        began = time.perf_counter()
        session.infer(batch)
        times.append(time.perf_counter() - began)
    peak = max(tree_bytes(os.getpid()), peak_bytes() if starts_again else 0)
    return {
        "process_bytes": process - batch.nbytes,
        "load_peak_bytes": max(load_peak, loaded) - process,
        "loaded_bytes": loaded - process,
        "workspace_bytes": max(0, peak - loaded) + batch.nbytes,
        "device_bytes": accelerator.peak_bytes(task["device"]),
        "seconds_per_window": statistics.median(times) / task["batch"],
        "load_seconds": load_seconds,
    }


def _network(task: Mapping[str, Any]) -> Network:
    """The reference weights where they are given, else the graph."""
    if task["weights"] is not None:
        return network_of(Path(task["weights"]), task["architecture"])
    return OnnxGraph(Path(task["graph"]), task["quantised"])


if __name__ == "__main__":
    raise SystemExit(answer(_measure))
