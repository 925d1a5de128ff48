"""Run a package of window steps: several networks slide over one scan, one after the other.

Each has its own grid, window and rule; its labels come back to the scan's own grid before they are merged, or
given to a later network (nnU-Net's cascade). Memory is that of the largest step and a label map or two.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.inference.deciding import step_decision
from hounsfield.inference.loading import Loaded
from hounsfield.inference.sliding_window import RunSettings, segment
from hounsfield.packages.steps import WindowStep
from hounsfield.preparing import Prepared, prepare, with_labels
from hounsfield.volume import LabelMap, Volume

Room = Callable[[tuple[int, ...], Any], NDArray[Any]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class WindowsDone:
    """Labels on the scan's own grid, seconds by part, windows run and skipped, and what ran."""

    labels: LabelMap
    seconds: dict[str, float]
    windows: int
    skipped: int
    facts: dict[str, Any]


@dataclass(frozen=True)
class StepsSettings:
    """How window steps are carried out.

    Parameters
    ----------
    run
        Batch, accumulator and head block of every step.
    store_in
        Folder for temporary files of resampled scans, instead of memory.
    room
        Makes label arrays, for example in temporary files.
    """

    run: RunSettings = field(default_factory=RunSettings)
    store_in: Path | None = None
    room: Room = np.zeros


def run_window_steps(
    scans: Volume | Sequence[Volume],
    steps: tuple[WindowStep, ...],
    open_network: Callable[[WindowStep], Loaded],
    settings: StepsSettings = StepsSettings(),
    on_progress: Progress | None = None,
) -> WindowsDone:
    """Run the steps in order; their segments lie over those of earlier steps.

    Parameters
    ----------
    scans
        One per channel; the first gives the grid.
    open_network
        Loads the network of a step; it is closed here when the step is done.
    on_progress
        Called with (windows done, windows in all) of the step that is running.
    """
    run = _Run([scans] if isinstance(scans, Volume) else list(scans), steps, open_network, settings)
    began = time.perf_counter()
    for step in steps:
        run.do(step, on_progress)
    seconds = {"total": time.perf_counter() - began, "network": run.network_seconds}
    return WindowsDone(LabelMap(run.labels, run.geometry), seconds, run.windows, run.skipped, run.facts)


class _Run:
    """What the steps so far have answered."""

    def __init__(
        self,
        scans: list[Volume],
        steps: tuple[WindowStep, ...],
        open_network: Callable[[WindowStep], Loaded],
        settings: StepsSettings,
    ) -> None:
        self._scans, self._open, self._settings = scans, open_network, settings
        self.geometry = scans[0].geometry
        self._asked = [step.after for step in steps if step.after is not None]
        self._answers: dict[str, NDArray[Any]] = {}
        largest = max(max(step.numbers) for step in steps)
        self.labels = settings.room(self.geometry.shape, np.uint8 if largest < 256 else np.uint16)
        self.network_seconds = 0.0
        self.windows = self.skipped = 0
        self.facts: dict[str, Any] = {}

    def do(self, step: WindowStep, on_progress: Progress | None) -> None:
        """One step."""
        prepared = self._prepared(step)
        loaded = self._open(step)
        try:
            self.facts = {**loaded.session.facts(), "precision": loaded.session.precision}
            answer = segment(
                prepared,
                loaded.session,
                step.input.window,
                step_decision(step),
                head=loaded.head,
                settings=self._settings.run,
                out=self._settings.room(self.geometry.shape, np.uint8 if len(step.numbers) < 256 else np.uint16),
                on_progress=on_progress,
            )
        finally:
            loaded.session.close()
        self.network_seconds += answer.seconds["network"]
        self.windows, self.skipped = self.windows + answer.windows, self.skipped + answer.skipped
        if step.name in self._asked:
            self._answers[step.name] = answer.labels.array
        merge(self.labels, answer.labels.array, step.numbers)

    def _prepared(self, step: WindowStep) -> Prepared:
        if step.after is None:
            return prepare(self._scans, step.input, store_in=self._settings.store_in)
        self._asked.remove(step.after)
        labels = self._answers[step.after] if step.after in self._asked else self._answers.pop(step.after)
        prepared = prepare(self._scans, step.input, store_in=self._settings.store_in, inside=labels > 0)
        return with_labels(prepared, labels, step.given, outlined=step.input.crop == "non-zero")


def merge(labels: NDArray[Any], answer: NDArray[Any], numbers: tuple[int, ...]) -> None:
    """Paint a network's labels 1, 2, 3 ... over others as the segments ``numbers``; 0 paints nothing.

    Parameters
    ----------
    labels, answer
        (slices, rows, columns) unsigned integers; ``labels`` is changed.
    """
    if not any(numbers):
        return
    segments = np.array((0, *numbers), labels.dtype)
    for k in range(len(labels)):  # slice by slice: arrays may lie on disk
        painted = segments[answer[k]]
        np.copyto(labels[k], painted, where=painted > 0)
