"""Several processes on one scan give the labels of one; a failing child is an error, not a hang."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from hounsfield.errors import EngineError, EngineUnavailable, SettingsError
from hounsfield.inference import Decision, Loaded, RunSettings, segment, segment_in_parts, split_layers
from hounsfield.packages.manifest import InputSpec, WindowSpec
from hounsfield.preparing import Prepared, prepare
from hounsfield.volume import Geometry, Volume

from .graphs import FunctionSession

WINDOW = WindowSpec(shape=(8, 8, 8), overlap=0.5)


def prepared() -> Prepared:
    array = np.random.default_rng(0).normal(0, 1, (40, 18, 20)).astype(np.float32)
    table = {"channels": [{"name": "mr", "modality": "MR"}], "window": WINDOW}
    return prepare(Volume(array, Geometry.from_parts(array.shape)), InputSpec.model_validate(table))


def answer(x: np.ndarray) -> np.ndarray:
    """Depends on the window, as instance norm does."""
    moved = x - x.mean(axis=(2, 3, 4), keepdims=True)
    return np.concatenate((moved, 0.3 - moved, moved**2), axis=1)


def loaded(part: int) -> Loaded:
    return Loaded(FunctionSession(answer), None)


@pytest.mark.parametrize("parts", [1, 2, 3, 50])
def test_parts_give_the_labels_of_one_run(parts: int) -> None:
    scan = prepared()
    whole = segment(scan, FunctionSession(answer), WINDOW, Decision("highest"))
    seen: list[tuple[int, int]] = []
    out = segment_in_parts(
        scan, loaded, WINDOW, Decision("highest"), parts=parts, on_progress=lambda *told: seen.append(told)
    )
    np.testing.assert_array_equal(out.labels.array, whole.labels.array)
    assert len(np.unique(whole.labels.array)) == 3
    assert out.windows >= whole.windows
    assert parts > 3 or seen[-1] == (out.windows, out.windows)


def test_layers_are_shared_out_evenly() -> None:
    runs = split_layers((40, 18, 20), WINDOW, None, 4)
    assert runs[0].start == 0
    assert runs[-1].stop == 9
    assert {len(run) for run in runs} <= {2, 3}
    assert [run.stop for run in runs[:-1]] == [run.start for run in runs[1:]]
    assert len(split_layers((40, 18, 20), WINDOW, None, 100)) == 9
    with pytest.raises(SettingsError):
        split_layers((40, 18, 20), WINDOW, None, 0)


def test_a_childs_error_arrives_as_what_it_was() -> None:
    def broken(part: int) -> Loaded:
        if part == 1:
            raise EngineUnavailable("no such device", "choose another")
        return loaded(part)

    with pytest.raises(EngineUnavailable, match="no such device"):
        segment_in_parts(prepared(), broken, WINDOW, Decision("highest"), parts=3)
    with pytest.raises(EngineError, match="ZeroDivisionError"):
        segment_in_parts(prepared(), lambda part: 1 // 0, WINDOW, Decision("highest"), parts=2)


def test_a_killed_child_is_an_error_and_leaves_no_process() -> None:
    def dies(part: int) -> Loaded:
        if part == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return loaded(part)

    before = children()
    with pytest.raises(EngineError, match="ended with code -9"):
        segment_in_parts(prepared(), dies, WINDOW, Decision("highest"), parts=2, settings=RunSettings(axis=0))
    assert children() <= before


def children() -> set[int]:
    """Processes that this one started and that were not yet waited for."""
    lists = Path("/proc/self/task").glob("*/children")
    return {int(pid) for each in lists for pid in each.read_text().split()}
