"""The training memory plan: how a step is carried out so that its predicted peak keeps the budget.

The ladder, cheapest in time first: the whole batch at once; the batch in parts whose gradients
add up; blocks computed twice (``recompute``). Each rung's peak is replayed without memory
(:mod:`hounsfield.training.live_memory`); added is what a short measured step of a smaller patch took
beyond its own replay (libraries, scratch memory of the kernels), which hardly depends on the patch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from hounsfield.architectures import architecture
from hounsfield.errors import DoesNotFit, SettingsError
from hounsfield.planning.machine import read_machine
from hounsfield.planning.units import format_bytes, parse_bytes
from hounsfield.training.live_memory import StepMemory, StepSetting, StepShape, replay_answer, replay_step
from hounsfield.training.probe import measure_step, step_survives
from hounsfield.training.recipe import Recipe

_SHARE = 0.8
_ROOMY = 0.3
_PROCESS_BYTES = 300 * 2**20
_LEAST_OVERHEAD = {"cpu": 96 * 2**20, "cuda": 0}
_OVERHEAD_BYTES = {"cpu": 450 * 2**20, "cuda": 200 * 2**20}


@dataclass(frozen=True)
class TrainingPlan:
    """How each step is carried out, and what it will take.

    Parameters
    ----------
    device, precision
        ``cpu`` or ``cuda``; arithmetic of the forward pass.
    batch, parts
        Items per forward pass in one process, and passes whose gradients add up.
    recompute
        Whether blocks are computed twice instead of kept.
    predicted_peak_bytes, budget_bytes
        On the device (for the CPU: of the process, everything included).
    overhead_bytes
        What the calibration step took beyond its replay; a usual value where nothing was measured.
    measured
        Whether the budget is tight: a step was measured, and freed memory is given back at once.
    seconds_per_step
        From the calibration, scaled by voxels; 0 where nothing was measured.
    """

    device: str
    precision: str
    batch: int
    parts: int
    recompute: bool
    predicted_peak_bytes: int
    budget_bytes: int
    overhead_bytes: int = 0
    measured: bool = False
    seconds_per_step: float = 0.0
    bytes_by_part: Mapping[str, int] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    def to_json(self) -> str:
        """JSON text for people and for :meth:`from_json`."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> TrainingPlan:
        """The plan of a text that :meth:`to_json` wrote.

        Raises
        ------
        SettingsError
            If it is not such a text.
        """
        try:
            table = json.loads(text)
            return cls(**{**table, "reasons": tuple(table.get("reasons", ()))})
        except (ValueError, TypeError, AttributeError) as error:
            raise SettingsError(
                f"the training plan cannot be read ({error})", "remove plan.json to plan anew"
            ) from error

    def __str__(self) -> str:
        parts = f" in {self.parts} parts" if self.parts > 1 else ""
        twice = ", blocks computed twice" if self.recompute else ""
        return (
            f"{self.precision} on {self.device}, {self.batch} items at a time{parts}{twice}: "
            f"predicted peak {format_bytes(self.predicted_peak_bytes)} of {format_bytes(self.budget_bytes)}"
        )


def step_shape(recipe: Recipe, description: Mapping[str, Any], window: tuple[int, int, int] | None = None) -> StepShape:
    """What one step of the recipe works on, for its own or another window."""
    window = recipe.window if window is None else window
    channels = int(description["channels_in"])
    image: tuple[int, ...] = (channels, *window)
    if recipe.task == "dynamic":
        image = (recipe.phases or 1, channels, *window)
    target: tuple[int, ...] = ()
    if recipe.task == "segmentation":
        target = window
    elif recipe.task == "detection":
        stride = int(description.get("stride", 4))
        target = (int(description["channels_out"]) + 7, *(n // stride for n in window))
    elif recipe.quantities:
        target = (len(recipe.quantities),)
    elif len(recipe.data.target) > 1:
        target = (len(recipe.data.target),)
    whole = recipe.task == "segmentation" or (recipe.task != "detection" and not target)
    return StepShape(image, target, whole, recipe.loss, recipe.optimisation.optimiser, len(recipe.data.record))


def plan_training(
    recipe: Recipe,
    description: Mapping[str, Any],
    processes: int = 1,
    measure: bool = True,
    teacher: Mapping[str, Any] | None = None,
) -> TrainingPlan:
    """The first rung of the ladder that keeps the budget.

    Parameters
    ----------
    recipe, description
        The training, and the network's complete table.
    processes
        That share the batch (and, on one machine's CPU, the memory).
    measure
        Whether a short real step may calibrate the prediction where the budget is tight.
    teacher
        The table of the network that teaches, if one does.

    Raises
    ------
    DoesNotFit
        If no rung does; the message names the smallest budget that would.
    SettingsError
        If the batch does not divide by the processes, or a chosen device is absent.
    """
    if recipe.optimisation.batch % processes:
        raise SettingsError(
            fact=f"the batch of {recipe.optimisation.batch} does not divide by {processes} processes",
            remedy="choose a batch that is a multiple of the processes",
        )
    device = _device(recipe)
    budget = _budget(recipe, device, processes)
    precision = _precision(recipe, device)
    shape = step_shape(recipe, description)
    own = recipe.optimisation.batch // processes
    overhead, seconds, measured = _OVERHEAD_BYTES[device], 0.0, False
    smallest: TrainingPlan | None = None
    rungs = _ladder(recipe, description, own)
    at = 0
    while at < len(rungs):
        batch, recompute = rungs[at]
        setting = StepSetting(batch, precision, recompute)
        memory = _replayed(description, shape, setting, recipe.window)
        beside = 0 if teacher is None else replay_answer(teacher, shape, setting)
        peak, parts = _whole_peak(recipe, device, memory.peak, overhead, beside)
        plan = TrainingPlan(
            device, precision, batch, own // batch, recompute, peak, budget, overhead, measured, seconds, parts,
            _reasons(recipe, own, batch, recompute, precision, device),
        )  # fmt: skip
        if measure and not measured and peak > _ROOMY * budget:
            measured = True
            overhead, seconds = _calibrate(recipe, description, setting, device)
            continue
        if peak <= budget:
            return _sound(plan, recipe, description, processes, measure, teacher)
        smallest = plan if smallest is None or peak < smallest.predicted_peak_bytes else smallest
        at += 1
    assert smallest is not None  # noqa: S101 - the ladder has at least one rung
    raise DoesNotFit(
        fact=f"a training step needs {format_bytes(smallest.predicted_peak_bytes)} at least, "
        f"the budget is {format_bytes(budget)}",
        remedy=f"give compute.memory = '{-(-smallest.predicted_peak_bytes // 2**20)}MiB', a smaller window, "
        "or fewer filters",
    )


def next_rung(plan: TrainingPlan, recipe: Recipe, description: Mapping[str, Any]) -> TrainingPlan | None:
    """The next smaller way after the device ran out of memory; ``None`` at the end of the ladder."""
    rungs = _ladder(recipe, description, plan.batch * plan.parts)
    place = rungs.index((plan.batch, plan.recompute)) + 1 if (plan.batch, plan.recompute) in rungs else len(rungs)
    if place >= len(rungs):
        return None
    batch, recompute = rungs[place]
    return replace(
        plan, batch=batch, parts=plan.batch * plan.parts // batch, recompute=recompute,
        reasons=(*plan.reasons, "the device ran out of memory, so the next smaller way was taken"),
    )  # fmt: skip


def _sound(
    plan: TrainingPlan,
    recipe: Recipe,
    description: Mapping[str, Any],
    processes: int,
    measure: bool,
    teacher: Mapping[str, Any] | None,
) -> TrainingPlan:
    """The plan, or one in fp32 where a step in bf16 damages the memory of the process that computes it."""
    if not measure or plan.device != "cpu" or plan.precision != "bf16":
        return plan
    setting = StepSetting(plan.batch, plan.precision, plan.recompute)
    threads = recipe.compute.threads or torch.get_num_threads()
    if step_survives(description, step_shape(recipe, description), setting, plan.device, threads):
        return plan
    fact = "computing this network's gradients in bf16 brings the process down on this processor (a fault of oneDNN)"
    if recipe.compute.precision == "bf16":
        raise SettingsError(fact, "set compute.precision = 'fp32' or 'auto', or choose another window")
    compute = recipe.compute.model_copy(update={"precision": "fp32"})
    other = plan_training(recipe.model_copy(update={"compute": compute}), description, processes, measure, teacher)
    return replace(other, reasons=(*other.reasons, f"fp32: {fact}"))


def _replayed(
    description: Mapping[str, Any], shape: StepShape, setting: StepSetting, window: tuple[int, int, int]
) -> StepMemory:
    """The replay; what the network cannot compute at all is a mistake in the recipe."""
    try:
        return replay_step(description, shape, setting)
    except (RuntimeError, ValueError) as error:
        size = " x ".join(map(str, window))
        raise SettingsError(
            fact=f"the network {description['name']!r} does not take a window of {size} ({str(error).splitlines()[0]})",
            remedy="choose a larger window, sizes that divide by 2 per level, or fewer levels",
        ) from error


def _ladder(recipe: Recipe, description: Mapping[str, Any], own: int) -> list[tuple[int, bool]]:
    """(items at a time, recompute), cheapest in time first."""
    sizes = [size for size in range(own, 0, -1) if own % size == 0]
    can = bool(architecture(str(description["name"])).blocks)
    choices = {"auto": (False, True), "never": (False,), "always": (True,)}[recipe.compute.recompute]
    return [(size, twice) for twice in choices for size in sizes if can or not twice] or [(s, False) for s in sizes]


def _device(recipe: Recipe) -> str:
    present = torch.cuda.is_available()
    if recipe.compute.device == "cuda" and not present:
        raise SettingsError("the recipe asks for a GPU, and there is none", "set compute.device = 'auto' or 'cpu'")
    return "cuda" if present and recipe.compute.device != "cpu" else "cpu"


def _precision(recipe: Recipe, device: str) -> str:
    if recipe.compute.precision != "auto":
        if recipe.compute.precision == "fp16" and device == "cpu":
            raise SettingsError("fp16 training needs a GPU", "set compute.precision to 'bf16' or 'fp32'")
        return recipe.compute.precision
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if read_machine(accelerators=False).fast_bf16 else "fp32"


def _budget(recipe: Recipe, device: str, processes: int) -> int:
    if recipe.compute.memory is not None:
        return parse_bytes(recipe.compute.memory)
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0] * 0.95)
    return int(read_machine(accelerators=False).available_bytes * _SHARE) // processes


def _whole_peak(recipe: Recipe, device: str, step: int, overhead: int, teacher: int) -> tuple[int, dict[str, int]]:
    parts = {"step": step, "libraries and scratch": overhead} | ({"teacher": teacher} if teacher else {})
    if device == "cpu":
        parts |= {"cases in memory": parse_bytes(recipe.data.memory), "process": _PROCESS_BYTES}
    return sum(parts.values()), parts


def _calibrate(recipe: Recipe, description: Mapping[str, Any], setting: StepSetting, device: str) -> tuple[int, float]:
    """Bytes beyond the replay for one item of half the window, and the time that a step would take."""
    fixed = architecture(str(description["name"])).fixed_window
    least = 2 ** max(2, len(description.get("filters", (1, 1, 1, 1))))
    window = recipe.window
    if not fixed:
        k, j, i = (n if n == 1 else max(least, n // 2 // least * least) for n in recipe.window)
        window = (k, j, i)
    small = StepSetting(1, setting.precision, setting.recompute)
    shape = step_shape(recipe, description, window)
    measured = measure_step(description, shape, small, device, recipe.compute.threads or torch.get_num_threads())
    if measured is None:
        return _OVERHEAD_BYTES[device], 0.0
    expected = replay_step(description, shape, small).peak
    voxels = setting.batch * recipe.window[0] * recipe.window[1] * recipe.window[2]
    share = voxels / (window[0] * window[1] * window[2])
    return max(_LEAST_OVERHEAD[device], measured.peak - expected), round(measured.seconds * share, 3)


def _reasons(recipe: Recipe, own: int, batch: int, recompute: bool, precision: str, device: str) -> tuple[str, ...]:
    reasons = []
    if recipe.compute.precision == "auto":
        why = {"cuda": "the GPU has it", "cpu": "this processor computes it fast"}[device]
        reasons.append(f"{precision}: {why if precision != 'fp32' else 'this processor has no fast bf16'}")
    if batch < own:
        reasons.append(f"the batch of {own} in parts of {batch}: the budget")
    if recompute:
        reasons.append(
            "blocks are computed twice: " + ("the budget" if recipe.compute.recompute == "auto" else "asked")
        )
    return tuple(reasons)
