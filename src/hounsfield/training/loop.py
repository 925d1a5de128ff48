"""The training loop, read from top to bottom: plan, resume, step, validate, checkpoint, finish."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hounsfield.architectures import architecture
from hounsfield.errors import DoesNotFit, OutputError, SettingsError, TrainingError
from hounsfield.training.averaging import average_into
from hounsfield.training.batches import Batch
from hounsfield.training.checkpoints import pack, unpack, write_tensors
from hounsfield.training.losses import loss_of
from hounsfield.training.material import Material
from hounsfield.training.memory_plan import TrainingPlan, next_rung
from hounsfield.training.processes import Group
from hounsfield.training.recipe import Optimisation, Recipe
from hounsfield.training.recompute import recompute_blocks
from hounsfield.training.schedules import learning_rate
from hounsfield.training.state import State
from hounsfield.training.teacher import Teacher
from hounsfield.training.teaching import Lesson
from hounsfield.training.validation import Score, validate

CHECKPOINT = "checkpoint.safetensors"
BEST = "best.safetensors"
_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Hooks:
    """How the loop reports: progress, a line for the user, and a question whether to stop.

    Parameters
    ----------
    progress
        Called with the steps done and the total.
    note
        Called with a message and its severity.
    scored
        Called with the step and the score after each validation; True stops the training.
    """

    progress: Callable[[int, int], None] = lambda done, total: None
    note: Callable[[str, str], None] = lambda message, severity: None
    scored: Callable[[int, Score], bool] = lambda step, score: False


class Loop:
    """One training in one process."""

    def __init__(
        self,
        recipe: Recipe,
        description: dict[str, Any],
        network: nn.Module,
        material: Material,
        plan: TrainingPlan,
        folder: Path,
        group: Group,
    ) -> None:
        self.recipe = recipe
        self.description = description
        self.material = material
        self.plan = plan
        self.folder = folder
        self.group = group
        index = f":{group.local_rank}" if plan.device == "cuda" else ""
        self.device = torch.device(f"{plan.device}{index}")
        self.network = channels_last(network.to(self.device))
        self.average = copy.deepcopy(self.network)
        self.optimiser = _optimiser(self.network, recipe.optimisation)
        self._scaler = torch.amp.GradScaler(plan.device, enabled=plan.precision == "fp16")
        self._weights = _class_weights(recipe, self.device)
        self._stride = int(description.get("stride", 4)) if recipe.task == "detection" else 1
        self._forward = self._wrap()
        self._lesson: Lesson | None = None

    def learn_from(self, teacher: nn.Module, table: Teacher) -> None:
        """Let a teacher's answers be part of the loss from now on.

        Raises
        ------
        SettingsError
            If several processes train: what lies between the networks is trained in one.
        """
        if self.group.size > 1:
            raise SettingsError("a student is taught in one process", "train without torchrun")
        window = torch.zeros(1, int(self.description["channels_in"]), *self.recipe.window, device=self.device)
        torch.manual_seed(self.recipe.seed)
        blocks = architecture(str(self.description["name"])).blocks
        self._lesson = Lesson(channels_last(teacher.to(self.device)), self.network, table, window, blocks)
        adapters = list(self._lesson.adapters.parameters())
        if adapters:
            self.optimiser.add_param_group({"params": adapters, "weight_decay": 0.0})

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Continue from the tensors of a checkpoint."""
        unpack(tensors, self.network, self.average, self.optimiser, self._adapters)

    def run(self, state: State, hooks: Hooks) -> State:
        """Train until the last step, early stopping, or the hooks say stop.

        Raises
        ------
        TrainingError
            If the loss is no longer a number; the last checkpoint is kept.
        DoesNotFit
            If the device runs out of memory even on the last rung of the plan.
        """
        settings, every = self.recipe.optimisation, self.recipe.compute.checkpoint_every
        while state.step < settings.steps and not state.finished:
            started = time.monotonic()
            loss = self._step_or_replan(state.step, hooks)
            state.step += 1
            state.add_loss(loss, settings.steps)
            state.seconds += time.monotonic() - started
            hooks.progress(state.step, settings.steps)
            if self._due(state.step):
                self._validate(state, hooks)
            if state.step == settings.steps and not state.finished:
                state.finished = "all steps done"
            if state.step % every == 0 or state.finished:
                self.save(state, hooks)
        return state

    def save(self, state: State, hooks: Hooks) -> None:
        """Write the checkpoint; where the disk refuses, the one before is kept and the training goes on."""
        if not self.group.first:
            return
        values = {**state.as_dict(), "scaler": self._scaler.state_dict() if self._scaler.is_enabled() else {}}
        try:
            tensors = pack(self.network, self.average, self.optimiser, self._adapters)
            write_tensors(self.folder / CHECKPOINT, tensors, values)
        except OutputError as error:
            hooks.note(f"no checkpoint at step {state.step}: {error.fact}; the one before is kept", "warn")
            if state.finished:
                raise

    @property
    def _adapters(self) -> nn.Module | None:
        return None if self._lesson is None else self._lesson.adapters

    def restore_scaler(self, values: dict[str, Any]) -> None:
        """The loss scale of fp16 as it was."""
        if values and self._scaler.is_enabled():
            self._scaler.load_state_dict(values)

    def _due(self, step: int) -> bool:
        last = step == self.recipe.optimisation.steps
        return bool(self.material.validation) and (last or step % self.recipe.validation.every == 0)

    def _validate(self, state: State, hooks: Hooks) -> None:
        settings = self.recipe.validation
        stop = 0.0
        if self.group.first:
            score = validate(
                self.average,
                self.recipe,
                self.material.validation,
                self.material.cache,
                self.material.validation_patches,
                _TYPES[self.plan.precision],
                self._stride,
            )
            if state.add_score(score.metric, score.value, dict(score.parts), settings.least_gain):
                write_tensors(self.folder / BEST, _averaged(self.average))
            hooks.note(f"step {state.step}: {score.metric} {score.value:.4f} {_listed(score)}", "note")
            asked = hooks.scored(state.step, score)
            patience = settings.patience > 0 and state.waited >= settings.patience
            stop = 2.0 if asked else float(patience)
        (stop,) = self.group.share([stop])
        if stop:
            state.finished = "stopped by the search" if stop == 2.0 else f"no gain in {settings.patience} validations"

    def _step_or_replan(self, step: int, hooks: Hooks) -> float:
        while True:
            try:
                return self._step(step)
            except torch.OutOfMemoryError as error:
                self.optimiser.zero_grad(set_to_none=True)
                if self.group.size > 1:
                    raise DoesNotFit(
                        "the device ran out of memory", "set compute.memory, so that the plan takes smaller parts"
                    ) from error
                self._replan(hooks)

    def _replan(self, hooks: Hooks) -> None:
        """The next smaller way; the step is done again, and no choice in it depends on the way."""
        plan = next_rung(self.plan, self.recipe, self.description)
        if plan is None:
            raise DoesNotFit(
                fact="the device ran out of memory, and there is no smaller way to carry out a step",
                remedy="choose a smaller window or fewer filters, or a device with more memory",
            )
        if plan.recompute and not self.plan.recompute:
            recompute_blocks(self.network, str(self.description["name"]))
        self.plan = plan
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        hooks.note(f"out of memory: going on with {plan}", "warn")

    def _step(self, step: int) -> float:
        settings = self.recipe.optimisation
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(step, settings)
        torch.manual_seed(_seed(self.recipe.seed, step, self.group.rank))
        self.network.train()
        total = torch.zeros((), device=self.device)
        for number, batch in enumerate(self._batches(step)):
            last = number == self.plan.parts - 1
            total += self._back(batch, last) / self.plan.parts
        self._scaler.unscale_(self.optimiser)
        nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip_norm)
        loss = self.group.mean(total).item()
        if loss != loss or loss in (float("inf"), float("-inf")):
            raise TrainingError(
                fact=f"the loss is not a number any more at step {step + 1}",
                remedy="lower optimisation.learning_rate, or continue from the last checkpoint with fp32",
                path=self.folder,
            )
        self._scaler.step(self.optimiser)
        self._scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        average_into(self.average, self.network, settings.ema, step)
        return float(loss)

    def _back(self, batch: Batch, last: bool) -> Tensor:
        """Forward and back for one part; gradients of the parts add up to those of the batch."""
        kind = _TYPES[self.plan.precision]
        wait = self.group.size > 1 and not last
        if wait:
            self._forward.require_backward_grad_sync = False
        try:
            inputs = tuple(_last(tensor) for tensor in batch.inputs)
            arithmetic = torch.autocast(self.device.type, kind, enabled=kind != torch.float32)
            with arithmetic:
                logits = self._forward(*inputs)
            loss = loss_of(self.recipe.loss, logits, batch.target, self._weights)
            if self._lesson is not None:
                loss = self._lesson.loss(loss, inputs, logits, arithmetic)
            self._scaler.scale(loss / self.plan.parts).backward()
        finally:
            if wait:
                self._forward.require_backward_grad_sync = True
        return loss.detach()

    def _batches(self, step: int) -> Any:
        """The parts of this process's share of a step, the next one made while the device computes."""
        own = self.recipe.optimisation.batch // self.group.size
        first = step * self.recipe.optimisation.batch + self.group.rank * own
        size = self.plan.batch
        parts = [list(range(first + n, first + n + size)) for n in range(0, own, size)]
        patches = self.material.patches
        if self.device.type == "cpu":
            yield from (patches.batch(items, self.device) for items in parts)
            return
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(patches.batch, parts[0], self.device)
            for following in [*parts[1:], None]:
                batch = waiting.result()
                if following is not None:
                    waiting = pool.submit(patches.batch, following, self.device)
                yield batch

    def _wrap(self) -> nn.Module:
        if self.plan.recompute:
            recompute_blocks(self.network, str(self.description["name"]))
        forward = self.group.wrap(self.network)
        return torch.compile(forward) if self.recipe.compute.compile else forward


def channels_last(network: nn.Module) -> nn.Module:
    """Lay kernels out with the channels last, which convolutions in BF16 are fastest with; in place."""
    for parameter in network.parameters():
        parameter.data = _last(parameter.data)
    return network


def _last(tensor: Tensor) -> Tensor:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return tensor.to(memory_format=formats[tensor.dim()]) if tensor.dim() in formats else tensor


def _optimiser(network: nn.Module, settings: Optimisation) -> torch.optim.Optimizer:
    """Weight decay on matrices and kernels only, not on norms and biases."""
    heavy = [p for p in network.parameters() if p.dim() > 1]
    light = [p for p in network.parameters() if p.dim() <= 1]
    groups = [{"params": heavy, "weight_decay": settings.weight_decay}, {"params": light, "weight_decay": 0.0}]
    if settings.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=True)
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def _class_weights(recipe: Recipe, device: torch.device) -> Tensor | None:
    weights = recipe.optimisation.class_weights
    if not weights:
        return None
    if len(weights) != recipe.output_channels:
        raise TrainingError(
            fact=f"there are {len(weights)} class weights for {recipe.output_channels} logits",
            remedy="give optimisation.class_weights one number per logit, background included",
        )
    return torch.tensor(weights, device=device)


def _averaged(average: nn.Module) -> dict[str, Tensor]:
    from hounsfield.architectures import weights_of

    return weights_of(average)


def _seed(seed: int, step: int, rank: int) -> int:
    """A different stream for every step and process."""
    return ((seed * 1_000_003 + step) * 1_009 + rank) % (2**63)


def _listed(score: Score) -> str:
    return "(" + ", ".join(f"{name} {value:.4f}" for name, value in score.parts.items()) + ")"
