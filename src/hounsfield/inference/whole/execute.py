"""Run a network over a whole volume in slabs: stage after stage, activations kept on disk.

Within a stage slabs follow each other along k. A slab is read with the neighbouring slices
that the stencil needs, normalised with the mean and variance of the *whole* volume, run by the
engine and stored; on the way out its own mean and variance are gathered. So every value is the
one that a single pass over the whole volume would compute, up to rounding.
"""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import EngineError, SettingsError
from hounsfield.inference.whole.network import NORMALISATION, Network, Operator, TensorShape, float32
from hounsfield.inference.whole.piece import MASK, PIECES, Affine, Piece, PieceSpec, graph_of, mask_shape
from hounsfield.inference.whole.slabs import Reach, Slab, reach, slabs
from hounsfield.inference.whole.spill import Spill, SpilledArray
from hounsfield.inference.whole.stages import Stage, cut
from hounsfield.inference.whole.statistics import ChannelStatistics
from hounsfield.inference.whole.storage import storage_dtype, to_storage
from hounsfield.inference.whole.working_set import Layout, depth_for

Answer = tuple[int, int, NDArray[np.float32]]
Read = Callable[[int, int], NDArray[np.float32]]
_NOTHING: NDArray[np.float32] = np.empty((0, 0, 0, 0), np.float32)


@dataclass(frozen=True)
class WholeSettings:
    """How a whole-volume run is carried out.

    Parameters
    ----------
    engine, precision
        ``openvino`` or ``onnxruntime``; fp32 for the exact equivalent of one pass.
    storage
        Type of the activations kept between stages: fp32 (exact), fp16 or bf16.
    threads
        CPU threads of the engine and of the statistics.
    slab_bytes
        Slabs are as deep as keeps the working set of each stage within this.
    folder
        Where activations are kept; the system's temporary folder by default.
    """

    engine: str = "openvino"
    precision: str = "fp32"
    storage: str = "fp32"
    threads: int = 1
    slab_bytes: int = 256 << 20
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.engine not in PIECES:
            raise SettingsError(
                f"the whole-volume mode does not know the engine {self.engine!r}", f"use one of {', '.join(PIECES)}"
            )
        if self.precision not in ("fp32", "bf16", "fp16"):
            raise SettingsError(
                f"the whole-volume mode does not run in {self.precision}", "use fp32, bf16 or fp16, or the window mode"
            )
        if self.threads < 1 or self.slab_bytes < 1:
            raise SettingsError("threads and slab_bytes must be at least 1", "correct the plan")
        storage_dtype(self.storage)

    @property
    def layout(self) -> Layout:
        """What the working set depends on."""
        return Layout(self.storage, self.precision, self.engine)


@dataclass
class Figures:
    """What a run took: seconds by part, bytes written to and held on disk, slabs run."""

    seconds: dict[str, float] = field(default_factory=dict)
    written_bytes: int = 0
    spill_peak_bytes: int = 0
    slabs: int = 0
    stages: int = 0
    precision: str = ""

    def add(self, part: str, since: float) -> float:
        """Count the time since a moment to a part; gives the present moment."""
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - since
        return now


class WholeRun:
    """One pass of a network over one volume.

    Parameters
    ----------
    network
        From ``read_network``.
    grid
        (k, j, i) of the volume, a multiple of ``network.multiple()``.
    settings
        How to carry it out.
    """

    def __init__(self, network: Network, grid: tuple[int, int, int], settings: WholeSettings) -> None:
        self.network, self.settings = network, settings
        self.shapes: Mapping[str, TensorShape] = network.shapes(grid)
        self.stages: Sequence[Stage] = cut(network, self.shapes)
        self.figures = Figures(stages=len(self.stages), precision=settings.precision)
        self.depths = [
            depth_for(network, stage, self.shapes, settings.slab_bytes, settings.layout) for stage in self.stages
        ]
        self._dtype = storage_dtype(settings.storage)
        self._kept: dict[str, SpilledArray] = {}
        self._statistics: dict[str, ChannelStatistics] = {}
        self._buffers: dict[str, NDArray[Any]] = {}

    @property
    def classes(self) -> int:
        """Channels of the answer."""
        return self.shapes[self.network.output][0]

    @property
    def total_slabs(self) -> int:
        """Slabs of all stages."""
        return sum(len(self.slabs_of(stage, depth)) for stage, depth in zip(self.stages, self.depths, strict=True))

    @property
    def last_slabs(self) -> tuple[tuple[int, int], ...]:
        """[start, stop) of the slabs of the answer."""
        return tuple((slab.fresh, slab.stop) for slab in self.slabs_of(self.stages[-1], self.depths[-1]))

    def slabs_of(self, stage: Stage, depth: int) -> tuple[Slab, ...]:
        """The slabs in which a stage is run."""
        return slabs(self.shapes[stage.target][1], depth, stage.stencil)

    def run(self, read: Read, on_progress: Callable[[int, int], None] | None = None) -> Iterator[Answer]:
        """The answer, slab by slab.

        Parameters
        ----------
        read
            (first slice, past the last) → network input (channels, k, j, i) float32.
        on_progress
            Called with (slabs done, slabs in all).

        Yields
        ------
        Start, stop, and the answer (classes, slices, j, i) float32, valid until the next.

        Raises
        ------
        OutputError
            If the temporary folder is full.
        EngineError, EngineUnavailable
            If the engine fails or cannot run a stage; if an activation is not finite.
        """
        began = time.perf_counter()
        with Spill(self.settings.folder) as spill, ThreadPoolExecutor(self.settings.threads) as pool:
            self._measure_input(read)
            for stage, depth in zip(self.stages, self.depths, strict=True):
                final = stage.target == self.network.output
                for slab in self._stage(stage, depth, read, spill, pool):
                    self.figures.slabs += 1
                    if final:
                        since = time.perf_counter()
                        yield slab
                        self.figures.add("labels", since)
                    if on_progress is not None:
                        on_progress(self.figures.slabs, self.total_slabs)
                self._stage_done(stage, spill)
        self.figures.add("total", began)

    def _stage(self, stage: Stage, depth: int, read: Read, spill: Spill, pool: ThreadPoolExecutor) -> Iterator[Answer]:
        target = self.shapes[stage.target]
        final = stage.target == self.network.output
        if not final:
            self._kept[stage.target] = spill.create(target, self._dtype)
        if stage.normalised:
            self._statistics[stage.target] = ChannelStatistics(target[0])
        piece: Piece | None = None
        answer: NDArray[Any] | None = None
        built_for: object = None
        for slab in self.slabs_of(stage, depth):
            span = reach(stage.stencil, slab.start, slab.stop, self.shapes[stage.sources[0]][1])
            if piece is None or span.variant != built_for:
                piece = answer = None  # both hold memory that the next piece can use
                _give_back_free_memory()
                piece, built_for = self._compile(stage, span), span.variant
            since = time.perf_counter()
            inputs = {name: self._slab(name, span, read) for name in stage.sources}
            if _masked(stage):
                inputs[MASK] = _mask(span, self.shapes[stage.sources[0]][1])
            since = self.figures.add("read", since)
            answer = piece.run(inputs)[0][:, slab.fresh - slab.start :]
            since = self.figures.add("network", since)
            if final:
                yield slab.fresh, slab.stop, float32(answer)
            else:
                self._keep(stage, slab.fresh, answer, pool)
                self.figures.add("write", since)
                yield slab.fresh, slab.stop, _NOTHING

    def _compile(self, stage: Stage, span: Reach) -> Piece:
        since = time.perf_counter()
        shapes = {name: self._slab_shape(name, span) for name in stage.sources}
        channels, _, j, i = self.shapes[stage.target]
        short = self.settings.precision == "bf16"
        answer = (channels, span.depth, j, i)
        spec = PieceSpec(span, shapes, answer, self.settings.storage, short, _masked(stage))
        norms = [op for op in stage.operators if op.kind == NORMALISATION]
        affine = {op.activations[0]: self._affine(op) for op in norms}
        kind = PIECES[self.settings.engine]
        graph = graph_of(self.network, stage, spec, affine, kind.weights_beside)
        piece: Piece = kind(graph, self.settings.precision, self.settings.threads, spec)
        if self.settings.precision == "fp32" and piece.precision != "fp32":
            raise EngineError(
                f"fp32 was asked for, but {self.settings.engine} would compute in {piece.precision}",
                "choose another engine, or allow that precision",
            )
        self.figures.precision = piece.precision
        self.figures.add("compile", since)
        return piece

    def _affine(self, op: Operator) -> Affine:
        statistics = self._statistics[op.activations[0]]
        gamma, beta = float32(op.constants[1]), float32(op.constants[2])
        return statistics.affine(gamma, beta, float(op.attributes.get("epsilon", 1e-5)))

    def _slab_shape(self, name: str, span: Reach) -> TensorShape:
        channels, _, j, i = self.shapes[name]
        return channels, span.high - span.low, j, i

    def _slab(self, name: str, span: Reach, read: Read) -> NDArray[Any]:
        """Slices of a kept activation, (1, channels, k, j, i), in a buffer that is used again."""
        shape = self._slab_shape(name, span)
        before, after = span.outside(self.shapes[name][1])
        inside = slice(before, shape[1] - after)
        if name == self.network.input:
            values = float32(read(span.low + before, span.high - after))
            return np.pad(values, ((0, 0), (before, after), (0, 0), (0, 0)))[None] if before or after else values[None]
        size = math.prod(shape)
        flat = self._buffers.get(name)
        if flat is None or flat.size < size:
            flat = self._buffers[name] = np.empty(size, self._dtype)
        slab = flat[:size].reshape(shape)
        slab[:, :before] = 0
        slab[:, shape[1] - after :] = 0
        self._kept[name].read(span.low + before, span.high - after, slab[:, inside])
        return slab[None]

    def _keep(self, stage: Stage, start: int, answer: NDArray[Any], pool: ThreadPoolExecutor) -> None:
        """Store a slab and take it into the statistics, channel by channel on all threads."""
        kept, statistics = self._kept[stage.target], self._statistics.get(stage.target)

        def channel(index: int) -> None:
            values = float32(answer[index])
            if statistics is not None:
                statistics.add(index, values)
            kept.write(slice(index, index + 1), start, to_storage(values, self._dtype)[None])

        list(pool.map(channel, range(answer.shape[0])))

    def _stage_done(self, stage: Stage, spill: Spill) -> None:
        statistics = self._statistics.get(stage.target)
        if statistics is not None and not np.isfinite(statistics.variance()).all():
            raise EngineError(
                "an activation of the network is not a finite number", "check the scan for values that are not numbers"
            )
        for name in stage.last_use:
            if name in self._kept:
                self._kept.pop(name).close()
            self._statistics.pop(name, None)
        self._buffers.clear()
        self.network.release_weights()
        self.figures.spill_peak_bytes, self.figures.written_bytes = spill.peak_bytes, spill.written_bytes
        _give_back_free_memory()

    def _measure_input(self, read: Read) -> None:
        """Mean and variance of the input, for networks that begin with a normalisation."""
        if not any(op.kind == NORMALISATION and op.inputs[0] == self.network.input for op in self.network.operators):
            return
        channels, length, _, _ = self.shapes[self.network.input]
        statistics = self._statistics[self.network.input] = ChannelStatistics(channels)
        for slab in slabs(length, 8):
            for channel, values in enumerate(read(slab.fresh, slab.stop)):
                statistics.add(channel, float32(values))


def _masked(stage: Stage) -> bool:
    """Whether a stage reads slices outside the volume that normalisation would make other than zero."""
    stencil = stage.stencil
    if stencil is None or not stage.operators or not stencil.kind.startswith("Conv"):
        return False
    return stencil.kind == "ConvTranspose" or any((stencil.attributes["pads"][0], stencil.attributes["pads"][3]))


def _mask(span: Reach, size: int) -> NDArray[np.float32]:
    mask = np.ones(mask_shape(span), np.float32)
    before, after = span.outside(size)
    mask[:, :, :before] = 0
    mask[:, :, mask.shape[2] - after :] = 0
    return mask


def _give_back_free_memory() -> None:
    """Let the allocator return what is free, so that one stage's peak does not stay in the next."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library
        return
    trim(0)
