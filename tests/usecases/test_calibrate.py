"""Calibrations are measured in a process of their own, kept, and measured again when spoiled."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.inference.graphs import small_unet_like

from hounsfield.errors import EngineError
from hounsfield.inference.frontier import Frontier, Kept
from hounsfield.inference.host import HostArrays
from hounsfield.inference.sliding_window import walk_order
from hounsfield.inference.windows import WindowGrid, importance
from hounsfield.packages.manifest import WindowSpec
from hounsfield.planning import CalibrationKey, GraphCost, Need, Offer, read_cost
from hounsfield.planning.calibration import plausible, save
from hounsfield.planning.cost import Candidate, stream_bytes
from hounsfield.usecases.calibrate import Measurable, calibrate, calibrated

WINDOW = (32, 48, 48)
KEY = CalibrationKey("0" * 64, "openvino", "fp32", "cpu", "this CPU", 1, WINDOW)


@pytest.fixture(scope="module")
def what(tmp_path_factory: pytest.TempPathFactory) -> Measurable:
    path = tmp_path_factory.mktemp("graph") / "fp32.onnx"
    path.write_bytes(small_unet_like(1, 16, 3))
    return Measurable(path)


def test_a_measurement_is_plausible_and_counts_what_must_be_there(what: Measurable) -> None:
    record = calibrate(what, KEY)
    cost = read_cost(what.graph, WINDOW)
    assert plausible(record, cost)
    assert record.workspace_bytes >= math.prod(WINDOW) * 4 * 16
    assert record.workspace_bytes <= cost.total_bytes * 4 + (200 << 20)
    assert record.key == KEY


def test_it_is_kept_and_a_spoiled_one_is_measured_again(what: Measurable, tmp_path: Path) -> None:
    cost = read_cost(what.graph, WINDOW)
    assert calibrated(what, KEY, cost, tmp_path, measure=False) is None
    record = calibrated(what, KEY, cost, tmp_path)
    assert record is not None
    assert calibrated(what, KEY, cost, tmp_path, measure=False) == record
    save(replace(record, workspace_bytes=1), tmp_path)
    assert calibrated(what, KEY, cost, tmp_path, measure=False) is None


def test_a_cache_that_cannot_be_written_does_not_stop_the_measurement(what: Measurable, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    record = calibrated(
        what, replace(KEY, engine="onnxruntime"), read_cost(what.graph, WINDOW), tmp_path / "file" / "x"
    )
    assert record is not None


def test_a_graph_that_does_not_run_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "junk.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(EngineError, match="could not be measured"):
        calibrate(Measurable(path), KEY)


def test_a_measurement_that_takes_too_long_is_given_up(what: Measurable) -> None:
    with pytest.raises(EngineError, match="did not finish"):
        calibrate(what, KEY, seconds=0.05)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("positions", ["even", "stride"])
@pytest.mark.parametrize("shape", [(40, 60, 50), (10, 60, 50), (70, 33, 90)], ids=str)
def test_the_plan_counts_the_windows_and_buffers_that_the_stream_really_makes(
    overlap: float, positions: str, shape: tuple[int, int, int]
) -> None:
    edges = (16, 24, 20)
    spec = WindowSpec.model_validate({"shape": edges, "overlap": overlap, "positions": positions})
    order = walk_order(shape, None)
    grid = WindowGrid.over(shape, spec).turned(order)
    weight = importance(spec).transpose(order)
    made: list[int] = []

    class Counting(HostArrays):
        def zeros(self, shape: tuple[int, ...], half: bool) -> np.ndarray:
            made.append(math.prod(shape) * (2 if half else 4))
            return super().zeros(shape, half)

    Frontier(grid, 3, weight, (0, 0, 0), Counting(), Kept(True, True), lambda *_: None, order)
    need = Need(shape, shape, edges, overlap, 3, positions=positions)  # type: ignore[arg-type]
    offer = Offer("openvino", "fp32", GraphCost(1, 1, 1, 1, 1, 1, 1))
    planned = stream_bytes(need, Candidate(offer, edges, 1, 1, "logits", "float16", 1, False))["stream"]
    assert need.windows(edges) == grid.count
    assert planned == pytest.approx(sum(made), rel=0.02)
