"""The training memory plan: what a replay counts, the ladder, and the budgets that nothing keeps."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hounsfield.architectures import build
from hounsfield.errors import DoesNotFit, SettingsError
from hounsfield.training import memory_plan
from hounsfield.training.live_memory import StepSetting, StepShape, replay_step
from hounsfield.training.memory_plan import TrainingPlan, next_rung, plan_training
from hounsfield.training.network import describe
from hounsfield.training.probe import step_survives
from hounsfield.training.recipe_text import read_recipe
from hounsfield.training.recompute import recompute_blocks
from training.phantoms import RECIPE, write_recipe

pytestmark = pytest.mark.torch

NET = {"name": "attention-unet", "channels_in": 1, "channels_out": 2, "filters": [8, 16]}
SHAPE = StepShape((1, 32, 32, 32), (32, 32, 32), True, "dice-ce", "adamw")


def test_a_replay_counts_weights_moments_and_average() -> None:
    parameters = 4 * sum(p.numel() for p in build(NET).parameters())
    memory = replay_step(NET, SHAPE, StepSetting(1, "fp32", False))
    inputs = 32**3 * (4 + 8)
    assert memory.resting == pytest.approx(4 * parameters + inputs, rel=0.01)  # weights, average, two moments
    # The first unit alone keeps more than five maps of 8 channels at full size for the way back.
    assert memory.peak > memory.resting + 5 * 8 * 4 * 32**3


def test_precision_and_recomputing_save_what_they_should() -> None:
    plain = replay_step(NET, SHAPE, StepSetting(1, "fp32", False)).peak
    half = replay_step(NET, SHAPE, StepSetting(1, "bf16", False)).peak
    twice = replay_step(NET, SHAPE, StepSetting(1, "fp32", True)).peak
    two = replay_step(NET, SHAPE, StepSetting(2, "fp32", False)).peak
    assert half < 0.75 * plain
    assert twice < 0.9 * plain
    assert two == pytest.approx(2 * plain, rel=0.1)


def test_recomputing_gives_the_same_gradients() -> None:
    for name in (NET, {**NET, "name": "densenet121", "spatial_dims": 3, "blocks": [1, 1, 1, 1]}):
        arguments = {key: value for key, value in name.items() if key != "filters" or name is NET}
        torch.manual_seed(0)
        plain = build(arguments).train()
        torch.manual_seed(0)
        twice = build(arguments).train()
        assert recompute_blocks(twice, str(arguments["name"])) > 2
        image = torch.randn(2, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1))
        for network in (plain, twice):
            network(image).square().mean().backward()
        for one, other in zip(plain.parameters(), twice.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)
        moved = {k: v for k, v in twice.named_buffers() if not k.endswith("num_batches_tracked")}
        for key, buffer in plain.named_buffers():
            if key in moved:
                torch.testing.assert_close(buffer, moved[key], msg=key)


def budgeted(folder: Path, memory: str, recompute: str = "auto") -> TrainingPlan:
    text = RECIPE.replace('recompute = "never"', f'recompute = "{recompute}"').replace("[8, 8, 8]", "[32, 32, 32]")
    text = text.replace("filters = [4, 8]", "filters = [8, 16]").replace('"8GiB"', f'"{memory}"')
    recipe = read_recipe(write_recipe(folder, text, batch="4"))
    return plan_training(recipe, describe(recipe), measure=False)


def test_a_smaller_budget_takes_smaller_steps_until_none_fits(tmp_path: Path) -> None:
    roomy = budgeted(tmp_path, "8GiB")
    assert (roomy.batch, roomy.parts, roomy.recompute) == (4, 1, False)
    fixed = roomy.predicted_peak_bytes - roomy.bytes_by_part["step"]
    steps = roomy.bytes_by_part["step"]
    tight = budgeted(tmp_path, f"{(fixed + steps // 3) // 2**20}MiB")
    assert tight.batch * tight.parts == 4
    assert tight.parts > 1
    assert tight.predicted_peak_bytes <= tight.budget_bytes
    assert any("the budget" in reason for reason in tight.reasons)
    with pytest.raises(DoesNotFit, match=r"give compute\.memory = '\d+MiB'") as caught:
        budgeted(tmp_path, "600MiB")
    enough = caught.value.remedy.split("'")[1]
    assert budgeted(tmp_path, enough).recompute  # the smallest budget that was named does do


def test_the_ladder_goes_down_to_its_end(tmp_path: Path) -> None:
    recipe = read_recipe(write_recipe(tmp_path, RECIPE.replace('"never"', '"auto"'), batch="4"))
    plan: TrainingPlan | None = plan_training(recipe, describe(recipe), measure=False)
    rungs = []
    while plan is not None:
        rungs.append((plan.batch, plan.parts, plan.recompute))
        plan = next_rung(plan, recipe, describe(recipe))
    assert rungs == [(4, 1, False), (2, 2, False), (1, 4, False), (4, 1, True), (2, 2, True), (1, 4, True)]


def test_a_plan_is_a_text_and_comes_back(tmp_path: Path) -> None:
    plan = budgeted(tmp_path, "8GiB")
    assert TrainingPlan.from_json(plan.to_json()) == plan
    assert "predicted peak" in str(plan)
    with pytest.raises(SettingsError, match="cannot be read"):
        TrainingPlan.from_json('{"batch": 1, "bach": 2}')


def test_a_batch_is_shared_evenly(tmp_path: Path) -> None:
    recipe = read_recipe(write_recipe(tmp_path, batch="3"))
    with pytest.raises(SettingsError, match="does not divide by 2"):
        plan_training(recipe, describe(recipe), processes=2, measure=False)


def test_the_prediction_holds_on_this_machine(tmp_path: Path) -> None:
    """A step of a small patch calibrates; the peak of a larger one is then predicted and measured."""
    from hounsfield.training.probe import measure_step

    net = {**NET, "filters": [16, 32]}
    small, large = (replace(SHAPE, image=(1, n, n, n), target=(n, n, n)) for n in (16, 48))
    setting = StepSetting(1, "fp32", False)
    first = measure_step(net, small, setting, "cpu", 1)
    second = measure_step(net, large, setting, "cpu", 1)
    assert first is not None
    assert second is not None
    overhead = first.peak - replay_step(net, small, setting).peak
    predicted = replay_step(net, large, setting).peak + overhead
    assert predicted == pytest.approx(second.peak, rel=0.15)


def bf16_plan(folder: Path, precision: str) -> TrainingPlan:
    recipe = read_recipe(write_recipe(folder, RECIPE, precision=f'"{precision}"'))
    return plan_training(recipe, describe(recipe))


def test_where_bf16_damages_memory_fp32_is_planned_and_a_recipe_that_demands_bf16_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_plan, "_precision", lambda recipe, device: precision_of[recipe.compute.precision])
    precision_of = {"auto": "bf16", "bf16": "bf16", "fp32": "fp32"}
    monkeypatch.setattr(memory_plan, "step_survives", lambda *given: True)
    assert bf16_plan(tmp_path, "auto").precision == "bf16"
    asked: list[StepSetting] = []
    monkeypatch.setattr(memory_plan, "step_survives", lambda *given: bool(asked.append(given[2])))
    plan = bf16_plan(tmp_path, "auto")
    assert plan.precision == "fp32"
    assert "oneDNN" in plan.reasons[-1]
    assert asked == [StepSetting(2, "bf16", False)]
    with pytest.raises(SettingsError, match="brings the process down"):
        bf16_plan(tmp_path, "bf16")
    assert bf16_plan(tmp_path, "fp32").reasons == ()


def test_a_child_that_its_step_brought_down_is_told_from_one_that_lived_or_had_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = StepSetting(1, "bf16", False)
    assert step_survives(NET, SHAPE, setting, "cpu", 1)
    for signal, lives in (("SEGV", False), ("ABRT", False), ("KILL", True)):
        program = tmp_path / signal
        program.write_text(f"#!/bin/sh\ncat >/dev/null\nkill -{signal} $$\n")
        program.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(program))
        assert step_survives(NET, SHAPE, setting, "cpu", 1) is lives
