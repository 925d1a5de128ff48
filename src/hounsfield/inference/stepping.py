"""Run a package of steps: look at the whole scan, place an atlas in it, find structures in a box.

Between the networks lies geometry in float64: corner-to-corner grids, one affine, trilinear sampling
with 0 outside the scan. The scan is read in parts, so a large scan is never held as float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.inference.engine import Floats, Session
from hounsfield.packages.steps import BoxStep, GeometryStep, LookStep, PlaceStep, matrix
from hounsfield.preparing import Prepared, restore_labels
from hounsfield.volume import LabelMap, Shape

Affine = NDArray[np.float64]
_SLAB_VOXELS = 4_000_000


@dataclass(frozen=True)
class Stepped:
    """Labels on the scan's own grid, seconds by part, and what ran."""

    labels: LabelMap
    seconds: dict[str, float]
    facts: dict[str, Any]


def run_steps(
    prepared: Prepared,
    steps: tuple[GeometryStep, ...],
    open_session: Callable[[GeometryStep], Session],
    on_step: Callable[[int, int], None] | None = None,
) -> Stepped:
    """Run the steps in order; later segments lie over earlier ones.

    Parameters
    ----------
    prepared
        The scan along the package's orientation, with its intensity steps, not resampled.
    open_session
        Loads the network of a step; it is closed here when the step is done.
    on_step
        Called with (steps done, steps in all).
    """
    run = _Run(prepared, open_session)
    began = time.perf_counter()
    for number, step in enumerate(steps):
        run.do(step)
        if on_step is not None:
            on_step(number + 1, len(steps))
    seconds = {"total": time.perf_counter() - began, "network": run.network_seconds}
    return Stepped(restore_labels(run.labels, prepared), seconds, run.facts)


class _Run:
    """What the steps so far have answered."""

    def __init__(self, prepared: Prepared, open_session: Callable[[GeometryStep], Session]) -> None:
        self._prepared, self._open = prepared, open_session
        self._maps: dict[str, Floats] = {}
        self._places: dict[str, Affine] = {}
        self.labels = np.zeros(prepared.shape, np.uint8)
        self.network_seconds = 0.0
        self.facts: dict[str, Any] = {}

    def do(self, step: GeometryStep) -> None:
        """One step."""
        if isinstance(step, LookStep):
            self._look(step)
        elif isinstance(step, PlaceStep):
            self._place(step)
        else:
            self._find(step)

    def _look(self, step: LookStep) -> None:
        image = corner_to_corner(self._prepared, step.shape)
        maps = self._maps[step.name] = self._ask(step, image[None, None])[0]
        scale = np.linalg.inv(units(step.shape)) @ units(self._prepared.shape)
        for segment in step.segments:
            self._paint(segment.number, maps[segment.map], scale, segment.threshold)

    def _place(self, step: PlaceStep) -> None:
        maps = self._maps[step.of]
        seen = maps[list(step.maps)]
        if step.mask is not None:
            seen = seen * maps[step.mask]
        numbers = self._ask(step, np.ascontiguousarray(seen[None]))[0].reshape(3, 4).astype(np.float64)
        placed = np.eye(4)
        placed[:3] += numbers
        to_units = units(step.shape) @ np.linalg.inv(matrix(step.affine))
        self._places[step.name] = np.linalg.inv(units(self._prepared.shape)) @ placed @ to_units

    def _find(self, step: BoxStep) -> None:
        to_scan = self._places[step.of] @ matrix(step.affine)
        box = sample(self._prepared, to_scan, step.shape)
        box = (box - box.mean()) / max(float(box.std()), 1e-8)
        sides = [_side(box, step, number) for number in range(len(step.sides))]
        answers = self._ask(step, np.stack(sides)[:, None])
        back = np.asarray(np.linalg.inv(to_scan), np.float64)
        for number, side in enumerate(step.sides):
            whole = np.zeros(step.shape, np.float32)
            inner = _side(whole, step, number)[tuple(slice(step.border, n - step.border) for n in step.side_shape)]
            inner[...] = stretched(answers[number, 0], step.low, step.high)
            self._paint(side.number, whole, back, step.threshold)

    def _ask(self, step: GeometryStep, batch: Floats) -> Floats:
        session = self._open(step)
        began = time.perf_counter()
        try:
            self.facts = {**session.facts(), "precision": session.precision}
            answers = [np.array(session.infer(np.ascontiguousarray(one[None]))) for one in batch]
            return np.concatenate(answers).astype(np.float32, copy=False)
        finally:
            self.network_seconds += time.perf_counter() - began
            session.close()

    def _paint(self, number: int, values: Floats, from_scan: Affine, threshold: float) -> None:
        """Give the segment's number to the voxels where the interpolated values exceed the threshold."""
        from scipy.ndimage import map_coordinates

        if number > np.iinfo(self.labels.dtype).max:
            self.labels = self.labels.astype(np.uint16)
        for part in _slabs(self._prepared.shape, _touched(from_scan, values.shape, self._prepared.shape)):
            at = _mapped(from_scan, part)
            found = map_coordinates(values, at, order=1, mode="grid-constant", cval=0.0, prefilter=False)
            self.labels[part][found > threshold] = number


def units(shape: Shape) -> Affine:
    """(4, 4): an index of a grid to units where its outer voxel centres are -1 and 1."""
    sizes = np.asarray(shape, np.float64)
    affine = np.diag([*(2 / np.maximum(sizes - 1, 1)), 1.0])
    affine[:3, 3] = -1
    return affine


def stretched(values: Floats, low: float, high: float) -> Floats:
    """Values from ``low`` to ``high`` on [low, 1], linearly; 0 where not above ``low``; at most 1."""
    wide = np.clip((values - low) * ((1 - low) / (high - low)) + low, 0, 1)
    return np.asarray(wide * (values > low), np.float32)


def corner_to_corner(prepared: Prepared, shape: Shape) -> Floats:
    """The whole scan on a grid of ``shape`` whose outer voxel centres are the scan's; linear, float32."""
    lines = [np.linspace(0, n - 1, m) for n, m in zip(prepared.shape, shape, strict=True)]
    rows, columns = _taps(lines[1], prepared.shape[1]), _taps(lines[2], prepared.shape[2])
    out = np.empty(shape, np.float32)
    for index, at in enumerate(lines[0]):
        low = min(int(at), prepared.shape[0] - 1)
        high = min(low + 1, prepared.shape[0] - 1)
        planes = prepared.read((slice(low, high + 1), slice(0, prepared.shape[1]), slice(0, prepared.shape[2])))[0]
        plane = planes[0] * np.float32(1 - (at - low)) + planes[-1] * np.float32(at - low)
        out[index] = rows @ plane @ columns.T
    return out


def _taps(line: NDArray[np.float64], n: int) -> NDArray[np.float32]:
    """(m, n): linear interpolation of an axis of n voxels at the m places of ``line``."""
    low = np.minimum(line.astype(int), n - 1)
    high = np.minimum(low + 1, n - 1)
    out = np.zeros((len(line), n), np.float32)
    np.add.at(out, (np.arange(len(line)), low), 1 - (line - low))
    np.add.at(out, (np.arange(len(line)), high), line - low)
    return out


def sample(prepared: Prepared, to_scan: Affine, shape: Shape) -> Floats:
    """The scan on another grid by an affine, trilinear, 0 outside; float32.

    Parameters
    ----------
    to_scan
        (4, 4): an index (k, j, i, 1) of the wanted grid to one of the scan's.
    """
    from scipy.ndimage import map_coordinates

    corners = _corners(to_scan, shape)
    low = [int(np.clip(np.floor(c.min()) - 1, 0, n - 1)) for c, n in zip(corners, prepared.shape, strict=True)]
    high = [int(np.clip(np.ceil(c.max()) + 2, 1, n)) for c, n in zip(corners, prepared.shape, strict=True)]
    box = tuple(slice(a, max(a + 1, b)) for a, b in zip(low, high, strict=True))
    values = prepared.read((box[0], box[1], box[2]))[0]
    shift = np.eye(4)
    shift[:3, 3] = [-part.start for part in box]
    at = _mapped(shift @ to_scan, (slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])))
    found = map_coordinates(values, at, order=1, mode="grid-constant", cval=0.0, prefilter=False)
    return np.asarray(found, np.float32)


def _corners(affine: Affine, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(3, 8): where the corner voxels of a grid go."""
    ends = np.stack(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij")).reshape(3, -1)
    moved: NDArray[np.float64] = affine[:3, :3] @ ends + affine[:3, 3:]
    return moved


def _touched(from_scan: Affine, shape: tuple[int, ...], scan: Shape) -> tuple[slice, slice, slice]:
    """The box of the scan outside which the values of a grid of ``shape`` are all 0."""
    ends = np.stack(np.meshgrid(*[(-1, n) for n in shape], indexing="ij")).reshape(3, -1)
    back = np.linalg.inv(from_scan)
    corners = back[:3, :3] @ ends + back[:3, 3:]
    low = [int(np.clip(np.floor(c.min()), 0, n)) for c, n in zip(corners, scan, strict=True)]
    high = [int(np.clip(np.ceil(c.max()) + 1, 0, n)) for c, n in zip(corners, scan, strict=True)]
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


def _slabs(shape: Shape, box: tuple[slice, slice, slice]) -> Iterator[tuple[slice, slice, slice]]:
    area = max(1, (box[1].stop - box[1].start) * (box[2].stop - box[2].start))
    depth = max(1, _SLAB_VOXELS // area)
    for start in range(box[0].start, box[0].stop, depth):
        yield slice(start, min(start + depth, box[0].stop)), box[1], box[2]


def _mapped(affine: Affine, box: tuple[slice, slice, slice]) -> NDArray[np.float64]:
    """(3, k, j, i): where the voxels of a box go."""
    k, j, i = (np.arange(part.start, part.stop, dtype=np.float64) for part in box)
    return np.stack(
        [row[0] * k[:, None, None] + row[1] * j[:, None] + row[2] * i + row[3] for row in affine[:3]],
    )


def _side(box: Floats, step: BoxStep, number: int) -> Floats:
    """A view of one side of the box, its first axis turned round where it is mirrored."""
    side = step.sides[number]
    view = box[tuple(slice(a, a + n) for a, n in zip(side.start, step.side_shape, strict=True))]
    return view[::-1] if side.mirrored else view
