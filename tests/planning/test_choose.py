"""Budget → Plan: it fits by its own arithmetic, more budget is never worse, and a no comes with advice."""

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hounsfield.errors import DoesNotFit, EngineUnavailable
from hounsfield.planning import Budget, NoPlan, Plan, WholeOffer, choose
from hounsfield.planning.choose import _rank
from hounsfield.planning.cost import Candidate, window_cost
from hounsfield.planning.need import Footprint, Need
from hounsfield.planning.plan import Accumulate
from planning.builders import MACHINE, graph, need, offers

MIB = 2**20
BUDGETS = st.builds(
    Budget,
    host_bytes=st.none() | st.integers(100 * MIB, 8000 * MIB),
    seconds=st.none() | st.floats(5, 2000),
)


def test_without_limits_the_fastest_proven_plan_is_taken() -> None:
    plan = choose(need(), Budget(), MACHINE, offers())
    assert isinstance(plan, Plan)
    assert (plan.engine, plan.precision, plan.accumulator, plan.mapped) == ("openvino", "bf16", "float32", False)
    assert plan.calibrated
    assert "the package proves it" in plan.reasons["precision"]


def test_a_precision_without_evidence_needs_permission() -> None:
    plan = choose(need(allow_unproven=True, precision="int8"), Budget(), MACHINE, offers())
    assert isinstance(plan, Plan)
    assert plan.precision == "int8"
    with pytest.raises(EngineUnavailable, match="--allow-unproven"):
        choose(need(precision="int8"), Budget(), MACHINE, offers())


def test_pinned_choices_are_kept() -> None:
    plan = choose(need(precision="fp32", engine="onnxruntime"), Budget(), MACHINE, offers())
    assert isinstance(plan, Plan)
    assert (plan.engine, plan.precision, plan.calibrated) == ("onnxruntime", "fp32", False)


def test_an_engine_that_is_not_there_says_why() -> None:
    with pytest.raises(EngineUnavailable, match="what could run here"):
        choose(need(engine="torch"), Budget(), MACHINE, offers())
    with pytest.raises(EngineUnavailable, match="pip install"):
        choose(need(), Budget(), MACHINE, [offers()[-1]])


def test_many_classes_blend_features_when_those_are_fewer() -> None:
    wide = choose(need(classes=118, features=32), Budget(), MACHINE, offers())
    narrow = choose(need(classes=3, features=32), Budget(), MACHINE, offers())
    assert isinstance(wide, Plan)
    assert isinstance(narrow, Plan)
    assert (wide.accumulate, narrow.accumulate) == ("features", "logits")


def test_memory_is_flat_in_the_classes_with_features_and_in_the_slices_when_mapped() -> None:
    few = choose(need(classes=33, features=32), Budget(), MACHINE, offers())
    many = choose(need(classes=118, features=32), Budget(), MACHINE, offers())
    assert isinstance(few, Plan)
    assert isinstance(many, Plan)
    assert many.host_peak_bytes < few.host_peak_bytes * 1.05
    streams = [phases_of(need(slices, positions="stride"), "logits")["inferring"]["stream"] for slices in (600, 960)]
    assert streams[0] == streams[1]


def phases_of(asked: Need, accumulate: Accumulate) -> Mapping[str, Mapping[str, int]]:
    """What the first offer takes, phase by phase."""
    candidate = Candidate(offers()[0], asked.window, 1, 2, accumulate, "float32", 1 << 14, False)
    return window_cost(asked, candidate, Footprint(write_per_voxel=0)).phases


@settings(max_examples=60, deadline=None)
@given(BUDGETS, st.sampled_from([100, 400]), st.sampled_from([2, 118]))
def test_a_plan_fits_its_budget_by_its_own_arithmetic(budget: Budget, slices: int, classes: int) -> None:
    answer = choose(need(slices, classes), budget, MACHINE, offers())
    if isinstance(answer, Plan):
        assert budget.holds(answer.host_peak_bytes, answer.device_peak_bytes, answer.seconds)
        assert answer.host_peak_bytes == sum(answer.host_parts.values())
    else:
        assert isinstance(answer, DoesNotFit)
        assert not budget.holds(answer.knobs[0].host_bytes, 0, answer.knobs[0].seconds)


@settings(max_examples=60, deadline=None)
@given(BUDGETS, st.floats(1, 4), st.floats(1, 4))
def test_more_budget_is_never_a_worse_plan(budget: Budget, memory: float, time: float) -> None:
    more = Budget(
        None if budget.host_bytes is None else int(budget.host_bytes * memory),
        None,
        None if budget.seconds is None else budget.seconds * time,
    )
    small, large = (choose(need(), limit, MACHINE, offers()) for limit in (budget, more))
    if isinstance(small, Plan):
        assert isinstance(large, Plan)
        assert _rank(large) <= _rank(small)


@settings(max_examples=60, deadline=None)
@given(BUDGETS)
def test_the_smallest_budget_that_is_named_does(budget: Budget) -> None:
    answer = choose(need(classes=40), budget, MACHINE, offers())
    if isinstance(answer, NoPlan):
        assert isinstance(choose(need(classes=40), answer.smallest, MACHINE, offers()), Plan)


def test_the_smallest_memory_is_really_the_smallest() -> None:
    answer = choose(need(), Budget(host_bytes=100 * MIB), MACHINE, offers())
    assert isinstance(answer, NoPlan)
    assert answer.smallest.host_bytes is not None
    just_below = Budget(host_bytes=int(answer.smallest.host_bytes * 0.98))
    assert isinstance(choose(need(), just_below, MACHINE, offers()), NoPlan)


def test_a_no_names_knobs_and_reads_as_one_line() -> None:
    answer = choose(need(precision="fp32"), Budget(host_bytes=110 * MIB), MACHINE, offers())
    assert isinstance(answer, NoPlan)
    assert 1 <= len(answer.knobs) <= 3
    assert "\n" not in str(answer)
    assert "110MiB" in str(answer)
    assert any("precision" in knob.change for knob in answer.knobs)
    assert answer.as_dict()["smallest"]["host_bytes"] == answer.smallest.host_bytes


def test_a_budget_below_the_weights_is_refused_with_the_smallest() -> None:
    answer = choose(need(), Budget(host_bytes=50 * MIB), MACHINE, offers())
    assert isinstance(answer, NoPlan)
    assert answer.smallest.host_bytes is not None
    assert answer.smallest.host_bytes > graph().weights_bytes


def test_tighter_memory_gives_up_speed_and_exactness_in_that_order() -> None:
    loose = choose(need(classes=40), Budget(), MACHINE, offers())
    assert isinstance(loose, Plan)
    tight = choose(need(classes=40), Budget(host_bytes=loose.host_peak_bytes - MIB), MACHINE, offers())
    assert isinstance(tight, Plan)
    assert tight.mapped or tight.accumulator == "float16"
    assert tight.host_peak_bytes < loose.host_peak_bytes


def test_a_volume_smaller_than_the_window_takes_one_window() -> None:
    small = need(scan_shape=(20, 30, 40), grid_shape=(20, 30, 40))
    assert small.windows(small.window) == 1
    assert isinstance(choose(small, Budget(), MACHINE, offers()), Plan)


@pytest.mark.parametrize(("overlap", "count"), [(0.0, 3 * 6 * 6), (0.25, 3 * 7 * 7), (0.9, 12 * 45 * 45)])
def test_windows_are_counted_at_any_overlap(overlap: float, count: int) -> None:
    assert need(overlap=overlap).windows((96, 96, 96)) == count


@pytest.mark.parametrize("spoil", [0.001, 0.0, -1.0, math.inf])
def test_a_spoiled_calibration_is_not_believed(spoil: float) -> None:
    honest = offers()[0]
    record = honest.calibrations[2]
    count = int(record.workspace_bytes * spoil) if math.isfinite(spoil) else 2**60
    lying = replace(honest, calibrations={2: replace(record, workspace_bytes=count)})
    bound = choose(need(), Budget(), MACHINE, [replace(honest, calibrations={})])
    plan = choose(need(), Budget(), MACHINE, [lying])
    assert isinstance(plan, Plan)
    assert isinstance(bound, Plan)
    assert not plan.calibrated
    assert plan.host_peak_bytes == bound.host_peak_bytes


def test_a_segmentation_of_many_organs_is_part_of_what_writing_takes() -> None:
    """117 segments that touched 86 of 133 slices each took 950 MB beside scan and labels; organs touch fewer."""

    def writing(classes: int, **changes: object) -> int:
        return phases_of(need(133, classes, features=4, **changes), "features")["writing"]["writing"]

    assert writing(118) == 133 * 30 * (512 * 512 // 4 + 18 * 1024)
    assert writing(3) == 133 * 3 * (512 * 512 // 4 + 18 * 1024)
    assert writing(24) == writing(8)
    assert writing(118, labels_itemsize=0) == 0


def test_whole_volume_is_only_taken_when_asked_for_and_prefers_the_exact_one() -> None:
    whole = [
        WholeOffer("openvino", "fp32", "fp32", 400 * MIB, 16, 600 * MIB, 9 * 2**30, 300.0, 2),
        WholeOffer("openvino", "fp32", "fp32", 100 * MIB, 4, 200 * MIB, 9 * 2**30, 500.0, 2),
        WholeOffer("openvino", "bf16", "fp16", 50 * MIB, 4, 120 * MIB, 5 * 2**30, 100.0, 2),
    ]
    window = choose(need(), Budget(), MACHINE, offers(), whole)
    roomy = choose(need(mode="whole"), Budget(), MACHINE, offers(), whole)
    tight = choose(need(mode="whole"), Budget(host_bytes=700 * MIB), MACHINE, offers(), whole)
    assert isinstance(window, Plan)
    assert isinstance(roomy, Plan)
    assert isinstance(tight, Plan)
    assert window.mode == "window"
    assert (roomy.storage, roomy.slab_depth) == ("fp32", 16)
    assert (tight.storage, tight.slab_depth) == ("fp32", 4)
