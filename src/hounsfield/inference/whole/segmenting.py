"""A prepared scan in, labels on its own grid out, by the exact equivalent of one whole-volume pass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import SettingsError
from hounsfield.inference.blended import Sums
from hounsfield.inference.deciding import Decider, Decision
from hounsfield.inference.head import Head
from hounsfield.inference.host import HostArrays
from hounsfield.inference.labelling import AxisMap, Labeller
from hounsfield.inference.sliding_window import Progress
from hounsfield.inference.whole.execute import Figures, WholeRun, WholeSettings
from hounsfield.inference.whole.network import Network
from hounsfield.inference.windows import WindowGrid
from hounsfield.preparing import Prepared, source_view
from hounsfield.preparing.mapped import release
from hounsfield.volume import LabelMap, Shape


@dataclass(frozen=True)
class WholeSegmented:
    """Labels on the scan's own grid, and what they took."""

    labels: LabelMap
    figures: Figures


def padded_shape(shape: Shape, multiple: Shape) -> tuple[Shape, Shape]:
    """The shape grown to multiples, and how much of the padding lies in front (half of it)."""
    grown = [math.ceil(n / m) * m for n, m in zip(shape, multiple, strict=True)]
    before = [(g - n) // 2 for g, n in zip(grown, shape, strict=True)]
    return (grown[0], grown[1], grown[2]), (before[0], before[1], before[2])


def segment_whole(
    prepared: Prepared,
    network: Network,
    rule: Decision,
    settings: WholeSettings,
    *,
    head: Head | None = None,
    pad_value: float = 0.0,
    out: NDArray[Any] | None = None,
    on_progress: Progress | None = None,
) -> WholeSegmented:
    """Run a network over a whole scan at once, in slabs.

    Parameters
    ----------
    prepared
        The scan as the network sees it.
    network
        From ``read_network``.
    rule
        How scores become labels.
    settings
        How to carry it out.
    head
        The linear head that was cut off the network, if it was.
    pad_value
        What the network sees around the scan where its sizes are no multiple of the network's stride.
    out
        Unsigned integers on the scan's grid to write into, for instance memory-mapped.
    on_progress
        Called with (slabs done, slabs in all).

    Raises
    ------
    OutputError
        If the folder for temporary files is full.
    EngineError, EngineUnavailable
        If the engine fails, or cannot run the network in slabs.
    SettingsError
        If ``out`` has another shape, or cannot hold the labels.
    """
    grid, before = padded_shape(prepared.shape, network.multiple())
    run = WholeRun(network, grid, settings)
    classes = run.classes if head is None else head.classes
    labels = _room(prepared, classes, out)
    if prepared.crop is not None:
        labels[...] = 0
    windows = WindowGrid(
        grid, (run.depths[-1], *grid[1:]), (tuple(start for start, _ in run.last_slabs), (0,), (0,)), before
    )
    outer = prepared.oriented.shape
    taps = prepared.taps_back(nearest=rule.nearest)
    axes = [AxisMap(n, b, m, tap) for n, b, m, tap in zip(prepared.shape, before, outer, taps, strict=True)]
    maps = (axes[0], axes[1], axes[2])
    view = source_view(labels, prepared)
    labeller = Labeller(windows, maps, Decider(rule, head), view, 1 << 15, HostArrays())
    held: NDArray[np.float32] | None = None
    reader = _Reader(prepared, grid, before, pad_value)
    for index, (start, _, answer) in enumerate(run.run(reader, on_progress)):
        box = answer if held is None else np.concatenate((held, answer), axis=1)
        labeller(Sums(box, None), (start - (box.shape[1] - answer.shape[1]), 0, 0), (index, 0, 0))
        held = answer[:, -1:].copy() if maps[0].halo else None
        release(labels)
    return WholeSegmented(LabelMap(labels, prepared.source), run.figures)


def _room(prepared: Prepared, classes: int, out: NDArray[Any] | None) -> NDArray[Any]:
    if out is None:
        return np.zeros(prepared.source.shape, np.uint8 if classes <= 255 else np.uint16)
    if out.shape != prepared.source.shape or out.dtype.kind != "u" or classes > np.iinfo(out.dtype).max:
        raise SettingsError(
            fact=f"{classes} labels of the scan {prepared.source.shape} do not go into {out.dtype} {out.shape}",
            remedy="give an array of unsigned integers of the scan's shape, wide enough",
        )
    return out


class _Reader:
    """Slices of the network's input, padded to the grid that the network needs."""

    def __init__(self, prepared: Prepared, grid: Shape, before: Shape, pad_value: float) -> None:
        self._prepared, self._grid, self._before, self._pad = prepared, grid, before, pad_value

    def __call__(self, start: int, stop: int) -> NDArray[np.float32]:
        for array in (self._prepared.stored, *(channel.array for channel in self._prepared.channels)):
            release(array)
        k, j, i = self._prepared.shape
        low, high = max(0, start - self._before[0]), min(k, stop - self._before[0])
        inside = (slice(low, max(low, high)), slice(0, j), slice(0, i))
        if (stop - start, *self._grid[1:]) == (high - low, j, i):
            return self._prepared.read(inside)
        channels = len(self._prepared.channels)
        out = np.full((channels, stop - start, *self._grid[1:]), self._pad, np.float32)
        if high > low:
            at = low + self._before[0] - start
            rows, columns = self._before[1], self._before[2]
            out[:, at : at + high - low, rows : rows + j, columns : columns + i] = self._prepared.read(inside)
        return out
