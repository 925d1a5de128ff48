"""Train a recipe in a folder: start or continue, then leave weights, graph, curves and a package."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hounsfield.architectures import load_weights, weights_of
from hounsfield.errors import OutputError, OutputExists, TrainingError
from hounsfield.packages import ModelPackage
from hounsfield.training.allocator import return_memory_at_once
from hounsfield.training.checkpoints import read_tensors, write_bytes, write_tensors, write_text
from hounsfield.training.curves import curves_png
from hounsfield.training.finishing import Finished, finish
from hounsfield.training.loop import BEST, CHECKPOINT, Hooks, Loop
from hounsfield.training.material import Material, Told, gather
from hounsfield.training.memory_plan import TrainingPlan, plan_training
from hounsfield.training.network import describe, start, teacher_of
from hounsfield.training.operating_point import tune
from hounsfield.training.processes import Group, joined
from hounsfield.training.recipe import Recipe
from hounsfield.training.recipe_text import recipe_digest
from hounsfield.training.state import State
from hounsfield.training.teaching import teacher_description, teacher_network
from hounsfield.version import __version__

PLAN = "plan.json"
WEIGHTS = "weights.safetensors"
RECORD = "training.json"
CURVES = "curves.png"


@dataclass(frozen=True)
class Job:
    """Where a training reads and writes.

    Parameters
    ----------
    recipe
        The recipe.
    recipe_folder
        For the relative paths in it.
    folder
        Of the run; new, or with a checkpoint to continue from.
    cache_folder
        Of the prepared cases; by default ``cache`` in the run's folder.
    resume
        Whether a checkpoint that is there may be continued.
    package
        Whether to end with graph and package.
    measure
        Whether the memory plan may measure a short step.
    """

    recipe: Recipe
    recipe_folder: Path
    folder: Path
    cache_folder: Path | None = None
    resume: bool = False
    package: bool = True
    measure: bool = True


@dataclass(frozen=True)
class Trained:
    """What a training left.

    Parameters
    ----------
    weights
        ``weights.safetensors``: the averaged weights of the best validation (or of the last step).
    state
        Where it ended.
    plan
        How steps were carried out at the end.
    finished
        Graph and package, where asked for.
    """

    folder: Path
    weights: Path
    state: State
    plan: TrainingPlan
    finished: Finished | None


def train(job: Job, hooks: Hooks, told: Told) -> Trained:
    """Run the whole training.

    Raises
    ------
    OutputExists
        If the folder holds another training, or one that ``resume`` was not asked for.
    TrainingError
        If it diverges, or the checkpoint does not belong to this recipe and data.
    InputError, SettingsError, DoesNotFit
        If data, recipe or memory do not allow it; nothing was trained then.
    """
    recipe = job.recipe
    description = describe(recipe)
    state_before = _look(job)
    with joined(recipe.compute.device) as group, _settled(recipe):
        hooks = hooks if group.first else Hooks()
        told = told if group.first else _nobody
        job.folder.mkdir(parents=True, exist_ok=True)
        material = _material(job, description, group, told)
        teacher = teacher_of(recipe, job.recipe_folder)
        plan = _plan(job, description, teacher, group)
        if plan.measured and plan.device == "cpu":
            return_memory_at_once()
        hooks.note(f"plan: {plan}", "note")
        loop = Loop(recipe, description, _network(job, material), material, plan, job.folder, group)
        if teacher is not None and recipe.teacher is not None:
            loop.learn_from(teacher_network(teacher, recipe.teacher), recipe.teacher)
        state = _state(job, loop, material, state_before, hooks)
        state = loop.run(state, hooks)
        group.wait()
        trained = _leave(job, loop, state, description, teacher, hooks) if group.first else None
        group.wait()
        return trained or Trained(job.folder, job.folder / WEIGHTS, state, loop.plan, None)


def _look(job: Job) -> bool:
    """Whether there is a checkpoint to continue from."""
    there = (job.folder / CHECKPOINT).is_file()
    if there and not job.resume:
        raise OutputExists(
            fact="the folder holds a training already", remedy="give --resume to continue it, or another folder",
            path=job.folder,
        )  # fmt: skip
    return there


def _material(job: Job, description: dict[str, Any], group: Group, told: Told) -> Material:
    """The first process prepares the cases; the others find them done."""
    cache = job.cache_folder or job.folder / "cache"
    stride = int(description.get("stride", 4)) if job.recipe.task == "detection" else 1
    if not group.first:
        group.wait()
    material = gather(job.recipe, job.recipe_folder, cache, stride, group.local_size, told)
    if group.first:
        group.wait()
    return material


def _plan(job: Job, description: dict[str, Any], teacher: ModelPackage | None, group: Group) -> TrainingPlan:
    """The plan of the run before, if there is one: exact resuming needs the same parts."""
    path = job.folder / PLAN
    if not group.first:
        group.wait()
    if not path.is_file():
        table = job.recipe.teacher
        beside = None if teacher is None or table is None else teacher_description(teacher, table)
        write_text(path, plan_training(job.recipe, description, group.size, job.measure, beside).to_json())
    if group.first:
        group.wait()
    return TrainingPlan.from_json(path.read_text(encoding="utf-8"))


def _network(job: Job, material: Material) -> nn.Module:
    network = start(job.recipe, job.recipe_folder)
    if material.record_mean is not None and job.recipe.transfer is None:
        network.record_mean.copy_(material.record_mean)
        network.record_std.copy_(material.record_std)
    return network


def _state(job: Job, loop: Loop, material: Material, continued: bool, hooks: Hooks) -> State:
    threads = torch.get_num_threads()
    fresh = State(recipe_digest(job.recipe), material.digest, threads)
    if not continued:
        return fresh
    tensors, values = read_tensors(job.folder / CHECKPOINT)
    scaler = values.pop("scaler", {})
    try:
        state = State(**values)
    except TypeError as error:
        raise TrainingError(
            "the checkpoint is of another version", "start anew in another folder", job.folder / CHECKPOINT
        ) from error
    for what, old, new in (
        ("recipe", state.recipe_digest, fresh.recipe_digest),
        ("data", state.data_digest, fresh.data_digest),
    ):
        if old != new:
            raise TrainingError(
                fact=f"the {what} changed since the checkpoint was written",
                remedy=f"restore the {what}, or train anew in another folder",
                path=job.folder,
            )
    if state.threads != threads:
        hooks.note(f"the run used {state.threads} threads before and {threads} now: the weights will differ", "warn")
    loop.restore(tensors)
    loop.restore_scaler(scaler)
    if not state.finished:
        hooks.note(f"continuing after step {state.step}", "note")
        state.interruptions += 1
    return replace(state, threads=threads)


def _leave(
    job: Job, loop: Loop, state: State, description: dict[str, Any], teacher: ModelPackage | None, hooks: Hooks
) -> Trained:
    """Weights of the best validation, the record, the curves, graph and package."""
    network = loop.average.cpu().float().eval()
    best = job.folder / BEST
    if state.best_score is not None and best.is_file():
        tensors, _ = _best(best)
        load_weights(network, tensors)
    point = _tuned(job, network, str(description["name"]), loop.material, hooks)
    write_tensors(job.folder / WEIGHTS, weights_of(network))
    metric = next((str(p["metric"]) for p in state.curve if "metric" in p), "score")
    write_bytes(job.folder / CURVES, curves_png(state.curve, metric))
    record = _record(job, loop, state, description, teacher) | point
    write_text(job.folder / RECORD, json.dumps(record, indent=1, sort_keys=True) + "\n")
    _tensorboard(job.folder, state)
    finished = None
    if job.package:
        finished = finish(job.recipe, description, network, job.folder, record, hooks.note)
    return Trained(job.folder, job.folder / WEIGHTS, state, loop.plan, finished)


def _tuned(job: Job, network: nn.Module, name: str, material: Material, hooks: Hooks) -> dict[str, Any]:
    """The entry ``operating_point`` of the record, where the recipe asks for one."""
    if job.recipe.package is None or not job.recipe.package.tune_threshold:
        return {}
    point = tune(network, job.recipe, name, material.validation, material.cache)
    hooks.note(f"threshold {point.threshold:g}: Dice {point.dice:.4f}, {point.dice_at_half:.4f} at one half", "note")
    return {"operating_point": point.as_dict()}


def _best(path: Path) -> tuple[dict[str, torch.Tensor], None]:
    from safetensors.torch import load_file

    return load_file(str(path)), None


def _record(
    job: Job, loop: Loop, state: State, description: dict[str, Any], teacher: ModelPackage | None
) -> dict[str, Any]:
    """What was done, for the card and the evidence."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if loop.device.type == "cuda":
        peak = int(torch.cuda.max_memory_allocated(loop.device))
    return {
        "hounsfield": __version__,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "architecture": description,
        "recipe": job.recipe.model_dump(mode="json", exclude={"package"}),
        "recipe_sha256": state.recipe_digest,
        "data_sha256": state.data_digest,
        "seed": job.recipe.seed,
        "teacher": None if teacher is None else {"reference": teacher.reference, "digest": teacher.digest},
        "training_cases": len(loop.material.training),
        "training_patients": loop.material.patients,
        "validation_cases": len(loop.material.validation),
        "processes": loop.group.size,
        "threads": state.threads,
        "steps": state.step,
        "finished": state.finished,
        "interruptions": state.interruptions,
        "seconds": round(state.seconds, 1),
        "best_score": state.best_score,
        "best_step": state.best_step,
        "curve": state.curve,
        "plan": json.loads(loop.plan.to_json()),
        "peak_bytes": peak,
    }


def _tensorboard(folder: Path, state: State) -> None:
    """The curve for TensorBoard, only where it is installed."""
    with contextlib.suppress(ImportError):
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        writer = SummaryWriter(str(folder / "tensorboard"))
        for point in state.curve:
            for key in ("loss", "score"):
                if key in point:
                    writer.add_scalar(key, point[key], point["step"])
        writer.close()


@contextlib.contextmanager
def _settled(recipe: Recipe) -> Iterator[None]:
    """Threads and determinism as the recipe says, and as they were afterwards."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    if recipe.compute.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it by this name
    if recipe.compute.threads:
        torch.set_num_threads(recipe.compute.threads)
    torch.use_deterministic_algorithms(recipe.compute.deterministic, warn_only=True)
    torch.backends.cudnn.benchmark = not recipe.compute.deterministic
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"the training cannot be written ({(error.strerror or 'error').lower()})", "free space, then --resume"
        ) from error
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)
        torch.backends.cudnn.benchmark = benchmark


def _nobody(stage: str, done: int, total: int) -> None:
    """Other processes tell nothing."""
