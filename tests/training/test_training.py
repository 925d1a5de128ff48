"""The loop as a user sees it: it learns, stops, continues, ends with a package, and survives trouble."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from hounsfield.errors import DoesNotFit, InputError, OutputExists, SettingsError, TrainingError
from hounsfield.packages import verify
from hounsfield.training.loop import Hooks, Loop
from training.conftest import Runner
from training.phantoms import MAPS, PACKAGE, RECIPE, save_nifti, write_recipe, write_table

pytestmark = pytest.mark.torch


def task_recipe(task: str, network: str, data: str = "", window: str = "[8, 8, 8]") -> str:
    text = RECIPE.replace('task = "segmentation"', f'task = "{task}"').replace("[8, 8, 8]", window)
    text = text.replace('name = "attention-unet"\nfilters = [4, 8]', network)
    if task != "detection":
        text = text.replace("labels = 1\n", "")
        text = text.replace("[input]", f'target = ["size"]\nclasses = ["small", "large"]\n{data}[input]')
    return text


def test_it_learns_the_balls_and_ends_with_a_package(balls: Path, tmp_path: Path, run_training: Runner) -> None:
    told = PACKAGE.replace("To test the", "Research use only. To test the")
    recipe = write_recipe(tmp_path, RECIPE + told, steps="150", every="50", learning_rate="0.02")
    trained = run_training(recipe, tmp_path / "run", package=True)
    assert trained.state.best_score is not None
    assert trained.state.best_score > 0.8
    losses = [point["loss"] for point in trained.state.curve if "loss" in point]
    assert np.mean(losses[-20:]) < 0.6 * np.mean(losses[:20])
    assert trained.finished is not None
    assert trained.finished.package is not None
    assert max(trained.finished.parity.values()) < 1e-4
    package = verify(trained.finished.package.root)
    assert package.reference == "ball-mr-0.1.0"
    assert package.manifest.architecture is not None
    assert package.weights_path is not None
    assert package.weights_path.read_bytes() == trained.weights.read_bytes()
    record = json.loads((trained.folder / "training.json").read_text())
    assert record["data_sha256"] in package.card()
    assert f"{record['best_score']:.4f}" in package.card()
    assert package.card().count("Research use only. To test the trainer") == package.card().count("Research use") == 1
    with Image.open(trained.folder / "curves.png") as curves:
        assert curves.size == (960, 540)

    again = RECIPE + f'\n[transfer]\npackage = "{package.root}"\n'
    transferred = run_training(write_recipe(tmp_path, again, steps="1", every="1"), tmp_path / "transfer")
    assert transferred.state.best_score is not None
    assert transferred.state.best_score > 0.7  # a random network is far below


@pytest.mark.parametrize(
    ("task", "network", "data", "window"),
    [
        ("classification", 'name = "densenet121"\nspatial_dims = 3\nblocks = [1, 1]', "", "[16, 16, 16]"),
        ("detection", 'name = "nodule-detector"\nfilters = [4, 4, 4]\nstride = 2', "", "[16, 16, 16]"),
        ("fusion", 'name = "fusion"\nfilters = [4, 8]\nhidden_size = 8', 'record = ["age"]\n', "[16, 16, 16]"),
    ],
)
def test_every_task_trains_and_exports(
    balls: Path, tmp_path: Path, run_training: Runner, task: str, network: str, data: str, window: str
) -> None:
    recipe = write_recipe(tmp_path, task_recipe(task, network, data, window), steps="4", every="4")
    trained = run_training(recipe, tmp_path / "run", package=True)
    assert trained.state.finished == "all steps done"
    assert trained.state.best_score is not None
    assert trained.finished is not None
    assert set(trained.finished.parity) == {"onnxruntime", "openvino"}
    assert trained.finished.package is None


def test_a_window_that_the_network_cannot_take_is_told(tmp_path: Path, run_training: Runner) -> None:
    recipe = write_recipe(tmp_path, RECIPE.replace("[8, 8, 8]", "[8, 7, 8]"))
    with pytest.raises(SettingsError, match="does not take a window of 8 x 7 x 8"):
        run_training(recipe, tmp_path / "run")


def test_a_sequence_of_phases_trains(tmp_path: Path, run_training: Runner) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for n in range(6):
        row = {"patient_id": f"p{n}", "split": "train" if n < 4 else "validation", "size": ["small", "large"][n % 2]}
        for phase in range(3):
            image = rng.normal(size=(1, 16, 16)) + (phase if n % 2 else 0)
            save_nifti(tmp_path / f"d{n}-{phase}.nii.gz", image.astype(np.float32))
            row[f"image_{phase}"] = f"d{n}-{phase}.nii.gz"
        rows.append(row)
    write_table(tmp_path / "cases.csv", rows)
    text = task_recipe("dynamic", 'name = "cnn-lstm"\nfilters = [4, 8]\nhidden_size = 8', "phases = 3\n", "[1, 16, 16]")
    run_training.balls = tmp_path
    trained = run_training(write_recipe(tmp_path, text, steps="20", every="20"), tmp_path / "run", package=True)
    assert trained.finished is not None
    assert max(trained.finished.parity.values()) < 1e-4
    assert trained.state.best_score == 1.0


def test_maps_are_learnt_voxel_by_voxel(tmp_path: Path, run_training: Runner) -> None:
    """The signal of a voxel grows by its slope; the size of the signal is what counts, so nothing norms it away."""
    rng, rows = np.random.default_rng(0), []
    for n in range(5):
        slope = np.kron(rng.uniform(0, 1, (2, 5, 5)), np.ones((1, 3, 3)))
        curves = 100 * (1 + slope[..., None] * np.arange(4)) + rng.normal(0, 1, (2, 15, 15, 4))
        affine = np.diag([-1.0, -1.0, 1.0, 1.0])
        nibabel.save(nibabel.Nifti1Image(curves.transpose(2, 1, 0, 3), affine), tmp_path / f"s{n}.nii.gz")
        known = np.where(rng.random(slope.shape) < 0.2, np.nan, slope)
        maps = nibabel.Nifti1Image(known.transpose(2, 1, 0).astype(np.float32), affine)
        nibabel.save(maps, tmp_path / f"m{n}.nii.gz")
        part = "validation" if n == 4 else "train"
        rows.append({"image": f"s{n}.nii.gz", "label": f"m{n}.nii.gz", "patient_id": f"p{n}", "split": part})
    write_table(tmp_path / "cases.csv", rows)
    run_training.balls = tmp_path
    trained = run_training(write_recipe(tmp_path, MAPS), tmp_path / "run", package=True)
    assert trained.state.best_score is not None
    assert trained.state.best_score > 0.95
    assert trained.finished is not None
    assert trained.finished.package is not None
    assert trained.finished.package.manifest.input.times is not None


def test_two_runs_are_equal_and_another_seed_is_not(tmp_path: Path, run_training: Runner) -> None:
    one = run_training(write_recipe(tmp_path), tmp_path / "one")
    two = run_training(write_recipe(tmp_path), tmp_path / "two")
    other = run_training(write_recipe(tmp_path, seed="9"), tmp_path / "other")
    assert one.weights.read_bytes() == two.weights.read_bytes() != other.weights.read_bytes()


def test_parts_and_recomputing_change_nothing_but_rounding(tmp_path: Path, run_training: Runner) -> None:
    whole = run_training(write_recipe(tmp_path, steps="4"), tmp_path / "whole")
    (tmp_path / "parts").mkdir()
    plan = json.loads((whole.folder / "plan.json").read_text()) | {"batch": 1, "parts": 2, "recompute": True}
    (tmp_path / "parts" / "plan.json").write_text(json.dumps(plan))
    parts = run_training(write_recipe(tmp_path, steps="4"), tmp_path / "parts")
    assert (parts.plan.batch, parts.plan.recompute) == (1, True)
    for name, tensor in load_file(whole.weights).items():
        torch.testing.assert_close(tensor, load_file(parts.weights)[name], rtol=1e-3, atol=1e-4)


def test_a_folder_with_a_training_is_not_touched_unasked(tmp_path: Path, run_training: Runner) -> None:
    recipe = write_recipe(tmp_path, steps="4")
    first = run_training(recipe, tmp_path / "run")
    before = first.weights.read_bytes()
    with pytest.raises(OutputExists, match="--resume"):
        run_training(recipe, tmp_path / "run")
    changed = write_recipe(tmp_path, steps="4", seed="77")
    with pytest.raises(TrainingError, match="the recipe changed"):
        run_training(changed, tmp_path / "run", resume=True)
    again = run_training(write_recipe(tmp_path, steps="4"), tmp_path / "run", resume=True)
    assert again.state.step == 4
    assert again.weights.read_bytes() == before


def test_it_stops_when_nothing_is_gained(tmp_path: Path, run_training: Runner) -> None:
    text = RECIPE.replace("every = 6", "every = 2\npatience = 2\nleast_gain = 10.0")
    trained = run_training(write_recipe(tmp_path, text), tmp_path / "run")
    assert trained.state.step == 6
    assert trained.state.finished == "no gain in 2 validations"
    assert trained.state.best_step == 2


def test_out_of_memory_is_planned_anew(tmp_path: Path, run_training: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    text = RECIPE.replace('recompute = "never"', 'recompute = "auto"')
    calm = run_training(write_recipe(tmp_path, text, steps="4"), tmp_path / "calm")
    original = Loop._back

    def short_of_memory(self: Loop, *inputs: object) -> torch.Tensor:
        if self.plan.batch > 1 or not self.plan.recompute:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, *inputs)  # type: ignore[arg-type]

    monkeypatch.setattr(Loop, "_back", short_of_memory)
    trained = run_training(write_recipe(tmp_path, text, steps="4"), tmp_path / "run")
    assert (trained.plan.batch, trained.plan.parts, trained.plan.recompute) == (1, 2, True)
    assert sum("out of memory: going on" in note for note in run_training.notes) == 3
    for name, tensor in load_file(calm.weights).items():
        torch.testing.assert_close(tensor, load_file(trained.weights)[name], rtol=1e-3, atol=1e-4)

    def never_enough(self: Loop, *inputs: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Loop, "_back", never_enough)
    with pytest.raises(DoesNotFit, match="no smaller way"):
        run_training(write_recipe(tmp_path, text, steps="4"), tmp_path / "none")


def test_divergence_keeps_the_last_checkpoint(
    tmp_path: Path, run_training: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Loop._back

    def diverging(self: Loop, *inputs: object) -> torch.Tensor:
        loss = original(self, *inputs)  # type: ignore[arg-type]
        return loss * float("nan") if self.diverges else loss  # type: ignore[attr-defined]

    monkeypatch.setattr(Loop, "_back", diverging)
    monkeypatch.setattr(Loop, "diverges", False, raising=False)

    def after_four(done: int, total: int) -> None:
        monkeypatch.setattr(Loop, "diverges", done >= 5)

    with pytest.raises(TrainingError, match="not a number any more at step 6"):
        run_training(write_recipe(tmp_path), tmp_path / "run", Hooks(progress=after_four))
    monkeypatch.undo()
    torch.set_num_threads(1)
    healed = run_training(write_recipe(tmp_path), tmp_path / "run", resume=True)
    calm = run_training(write_recipe(tmp_path), tmp_path / "calm")
    assert healed.weights.read_bytes() == calm.weights.read_bytes()


def test_a_full_disk_keeps_the_checkpoint_before(
    tmp_path: Path, run_training: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hounsfield.training.checkpoints as checkpoints

    real, full = checkpoints.os.fsync, [False]

    def fsync(descriptor: int) -> None:
        if full[0]:
            raise OSError(28, "No space left on device")
        real(descriptor)

    def fill(done: int, total: int) -> None:
        full[0] = done in (8, 9)  # the checkpoint of step 8

    monkeypatch.setattr(checkpoints.os, "fsync", fsync)
    seen: list[int] = []

    def progress(done: int, total: int) -> None:
        fill(done, total)
        if done == 10:
            _, state = checkpoints.read_tensors(tmp_path / "run" / "checkpoint.safetensors")
            seen.append(state["step"])

    trained = run_training(write_recipe(tmp_path), tmp_path / "run", Hooks(progress=progress))
    assert seen == [4]
    assert any("no checkpoint at step 8: the weights cannot be written (no space" in n for n in run_training.notes)
    assert trained.state.finished == "all steps done"
    assert not list((tmp_path / "run").glob("*.partial"))


def test_a_damaged_checkpoint_is_told(tmp_path: Path, run_training: Runner) -> None:
    recipe = write_recipe(tmp_path, steps="4")
    run_training(recipe, tmp_path / "run")
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(TrainingError, match="checkpoint cannot be read"):
        run_training(recipe, tmp_path / "run", resume=True)


def test_a_split_that_is_not_there_is_named(tmp_path: Path, run_training: Runner) -> None:
    text = RECIPE.replace('memory = "64MiB"', 'memory = "64MiB"\ntrain = "trian"')
    with pytest.raises(InputError, match="'train'"):
        run_training(write_recipe(tmp_path, text), tmp_path / "run")
