"""A student beside its teacher: what it is told, that it goes on exactly, and who may teach whom."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hounsfield.errors import PackageInvalid, SettingsError
from hounsfield.packages import ModelPackage
from hounsfield.training.loop import CHECKPOINT, Hooks
from hounsfield.training.memory_plan import plan_training
from hounsfield.training.network import describe, start
from hounsfield.training.recipe_text import read_recipe, recipe_digest
from hounsfield.training.teaching import soft_loss
from training.conftest import Runner
from training.phantoms import PACKAGE, RECIPE, write_recipe

pytestmark = pytest.mark.torch
SMALL = RECIPE.replace("filters = [4, 8]", "filters = [4, 4]")


@pytest.fixture(scope="module")
def teacher(balls: Path, prepared_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    """A package that finds the balls, more or less."""
    folder = tmp_path_factory.mktemp("teacher")
    torch.set_num_threads(1)
    recipe = write_recipe(folder, RECIPE + PACKAGE, steps="40", every="40", learning_rate="0.02")
    trained = Runner(balls, prepared_cases)(recipe, folder / "run", package=True)
    assert trained.finished is not None
    assert trained.finished.package is not None
    return trained.finished.package


def lesson(package: ModelPackage, more: str = "") -> str:
    return f'\n[teacher]\npackage = "{package.root}"\n{more}'


def test_the_soft_loss_is_nothing_for_the_same_answer_and_grows_with_the_distance() -> None:
    told = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0)) * 5
    assert soft_loss(told, told, 2.0) < 0.02  # the Dice of soft masks is smoothed
    far = [float(soft_loss(told + step * told.roll(1, 1), told, 2.0)) for step in (0.0, 0.5, 1.0, 2.0)]
    assert far == sorted(far)
    softly = (told / 3).softmax(1)
    by_hand = (softly * (softly.log() - ((2 * told) / 3).log_softmax(1))).sum(1).mean() * 9
    both = soft_loss(2 * told, told, 3.0)
    mask, other = (2 * told).softmax(1)[:, 1:].flatten(2), told.softmax(1)[:, 1:].flatten(2)
    dice = (2 * (mask * other).sum(2) + 1) / ((mask**2 + other**2).sum(2) + 1)
    torch.testing.assert_close(both, by_hand + 1 - dice.mean())


def test_a_student_starts_from_the_strongest_channels_and_learns_from_its_teacher(
    teacher: ModelPackage, tmp_path: Path, run_training: Runner
) -> None:
    recipe = write_recipe(tmp_path, SMALL + lesson(teacher, "share = 0.7\nfeatures = 0.5\n"), steps="20", every="20")
    before = load_file(str(teacher.weights_path))
    trained = run_training(recipe, tmp_path / "run")
    taught = json.loads((trained.folder / "training.json").read_text())["teacher"]
    assert taught == {"reference": teacher.reference, "digest": teacher.digest}
    alone = run_training(write_recipe(tmp_path, SMALL, steps="20", every="20"), tmp_path / "alone")
    assert trained.state.best_score is not None
    assert alone.state.best_score is not None
    assert trained.state.best_score > alone.state.best_score + 0.1
    adapters = [name for name in load_file(str(trained.folder / CHECKPOINT)) if name.startswith("adapters.")]
    assert adapters == ["adapters.down/1/0.bias", "adapters.down/1/0.weight"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in load_file(str(teacher.weights_path)).items())
    kept = load_file(str(trained.weights))
    assert kept["down.1.0.first.convolution.weight"].shape[0] == 4


def test_a_student_goes_on_to_the_same_weights(teacher: ModelPackage, tmp_path: Path, run_training: Runner) -> None:
    recipe = write_recipe(tmp_path, SMALL + lesson(teacher, "features = 0.5\n"), every="12")
    whole = run_training(recipe, tmp_path / "whole")
    stop = Hooks(progress=lambda done, total: (_ for _ in ()).throw(KeyboardInterrupt) if done == 7 else None)
    with pytest.raises(KeyboardInterrupt):
        run_training(recipe, tmp_path / "again", stop)
    again = run_training(recipe, tmp_path / "again", resume=True)
    assert again.weights.read_bytes() == whole.weights.read_bytes()


def test_the_plan_counts_the_teacher(teacher: ModelPackage, tmp_path: Path, balls: Path) -> None:
    recipe = read_recipe(write_recipe(tmp_path, SMALL))
    description = describe(recipe)
    alone = plan_training(recipe, description, measure=False)
    both = plan_training(recipe, description, measure=False, teacher=teacher.manifest.architecture)
    added = both.predicted_peak_bytes - alone.predicted_peak_bytes
    assert added == both.bytes_by_part["teacher"] > load_bytes(teacher)


def load_bytes(package: ModelPackage) -> int:
    return sum(tensor.nbytes for tensor in load_file(str(package.weights_path)).values())


def test_who_cannot_teach_is_refused(teacher: ModelPackage, tmp_path: Path) -> None:
    def begin(text: str) -> None:
        recipe = read_recipe(write_recipe(tmp_path, text))
        start(recipe, tmp_path)

    with pytest.raises(SettingsError, match="teacher and student differ in: spacing_mm"):
        begin(SMALL.replace("[1.0, 1.0, 1.0]", "[2.0, 1.0, 1.0]") + lesson(teacher))
    with pytest.raises(SettingsError, match="teacher and student differ in: labels"):
        begin(SMALL.replace("labels = 1", "labels = 2") + lesson(teacher))
    with pytest.raises(PackageInvalid, match="wider than the one"):
        begin(RECIPE.replace("filters = [4, 8]", "filters = [4, 12]") + lesson(teacher))
    begin(RECIPE.replace("filters = [4, 8]", "filters = [4, 12]") + lesson(teacher, 'start = "recipe"\n'))
    with pytest.raises(SettingsError, match="the student starts from its teacher's channels"):
        begin(SMALL + lesson(teacher) + f'\n[transfer]\npackage = "{teacher.root}"\n')


def test_a_recipe_without_a_teacher_keeps_the_digest_that_it_had_before_there_were_teachers(tmp_path: Path) -> None:
    recipe = read_recipe(write_recipe(tmp_path, RECIPE))
    left_out = {"package": True, "search": True, "teacher": True, "compute": {"checkpoint_every"}}
    table = {**recipe.model_dump(mode="json", exclude=left_out), "output_channels": recipe.output_channels}
    assert recipe_digest(recipe) == hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()
