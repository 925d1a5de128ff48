"""The streaming sliding window: a prepared scan in, labels on the scan's own grid out.

Memory does not grow with the number of slices, nor (with a linear head) with the number of
classes: only what later windows still touch is held, finished boxes become labels at once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import SettingsError
from hounsfield.inference.blended import Sums
from hounsfield.inference.deciding import Decider, Decision
from hounsfield.inference.engine import Floats, Session
from hounsfield.inference.frontier import Frontier, Kept
from hounsfield.inference.head import Head
from hounsfield.inference.host import Arrays, HostArrays
from hounsfield.inference.labelling import AxisMap, Labeller
from hounsfield.inference.windows import WindowGrid, importance
from hounsfield.packages.manifest import WindowSpec
from hounsfield.preparing import Prepared, source_view
from hounsfield.preparing.mapped import release
from hounsfield.volume import LabelMap

Progress = Callable[[int, int], None]
SlabDone = Callable[[int, int, int], None]
Index = tuple[int, int, int]


@dataclass(frozen=True)
class RunSettings:
    """How a sliding window is carried out; the package says what it is (``WindowSpec``).

    Parameters
    ----------
    batch
        Windows per call of the network.
    accumulator
        Type of the sums that wait for later windows: float32, or float16 means.
    head_block
        Voxels that are decided at a time.
    axis
        Axis of the network's grid along which layers of windows follow each other; ``None``
        takes the longest, across which least must be held.
    skip_empty
        Skip windows that lie below the package's ``skip_below``, if it has one.
    """

    batch: int = 1
    accumulator: Literal["float32", "float16"] = "float32"
    head_block: int = 16384
    axis: int | None = None
    skip_empty: bool = True

    def __post_init__(self) -> None:
        if self.batch < 1 or self.head_block < 1 or self.axis not in (None, 0, 1, 2):
            raise SettingsError(
                fact=f"batch {self.batch}, head_block {self.head_block}, axis {self.axis} do not make sense",
                remedy="give at least 1, at least 1, and 0, 1, 2 or None",
            )


@dataclass(frozen=True)
class Segmented:
    """Labels and how they came about.

    Parameters
    ----------
    labels
        On the scan's own grid.
    windows, skipped
        How many windows there were, and how many of them were empty and not run.
    seconds
        Time by part: ``network`` (waiting for it), ``blend`` (blending, head, deciding and going
        back to the scan's grid), ``read`` (making network input), ``total``.
    """

    labels: LabelMap
    windows: int
    skipped: int
    seconds: dict[str, float] = field(default_factory=dict)


def walk_order(shape: tuple[int, ...], axis: int | None) -> tuple[int, int, int]:
    """Axes of the network's grid in the order of the walk: slowest first, then the rest, longest first."""
    first = max(range(3), key=lambda a: shape[a]) if axis is None else axis
    second, third = sorted((a for a in range(3) if a != first), key=lambda a: -shape[a])
    return (first, second, third)


def segment(
    prepared: Prepared,
    session: Session,
    window: WindowSpec,
    rule: Decision,
    *,
    head: Head | None = None,
    settings: RunSettings = RunSettings(),
    out: NDArray[Any] | None = None,
    layers: range | None = None,
    on_progress: Progress | None = None,
    on_slab: SlabDone | None = None,
) -> Segmented:
    """Run a network over a whole scan, window by window.

    Parameters
    ----------
    prepared
        The scan as the network sees it.
    session
        The network, loaded for ``window.shape`` and ``settings.batch``.
    window
        The package's window: shape, overlap, positions, blending.
    rule
        How scores become labels.
    head
        The linear head that was cut off the network, if it was.
    settings
        How to carry it out.
    out
        (slices, rows, columns) unsigned integers on the scan's grid to write into, for instance a
        memory-mapped file; by default a new uint8 array.
    layers
        Decide only these layers of windows along the walk's first axis (``out`` is needed then): several
        processes share a scan that way. Each voxel gets the label of an undivided run.
    on_progress
        Called with (windows done, windows in all).
    on_slab
        Called with (axis of the network's grid, low, high) when the scan voxels [low, high) along
        it have their labels.

    Returns
    -------
    Labels on ``prepared.source`` and what it took.

    Raises
    ------
    EngineError
        If the network fails, or its answers do not fit float16 accumulators.
    SettingsError
        If ``out`` has another shape, or cannot hold the labels.
    """
    return _Run(prepared, session, window, rule, head, settings, out, layers).go(on_progress, on_slab)


class _Run:
    """One pass over one scan."""

    def __init__(
        self,
        prepared: Prepared,
        session: Session,
        window: WindowSpec,
        rule: Decision,
        head: Head | None,
        settings: RunSettings,
        out: NDArray[Any] | None,
        layers: range | None,
    ) -> None:
        self._prepared, self._session, self._window, self._settings = prepared, session, window, settings
        self._order = walk_order(prepared.shape, settings.axis)
        self._grid = WindowGrid.over(prepared.shape, window).turned(self._order)
        self._labels = np.zeros(prepared.source.shape, np.uint8) if out is None else _checked(out, prepared)
        if prepared.crop is not None and layers is None:
            self._labels[...] = 0
        self._head, self._rule = head, rule
        self._back = np.argsort(self._order)
        outer = prepared.oriented.shape
        taps = prepared.taps_back(nearest=rule.nearest)
        maps = [
            AxisMap(prepared.shape[a], b, outer[a], taps[a])
            for a, b in zip(self._order, self._grid.before, strict=True)
        ]
        self._maps = (maps[0], maps[1], maps[2])
        view = source_view(self._labels, prepared).transpose(self._order)
        self._arrays: Arrays = getattr(session, "arrays", None) or HostArrays()
        self._decider = Decider(rule, head)
        self._labeller = Labeller(self._grid, self._maps, self._decider, view, settings.head_block, self._arrays)
        self._wanted = range(len(self._grid.starts[0])) if layers is None else layers
        self._layers = _with_neighbours(self._wanted, self._grid.starts[0], self._grid.window[0])
        self._total = self._grid.count // len(self._grid.starts[0]) * len(self._layers)
        self._frontier: Frontier | None = None
        self._plan: deque[tuple[Index, bool]] = deque()
        self._clock = {"network": 0.0, "blend": 0.0, "read": 0.0}
        self._done = self._skipped = 0

    def go(self, on_progress: Progress | None, on_slab: SlabDone | None) -> Segmented:
        """Draw windows, run them, blend them, in order."""
        began = time.perf_counter()
        answers = self._session.stream(self._batches())
        while True:
            asked, read = time.perf_counter(), self._clock["read"]
            answer = next(answers, None)
            self._clock["network"] += time.perf_counter() - asked - (self._clock["read"] - read)
            self._take(answer, on_progress, on_slab)
            if answer is None:
                break
        if self._frontier is None:  # every window was empty
            self._labeller.clear(self._wanted)
        self._clock["total"] = time.perf_counter() - began
        return Segmented(LabelMap(self._labels, self._prepared.source), self._total, self._skipped, self._clock)

    def _batches(self) -> Iterator[Floats]:
        """Inputs of the windows that are not empty; what is drawn is noted in ``_plan``."""
        waiting: list[Floats] = []
        for index in self._grid.layers(self._layers):
            began = time.perf_counter()
            values = self._read(index)
            self._plan.append((index, values is not None))
            if values is not None:
                waiting.append(values)
            self._clock["read"] += time.perf_counter() - began
            if len(waiting) == self._settings.batch:
                yield waiting[0][None] if len(waiting) == 1 else np.stack(waiting)
                waiting = []
        if waiting:
            yield np.stack(waiting)

    def _read(self, index: Index) -> Floats | None:
        """Network values (channels, k, j, i) of a window, ``None`` if it may be skipped."""
        inner, outer = [], []
        for axis in range(3):
            walk = int(self._back[axis])
            first = self._grid.starts[walk][index[walk]] - self._grid.before[walk]
            low, high = max(0, first), min(self._prepared.shape[axis], first + self._window.shape[axis])
            inner.append(slice(low, high))
            outer.append(slice(low - first, high - first))
        values = self._prepared.read((inner[0], inner[1], inner[2]))
        limit = self._window.skip_below
        if self._settings.skip_empty and limit is not None and float(values.max()) < limit:
            return None
        if values.shape[1:] == self._window.shape:
            return np.ascontiguousarray(values)
        padded = np.full((values.shape[0], *self._window.shape), self._window.pad_value, np.float32)
        padded[(slice(None), *outer)] = values
        return padded

    def _take(self, answers: Floats | None, on_progress: Progress | None, on_slab: SlabDone | None) -> None:
        """Blend a batch of answers, and the skipped windows before, between and (at the end) after."""
        left = deque([] if answers is None else answers)
        if self._frontier is None and left:
            self._frontier = self._start(left[0].shape[0])
        while self._plan and (left or not self._plan[0][1]):
            index, ran = self._plan.popleft()
            began = time.perf_counter()
            answer = left.popleft() if ran else None
            if self._frontier is not None:
                self._frontier.add(index, None if answer is None else self._arrays.turned(answer, self._order))
            self._clock["blend"] += time.perf_counter() - began
            self._done += 1
            self._skipped += answer is None
            if on_progress is not None:
                on_progress(self._done, self._total)
            if (index[1], index[2]) == (len(self._grid.starts[1]) - 1, len(self._grid.starts[2]) - 1):
                self._layer_done(index[0], on_slab)

    def _start(self, channels: int) -> Frontier:
        classes = channels if self._head is None else self._head.classes
        highest = classes - 1 if self._rule.rule == "highest" else classes
        if highest > np.iinfo(self._labels.dtype).max:
            raise SettingsError(f"{classes} labels do not fit {self._labels.dtype}", "give an array of uint16")
        half = self._settings.accumulator == "float16"
        halo = (self._maps[0].halo, self._maps[1].halo, self._maps[2].halo)
        skipping = self._settings.skip_empty and self._window.skip_below is not None
        kept = Kept(half, half or any(halo) or skipping or self._decider.weighted)
        weight = importance(self._window).transpose(self._order)
        return Frontier(self._grid, channels, weight, halo, self._arrays, kept, self._decide, self._order, self._layers)

    def _decide(self, sums: Sums, first: Index, index: Index) -> None:
        if index[0] in self._wanted:
            self._labeller(sums, first, index)

    def _layer_done(self, layer: int, on_slab: SlabDone | None) -> None:
        for array in (self._labels, self._prepared.stored, *self._prepared.voxels):
            release(array)
        if on_slab is not None and layer in self._wanted:
            low = self._labeller.finished(layer - 1) if layer else 0
            on_slab(self._order[0], low, self._labeller.finished(layer))


def _with_neighbours(wanted: range, starts: tuple[int, ...], window: int) -> range:
    """The layers that touch what the wanted ones decide, a halo voxel included."""
    if wanted.step != 1 or not 0 <= wanted.start < wanted.stop <= len(starts):
        raise SettingsError(f"there are no such layers of windows: {wanted}", f"give a part of range({len(starts)})")
    first = starts[wanted.start] - 1
    return range(next(i for i, start in enumerate(starts) if start + window > first), wanted.stop)


def _checked(out: NDArray[Any], prepared: Prepared) -> NDArray[Any]:
    if out.shape != prepared.source.shape or out.dtype.kind != "u":
        raise SettingsError(
            fact=f"labels of the scan {prepared.source.shape} do not go into {out.dtype} {out.shape}",
            remedy="give an array of unsigned integers of the scan's shape",
        )
    return out
