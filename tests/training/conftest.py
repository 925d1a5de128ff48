"""What the tests of training share: one thread, a tiny data set, a way to run a recipe in this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hounsfield.training.loop import Hooks
from hounsfield.training.recipe_text import read_recipe
from hounsfield.training.train import Job, Trained, train
from training.phantoms import make_cases


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``cases.csv``: four training and two validation cases of a ball in noise."""
    folder = tmp_path_factory.mktemp("balls")
    make_cases(folder)
    return folder


@pytest.fixture(scope="session")
def prepared_cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all trainings on the balls."""
    return tmp_path_factory.mktemp("cache")


class Runner:
    """Trains a recipe in this process and keeps what it said."""

    def __init__(self, balls: Path, cache: Path) -> None:
        self.balls = balls
        self.cache = cache
        self.notes: list[str] = []

    def job(self, recipe: Path, out: Path, **changes: Any) -> Job:
        job = Job(read_recipe(recipe), self.balls, out, self.cache, package=False, measure=False)
        return replace(job, **changes)

    def __call__(self, recipe: Path, out: Path, hooks: Hooks | None = None, **changes: Any) -> Trained:
        self.notes = []
        hooks = hooks or Hooks()
        hooks.note = lambda message, severity: self.notes.append(message)
        return train(self.job(recipe, out, **changes), hooks, lambda stage, done, total: None)


@pytest.fixture
def run_training(balls: Path, prepared_cases: Path) -> Runner:
    return Runner(balls, prepared_cases)
