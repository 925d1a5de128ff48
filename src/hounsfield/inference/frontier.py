"""Blending windows while holding only what later windows still touch.

Windows come in the order of the grid, last axis (x) fastest. The network's own answer is the
place where sums are made: it is weighed where it lies, and what earlier windows left is added
to it. Three buffers keep that: the *column* that the next window touches again (overlap of x),
the *row* that the next row of windows touches again (full x, overlap of y, depth of a window),
and the *slab* that the next layer of windows touches again (full x and y, overlap of z). When a
window is done, the box that no later window touches leaves as sums of ``weight * answer`` and,
where somebody needs them, of ``weight``.

With ``halo`` 1 along an axis one finished voxel stays, so that whoever interpolates between
voxels finds both neighbours; then sums are made in a *block* that is as much larger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hounsfield.errors import SettingsError
from hounsfield.inference.blended import Sums
from hounsfield.inference.host import Arrays
from hounsfield.inference.windows import WindowGrid
from hounsfield.volume import Shape

Emit = Callable[[Sums, Shape, tuple[int, int, int]], None]


@dataclass(frozen=True)
class Stage:
    """One position of the window along one axis; all indices are voxels of the padded volume.

    Parameters
    ----------
    begin, end
        What the block holds: a finished halo, then the window.
    start
        First voxel of the window.
    known
        Below this index earlier windows have written.
    done
        Below this index no later window writes; ``was_done`` is that of the stage before.
    keep
        First index that the next stage needs.
    """

    begin: int
    end: int
    start: int
    known: int
    was_done: int
    done: int
    keep: int


def stages(starts: tuple[int, ...], window: int, n: int, halo: int, run: range | None = None) -> tuple[Stage, ...]:
    """The stages of one axis, first to last; only those in ``run``, where nothing is known before."""
    every = _all_stages(starts, window, n, halo)
    if run is None or len(run) == len(every):
        return every
    cut = list(every[run.start : run.stop])
    if run.start > 0:
        cut[0] = replace(cut[0], begin=cut[0].start, known=cut[0].start, was_done=cut[0].start)
    cut[-1] = replace(cut[-1], keep=max(cut[-1].end, cut[-1].done))
    return tuple(cut)


def _all_stages(starts: tuple[int, ...], window: int, n: int, halo: int) -> tuple[Stage, ...]:
    out: list[Stage] = []
    for index, start in enumerate(starts):
        last = index == len(starts) - 1
        done = n if last else starts[index + 1]
        before = out[-1] if out else None
        out.append(
            Stage(
                begin=before.keep if before else 0,
                end=start + window,
                start=start,
                known=before.end if before else 0,
                was_done=before.done if before else 0,
                done=done,
                keep=n if last else max(0, done - halo),
            )
        )
    return tuple(out)


@dataclass(frozen=True)
class Kept:
    """How sums wait for later windows.

    Parameters
    ----------
    half
        float16 means instead of float32 sums.
    weighted
        Keep the sums of the weights too; means cannot do without. Where every window runs and the
        highest score wins, nobody asks for them.
    """

    half: bool
    weighted: bool

    def __post_init__(self) -> None:
        if self.half and not self.weighted:
            raise SettingsError("float16 means need their weights", "keep them weighted, or in float32")


class Frontier:
    """The buffers. ``emit(sums, first voxel, (z, y, x) indices)`` receives finished boxes.

    Parameters
    ----------
    grid
        The windows, axes in the order z, y, x of the walk.
    channels
        Channels of the network's answers.
    weight
        (z, y, x) importance of a window.
    halo
        0 or 1 per axis.
    kept
        How sums wait for later windows: in float32 or float16, with their weights or without.
    order
        Which axis of the network's answers each axis of the walk is. The buffers lie in
        memory as the answers do, whatever the walk is, so that blending runs along memory.
    layers
        Which stages along the walk's first axis will come; all by default.
    """

    def __init__(
        self,
        grid: WindowGrid,
        channels: int,
        weight: Any,
        halo: Shape,
        arrays: Arrays,
        kept: Kept,
        emit: Emit,
        order: tuple[int, int, int] = (0, 1, 2),
        layers: range | None = None,
    ) -> None:
        runs = (layers, None, None)
        sizes = zip(grid.starts, grid.window, grid.shape, halo, runs, strict=True)
        self._axes = tuple(stages(*each) for each in sizes)
        self._first_layer = 0 if layers is None else layers.start
        self._arrays, self._weight, self._emit = arrays, weight, emit
        self._channels, self._order, self._weighted = channels, order, kept.weighted
        self._largest = tuple(max(s.end - s.begin for s in axis) for axis in self._axes)
        deep, high, _ = self._largest
        z_kept, y_kept, x_kept = (max((s.end - s.keep for s in axis[:-1]), default=0) for axis in self._axes)
        one, (_, rows, columns) = channels + kept.weighted, grid.shape
        self._block = self._room((channels, *self._largest), False) if any(halo) else None
        self._weights = self._room((1, *self._largest), False) if kept.weighted else None
        self._column = self._room((one, deep, high, x_kept), False)
        self._row = self._room((one, deep, y_kept, columns), kept.half)
        self._slab = self._room((one, z_kept, rows, columns), kept.half)

    def _room(self, shape: tuple[int, ...], half: bool) -> Any:
        back = [self._order.index(axis) for axis in range(3)]
        array = self._arrays.zeros((shape[0], *(shape[1 + axis] for axis in back)), half)
        return self._arrays.turned(array, self._order)

    def add(self, index: tuple[int, int, int], answer: Any | None) -> None:
        """Blend the answer (channels, z, y, x) of the next window, using it up; ``None`` if it was skipped."""
        at = (index[0] - self._first_layer, index[1], index[2])
        z, y, x = (axis[i] for axis, i in zip(self._axes, at, strict=True))
        sums = self._laid_down((z, y, x), answer)
        self._load(sums, z, y, x)
        box = (slice(0, z.done - z.begin), slice(0, y.done - y.begin), slice(0, x.done - x.begin))
        self._emit(sums.part(*box), (z.begin, y.begin, x.begin), index)
        self._store(sums, z, y, x)

    def _laid_down(self, at: tuple[Stage, Stage, Stage], answer: Any | None) -> Sums:
        """The window's own weighed answer, with nothing yet in the halo."""
        every = slice(None)
        inside = (every, *(slice(0, s.end - s.begin) for s in at))
        window = (every, *(slice(s.start - s.begin, s.end - s.begin) for s in at))
        block, weights = self._block, None if self._weights is None else self._weights[inside]
        if weights is not None:
            weights[...] = 0
            if answer is not None:
                self._arrays.lay(weights[window], self._weight)
        if answer is None:
            block = self._room((self._channels, *self._largest), False) if block is None else block
            block[inside] = 0
        elif block is None:
            self._arrays.weigh(answer, answer, self._weight)
            return Sums(answer, weights)
        else:
            for axis, stage in enumerate(at):
                halo = stage.start - stage.begin
                block[(every, *(slice(0, halo) if a == axis else every for a in range(3)))] = 0
            self._arrays.weigh(block[window], answer, self._weight)
        return Sums(block[inside], weights)

    def _load(self, sums: Sums, z: Stage, y: Stage, x: Stage) -> None:
        """Add what earlier windows, rows and slabs left in the box."""
        known_z, known_y, known_x = (s.known - s.begin for s in (z, y, x))
        every, source = slice(None), slice(x.known, x.end)
        new_y, new_x = slice(known_y, None), slice(known_x, None)
        if known_x > 0:
            left = self._column[:, : z.end - z.begin, : y.end - y.begin, :known_x]
            self._arrays.add(sums.part(every, every, slice(0, known_x)), left)
        if known_y > 0:
            left = self._row[:, : z.end - z.begin, :known_y, source]
            self._arrays.add(sums.part(every, slice(0, known_y), new_x), left)
        if known_z > 0:
            left = self._slab[:, :known_z, y.known : y.end, source]
            self._arrays.add(sums.part(slice(0, known_z), new_y, new_x), left)

    def _store(self, sums: Sums, z: Stage, y: Stage, x: Stage) -> None:
        """Keep for the next slab, the next row and the next window what they touch again."""
        every = slice(None)
        depth, height = z.end - z.begin, y.end - y.begin
        again_z, again_y, again_x = (slice(s.keep - s.begin, s.end - s.begin) for s in (z, y, x))
        past_y, past_x = (slice(s.was_done - s.begin, s.done - s.begin) for s in (y, x))
        columns = slice(x.was_done, x.done)
        if z.end > z.keep:
            place = self._slab[:, : z.end - z.keep, y.was_done : y.done, columns]
            self._arrays.keep(place, sums.part(again_z, past_y, past_x))
        if y.end > y.keep:
            place = self._row[:, :depth, : y.end - y.keep, columns]
            self._arrays.keep(place, sums.part(every, again_y, past_x))
        if x.end > x.keep:
            self._arrays.keep(self._column[:, :depth, :height, : x.end - x.keep], sums.part(every, every, again_x))
