"""What a candidate takes: peak host memory by phase and part, device memory, seconds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from hounsfield.planning.calibration import Calibration, plausible
from hounsfield.planning.need import Footprint, Need, Offer, Shape, WholeOffer
from hounsfield.planning.plan import Accumulate, Float

# Conservative stand-ins where nothing was measured. Factors are on the fp32 liveness arena.
# A precision that an engine only emulates keeps fp32 buffers, so only `fast` ones shrink.
_ARENA_FACTOR = {"openvino": 1.3, "onnxruntime": 1.6, "torch": 2.5}
_SHRINK = {"fp32": 1.0, "bf16": 0.65, "fp16": 0.65, "int8": 0.55}
_WEIGHTS_FACTOR = {"openvino": 2.2, "onnxruntime": 2.2, "torch": 2.0}
_LOAD_FACTOR = {"openvino": 4.0, "onnxruntime": 3.5, "torch": 3.0}
_OPERATIONS_PER_THREAD_SECOND = {"fp32": 4e10, "bf16": 4e10, "fp16": 3e10, "int8": 5e10}
_FAST_OPERATIONS_PER_THREAD_SECOND = {"fp32": 4e10, "bf16": 1.6e11, "fp16": 1e11, "int8": 2.5e11}
_DEVICE_OPERATIONS_PER_SECOND = {"fp32": 5e12, "bf16": 2e13, "fp16": 2e13, "int8": 2e13}
_BLEND_BYTES_PER_SECOND = 1.5e9
_MARGIN = 0.05
_FEW_SEGMENTS = 8
_FRAME_HEADER_BYTES = 18 * 2**10  # the functional groups of a frame as objects; measured with 11,000 frames


@dataclass(frozen=True)
class Candidate:
    """One point of the search: an offer with every knob set."""

    offer: Offer
    window: Shape
    batch: int
    threads: int
    accumulate: Accumulate
    accumulator: Float
    head_block: int
    mapped: bool


@dataclass(frozen=True)
class Cost:
    """What a candidate takes.

    Parameters
    ----------
    phases
        Phase → part → bytes; the host peak is the largest sum of a phase, plus a small margin.
    """

    phases: Mapping[str, Mapping[str, int]]
    device_bytes: int
    spill_bytes: int
    seconds: float
    calibrated: bool

    @property
    def peak_phase(self) -> str:
        """The phase that takes most."""
        return max(self.phases, key=lambda name: sum(self.phases[name].values()))

    @property
    def host_parts(self) -> dict[str, int]:
        """The parts of the peak phase, with the margin."""
        parts = dict(self.phases[self.peak_phase])
        return {**parts, "margin": math.ceil(sum(parts.values()) * _MARGIN)}

    @property
    def host_peak_bytes(self) -> int:
        """Predicted peak of the process's resident memory."""
        return sum(self.host_parts.values())


@dataclass(frozen=True)
class _EngineCost:
    process_bytes: int
    load_bytes: int
    loaded_bytes: int
    workspace_bytes: int
    device_bytes: int
    seconds_per_window: float
    load_seconds: float
    calibrated: bool


def stream_bytes(need: Need, candidate: Candidate) -> dict[str, int]:
    """Buffers of the streaming window: what later windows still touch, and one block of the head.

    Three buffers of blended channels: the column that the next window touches again, the row that
    the next row of windows does, and the slab that the next layer does. Sums are made in the
    network's own answer; only with resampling in a block of their own, larger by the halo. The walk
    goes along the longest axis, so that the slab is as small as can be.
    """
    window = candidate.window
    grid = need.padded_grid(window)
    order = sorted(range(3), key=lambda axis: -need.grid_shape[axis])
    deep, high, wide = (window[axis] for axis in order)
    rows, columns = grid[order[1]], grid[order[2]]
    halo = 1 if need.resampled else 0
    lines = need.starts(window)
    again = [_touched_again(lines[axis], window[axis], halo) for axis in order]
    featured = candidate.accumulate == "features" and bool(need.features)
    width = need.features if candidate.accumulate == "features" and need.features else need.classes
    half = candidate.accumulator == "float16"
    weighted = int(half or need.resampled or featured or need.skipping or need.weighted)
    kept = (deep * again[1] * columns + again[0] * rows * columns) * (2 if half else 4)
    column = (deep + halo) * (high + halo) * again[2] * 4
    block = (deep + halo) * (high + halo) * (wide + halo) * 4
    blocks = weighted + (width if need.resampled or need.skipping else 0)
    head = candidate.head_block * (width + 1 + need.classes) * 4 * 2
    return {"stream": (width + weighted) * (kept + column) + blocks * block, "head": head}


def _touched_again(line: tuple[int, ...], window: int, halo: int) -> int:
    """Voxels along an axis that the next window needs, at most."""
    return max((start + window - after + halo for start, after in itertools.pairwise(line)), default=0)


def slab_depth(need: Need, window: Shape) -> int:
    """Slices that become final with each layer of windows along the longest axis."""
    axis = max(range(3), key=lambda a: need.grid_shape[a])
    steps = [after - start for start, after in itertools.pairwise(need.starts(window)[axis])]
    return min(need.grid_shape[axis], max(steps, default=window[axis]))


def window_cost(need: Need, candidate: Candidate, footprint: Footprint) -> Cost:
    """The cost of a sliding-window run."""
    engine = _engine_cost(need, candidate, footprint)
    stream = stream_bytes(need, candidate)
    windows = need.windows(candidate.window)
    width = need.features if candidate.accumulate == "features" and need.features else need.classes
    window_bytes = math.prod(candidate.window) * width * 4
    blending = windows * window_bytes * 3 / _BLEND_BYTES_PER_SECOND
    head = math.prod(need.padded_grid(candidate.window)) * (width + need.classes) * 4 / _BLEND_BYTES_PER_SECOND
    seconds = engine.load_seconds + windows * engine.seconds_per_window + blending + head + _around(need)
    engine_parts = {"process": engine.process_bytes, "weights": engine.loaded_bytes}
    on_device = candidate.offer.device != "cpu" and candidate.offer.engine == "torch"  # its sums lie there too
    device_bytes = engine.device_bytes + (sum(stream.values()) if on_device else 0)
    running = {**engine_parts, "workspace": engine.workspace_bytes, **({} if on_device else stream)}
    return Cost(
        phases=_phases(need, candidate.mapped, engine, running, footprint),
        device_bytes=math.ceil(device_bytes * (1 + _MARGIN)),
        spill_bytes=_mapped_bytes(need) if candidate.mapped else 0,
        seconds=seconds,
        calibrated=engine.calibrated,
    )


def whole_cost(need: Need, offer: WholeOffer, process_bytes: int, mapped: bool, footprint: Footprint) -> Cost:
    """The cost of a whole-volume run in slabs."""
    engine = _EngineCost(process_bytes, 0, 0, offer.workspace_bytes, 0, 0.0, 0.0, True)
    running = {"process": process_bytes, "slabs": offer.workspace_bytes}
    return Cost(
        phases=_phases(need, mapped, engine, running, footprint),
        device_bytes=0,
        spill_bytes=offer.spill_bytes + (_mapped_bytes(need) if mapped else 0),
        seconds=offer.seconds + _around(need),
        calibrated=False,
    )


def _phases(
    need: Need, mapped: bool, engine: _EngineCost, running: dict[str, int], footprint: Footprint
) -> dict[str, dict[str, int]]:
    """What is alive while reading, preparing, loading, inferring and writing."""
    process = {"process": engine.process_bytes}
    scan = need.scan_voxels * need.scan_itemsize
    stored = math.prod(need.grid_shape) * need.channels * 4 if need.resampled else 0
    layer = _layer(need) * need.channels * 4
    prepared = layer if mapped or not need.resampled else stored
    labels = 0 if mapped else need.scan_voxels * need.labels_itemsize
    transient = math.ceil(layer * footprint.resample_per_voxel / 4) if need.resampled else 0
    return {
        "reading": {**process, "scan": scan, "reading": math.ceil(need.scan_voxels * footprint.read_per_voxel)},
        "preparing": {**process, "scan": scan, "prepared": prepared, "resampling": transient},
        "loading": {**process, "scan": scan, "prepared": prepared, "loading": engine.load_bytes},
        "inferring": {**running, "scan": scan, "prepared": prepared, "labels": labels},
        "writing": {
            **process,
            "weights": engine.loaded_bytes,
            "scan": scan,
            "labels": labels,
            "writing": math.ceil(need.scan_voxels * footprint.write_per_voxel) + _segmentation_bytes(need),
        },
    }


def _segmentation_bytes(need: Need) -> int:
    """A binary SEG while it is written: a frame for each slice that a segment touches, held twice, and its header.

    Few segments are taken to touch every slice. Of many, which are organs that lie apart, a quarter is: of 117
    it was 14 to 22 % of all slices in segmentations of five real scans.
    """
    if not need.labels_itemsize:
        return 0
    segments = min(need.classes, max(_FEW_SEGMENTS, math.ceil(need.classes / 4)))
    slices, rows, columns = need.scan_shape
    return slices * segments * (rows * columns // 4 + _FRAME_HEADER_BYTES)


def _layer(need: Need) -> int:
    """Voxels of the network's input that are read for one layer of windows, or held of a mapped file."""
    if not need.resampled:
        return math.prod(need.window)
    axis = max(range(3), key=lambda a: need.grid_shape[a])
    depth = min(need.window[axis], need.grid_shape[axis])
    return math.prod(need.grid_shape) // need.grid_shape[axis] * depth


def _mapped_bytes(need: Need) -> int:
    stored = math.prod(need.grid_shape) * need.channels * 4 if need.resampled else 0
    return stored + need.scan_voxels * need.labels_itemsize


def _around(need: Need) -> float:
    """Seconds of reading, resampling and writing: about 40 ns a voxel on one old core."""
    return 0.5 + 4e-8 * (need.scan_voxels + math.prod(need.grid_shape) * need.channels)


def _engine_cost(need: Need, candidate: Candidate, footprint: Footprint) -> _EngineCost:
    record = candidate.offer.calibrations.get(candidate.threads)
    if record is not None and plausible(record, candidate.offer.graph):
        return _measured(candidate, record, footprint)
    return _bounded(need, candidate, footprint)


def _measured(candidate: Candidate, record: Calibration, footprint: Footprint) -> _EngineCost:
    return _EngineCost(
        process_bytes=record.process_bytes + footprint.outside_bytes,
        load_bytes=record.load_peak_bytes,
        loaded_bytes=record.loaded_bytes,
        workspace_bytes=record.workspace_for(candidate.window, candidate.batch),
        device_bytes=math.ceil(record.device_bytes * candidate.batch / record.key.batch),
        seconds_per_window=record.seconds_for(candidate.window),
        load_seconds=record.load_seconds,
        calibrated=record.key.window == candidate.window and record.key.batch == candidate.batch,
    )


def _bounded(need: Need, candidate: Candidate, footprint: Footprint) -> _EngineCost:
    """Conservative arithmetic from the graph alone; a window's input and output come on top."""
    offer, engine = candidate.offer, candidate.offer.engine
    voxels = math.prod(candidate.window)
    graph = offer.graph.scaled(voxels * candidate.batch)
    shrink = _SHRINK[offer.precision] if offer.fast else 1.0
    arena = math.ceil(graph.arena_bytes * _ARENA_FACTOR.get(engine, 2.5) * shrink)
    ends = graph.input_bytes + voxels * candidate.batch * (need.features or need.classes) * 4
    weights = math.ceil(graph.weights_bytes * _WEIGHTS_FACTOR.get(engine, 3.0))
    load = math.ceil(graph.weights_bytes * _LOAD_FACTOR.get(engine, 4.0)) + 64 * 2**20
    on_host = offer.device == "cpu"
    if on_host:
        table = _FAST_OPERATIONS_PER_THREAD_SECOND if offer.fast else _OPERATIONS_PER_THREAD_SECOND
        rate = table[offer.precision] * candidate.threads
    else:
        rate = _DEVICE_OPERATIONS_PER_SECOND[offer.precision]
    process = footprint.process_bytes.get(engine, 500 * 2**20) + footprint.outside_bytes
    return _EngineCost(
        process_bytes=process if on_host else process + 600 * 2**20,
        load_bytes=load,
        loaded_bytes=weights,
        workspace_bytes=ends + (arena if on_host else 0),
        device_bytes=0 if on_host else arena + weights + ends + 700 * 2**20,
        seconds_per_window=graph.operations / candidate.batch / rate,
        load_seconds=2.0 + graph.weights_bytes / 3e7,
        calibrated=False,
    )
