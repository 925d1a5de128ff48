"""What whole-volume runs would take, as offers that planning can choose from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from hounsfield.inference.whole.execute import WholeRun, WholeSettings
from hounsfield.inference.whole.network import Network
from hounsfield.inference.whole.segmenting import padded_shape
from hounsfield.inference.whole.working_set import working_set
from hounsfield.planning import Machine, WholeOffer

# What a process grows by besides working sets and what planning counts for every process: threads, compiled
# pieces, what the allocator keeps. See benchmarks/memory_contract.py.
_AROUND_BYTES = {"openvino": 25 << 20, "onnxruntime": 0}
_COPIES_WHILE_READING = 3
_SLAB_BYTES = tuple(int(2**power) << 20 for power in (4, 5, 6, 6.5, 7, 7.5, 8, 8.5, 9, 10, 11))
_WAYS = (
    ("openvino", "fp32", "fp32"),
    ("onnxruntime", "fp32", "fp32"),
    ("openvino", "bf16", "fp16"),
)
_OPERATIONS_PER_THREAD_SECOND = {"fp32": 4e10, "bf16": 1.2e11}
_KEEP_BYTES_PER_SECOND = 3e8
_SECONDS_PER_SLAB = 0.15


def whole_offers(
    network: Network,
    shape: tuple[int, int, int],
    machine: Machine,
    proven: Iterable[str] = ("fp32",),
    engines: Iterable[str] = ("openvino",),
) -> Iterator[WholeOffer]:
    """Whole-volume runs of a network over a volume, from shallow to deep slabs.

    Parameters
    ----------
    network
        From ``read_network``.
    shape
        (k, j, i) of the scan on the network's grid.
    machine
        Its threads and whether bf16 is fast; bf16 is only offered where it is.
    proven
        Precisions for which the package holds evidence.
    engines
        Those that are installed.

    Yields
    ------
    Offers whose ``workspace_bytes`` is what the run adds to a process that has read the scan
    and imported the engine.
    """
    grid, _ = padded_shape(shape, network.multiple())
    allowed, known = set(proven), set(engines)
    for engine, precision, storage in _WAYS:
        if engine not in known or (precision == "bf16" and not machine.fast_bf16):
            continue
        seen: set[tuple[int, ...]] = set()
        for slab_bytes in _SLAB_BYTES:
            settings = WholeSettings(engine, precision, storage, machine.cores, slab_bytes)
            run = WholeRun(network, grid, settings)
            if tuple(run.depths) not in seen:
                seen.add(tuple(run.depths))
                yield _offer(run, precision in allowed)


def predicted_workspace(run: WholeRun) -> int:
    """Peak bytes that a run adds to a process with the engine loaded: the largest working set, weights included."""
    sets = [
        working_set(run.network, stage, run.shapes, depth, run.settings.layout).total
        for stage, depth in zip(run.stages, run.depths, strict=True)
    ]
    answer = math.prod(run.shapes[run.network.output]) // run.shapes[run.network.output][1] * run.depths[-1] * 8
    return max(*sets, sets[-1] + answer) + _AROUND_BYTES[run.settings.engine]


def full_resolution_depth(run: WholeRun) -> int:
    """The shallowest slab among the stages that make as many slices as the answer has."""
    slices = run.shapes[run.network.output][1]
    return min(
        depth for stage, depth in zip(run.stages, run.depths, strict=True) if run.shapes[stage.target][1] == slices
    )


def predicted_spill(run: WholeRun) -> int:
    """Peak bytes of temporary files: kept activations from when they are made to their last use."""
    itemsize = 4 if run.settings.storage == "fp32" else 2
    now = peak = 0
    for stage in run.stages:
        if stage.target != run.network.output:
            now += math.prod(run.shapes[stage.target]) * itemsize
        peak = max(peak, now)
        now -= sum(math.prod(run.shapes[name]) * itemsize for name in stage.last_use if name != run.network.input)
    return peak


def _offer(run: WholeRun, proven: bool) -> WholeOffer:
    settings = run.settings
    kept = sum(math.prod(run.shapes[stage.target]) for stage in run.stages[:-1]) * 4
    arithmetic = run.network.operations(run.shapes) / (
        _OPERATIONS_PER_THREAD_SECOND[settings.precision] * settings.threads
    )
    return WholeOffer(
        engine=settings.engine,
        precision="bf16" if settings.precision == "bf16" else "fp32",
        storage="fp32" if settings.storage == "fp32" else "fp16",
        slab_bytes=settings.slab_bytes,
        slab_depth=full_resolution_depth(run),
        workspace_bytes=predicted_workspace(run),
        spill_bytes=predicted_spill(run),
        seconds=arithmetic
        + kept * _COPIES_WHILE_READING / _KEEP_BYTES_PER_SECOND
        + run.total_slabs * _SECONDS_PER_SLAB,
        threads=settings.threads,
        proven=proven,
    )
