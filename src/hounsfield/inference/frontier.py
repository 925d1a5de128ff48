"""Blending windows while holding only what later windows still touch.

Windows come in the order of the grid, last axis (x) fastest. Three buffers suffice: the
*block* around the current window, the *row* of voxels that the next row of windows touches
again (full x, overlap of y, depth of a window), and the *slab* that the next layer of windows
touches again (full x and y, overlap of z). When a window is done, the box that no later
window touches leaves as sums of ``weight * answer`` and of ``weight``.

With ``halo`` 1 along an axis one finished voxel stays, so that whoever interpolates between
voxels finds both neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hounsfield.inference.host import Arrays
from hounsfield.inference.windows import WindowGrid
from hounsfield.volume import Shape

Emit = Callable[[Any, Shape, tuple[int, int, int]], None]


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


class Frontier:
    """The three buffers. ``emit(sums, first voxel, (z, y, x) stages)`` receives finished boxes.

    Parameters
    ----------
    grid
        The windows, axes in the order z, y, x of the walk.
    channels
        Channels of the network's answers; one more holds the weights.
    weight
        (z, y, x) importance of a window.
    halo
        0 or 1 per axis.
    half
        Keep row and slab in float16.
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
        half: bool,
        emit: Emit,
        order: tuple[int, int, int] = (0, 1, 2),
        layers: range | None = None,
    ) -> None:
        runs = (layers, None, None)
        sizes = zip(grid.starts, grid.window, grid.shape, halo, runs, strict=True)
        self._axes = tuple(stages(*each) for each in sizes)
        self._first_layer = 0 if layers is None else layers.start
        self._arrays, self._weight, self._emit = arrays, weight, emit
        deep, high, wide = (max(s.end - s.begin for s in axis) for axis in self._axes)
        z_kept, y_kept = (max(s.end - s.keep for s in axis[:-1]) if len(axis) > 1 else 0 for axis in self._axes[:2])
        one, (_, rows, columns) = channels + 1, grid.shape
        self._block = self._room((one, deep, high, wide), order, False)
        self._row = self._room((one, deep, y_kept, columns), order, half)
        self._slab = self._room((one, z_kept, rows, columns), order, half)

    def _room(self, shape: tuple[int, int, int, int], order: tuple[int, int, int], half: bool) -> Any:
        back = [order.index(axis) for axis in range(3)]
        array = self._arrays.zeros((shape[0], *(shape[1 + axis] for axis in back)), half)
        return self._arrays.turned(array, order)

    def add(self, index: tuple[int, int, int], answer: Any | None) -> None:
        """Blend the answer (channels, z, y, x) of the next window; ``None`` if it was skipped."""
        at = (index[0] - self._first_layer, index[1], index[2])
        z, y, x = (axis[i] for axis, i in zip(self._axes, at, strict=True))
        self._load(z, y, x)
        self._blend(z, y, x, answer)
        self._emit(
            self._block[:, : z.done - z.begin, : y.done - y.begin, : x.done - x.begin],
            (z.begin, y.begin, x.begin),
            index,
        )
        self._store(z, y, x)

    def _load(self, z: Stage, y: Stage, x: Stage) -> None:
        """Bring what earlier rows and slabs wrote into the new columns of the block."""
        block, new = self._block, slice(x.known - x.begin, x.end - x.begin)
        source = slice(x.known, x.end)
        depth, known_y = z.end - z.begin, y.known - y.begin
        if known_y > 0:
            self._arrays.move(block[:, :depth, :known_y, new], self._row[:, :depth, :known_y, source])
        if z.known > z.begin:
            self._arrays.move(
                block[:, : z.known - z.begin, known_y : y.end - y.begin, new],
                self._slab[:, : z.known - z.begin, y.known : y.end, source],
            )

    def _blend(self, z: Stage, y: Stage, x: Stage, answer: Any | None) -> None:
        """Add to what is there, and lay down what is new, without clearing it first."""
        # First new voxel per axis, counted from the window's first voxel.
        nz, ny, nx = (s.known - s.start for s in (z, y, x))
        nz, ny, nx = max(0, nz), max(0, ny), max(0, nx)
        every = slice(None)
        written = (
            (every, every, slice(0, nx)),
            (every, slice(0, ny), slice(nx, None)),
            (slice(0, nz), slice(ny, None), slice(nx, None)),
        )
        new = (slice(nz, None), slice(ny, None), slice(nx, None))
        sums = self._block[
            :,
            z.start - z.begin : z.end - z.begin,
            y.start - y.begin : y.end - y.begin,
            x.start - x.begin : x.end - x.begin,
        ]
        if answer is None:
            sums[(every, *new)] = 0
            return
        for box in written:
            self._arrays.weigh(sums[(every, *box)], answer[(every, *box)], self._weight[box], False)
        self._arrays.weigh(sums[(every, *new)], answer[(every, *new)], self._weight[new], True)

    def _store(self, z: Stage, y: Stage, x: Stage) -> None:
        """Keep for the next slab and the next row what they touch, and move the block along x."""
        block, at = self._block, slice(x.was_done - x.begin, x.done - x.begin)
        columns = slice(x.was_done, x.done)
        depth = z.end - z.begin
        if z.end > z.keep:
            self._arrays.move(
                self._slab[:, : z.end - z.keep, y.was_done : y.done, columns],
                block[:, z.keep - z.begin : depth, y.was_done - y.begin : y.done - y.begin, at],
            )
        if y.end > y.keep:
            self._arrays.move(
                self._row[:, :depth, : y.end - y.keep, columns],
                block[:, :depth, y.keep - y.begin : y.end - y.begin, at],
            )
        shift, left = x.keep - x.begin, x.end - x.keep
        if left > 0 and shift > 0:
            for channel in range(block.shape[0]):
                self._move(block[channel, :depth], shift, left)

    @staticmethod
    def _move(channel: Any, shift: int, left: int) -> None:
        step = max(1, min(shift, left))
        for low in range(0, left, step):  # steps no longer than the shift never overlap
            high = min(left, low + step)
            channel[..., low:high] = channel[..., shift + low : shift + high]
