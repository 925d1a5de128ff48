"""Train a recipe, or search for a better one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hounsfield.usecases.events import Note, OnEvent, Progress, silent


@dataclass(frozen=True)
class TrainRequest:
    """What to train, and where.

    Parameters
    ----------
    recipe
        The recipe's TOML file.
    output
        The run's folder.
    resume
        Continue from the checkpoint in it.
    package
        End with graph and package.
    changes
        Values by dotted name that replace those of the recipe.
    """

    recipe: Path
    output: Path
    resume: bool = False
    package: bool = True
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainResult:
    """What was left: files, the plan, and the score that chose the weights."""

    folder: Path
    weights: Path
    steps: int
    finished: str
    best_score: float | None
    plan: str
    package: Path | None
    package_digest: str | None

    def as_dict(self) -> dict[str, Any]:
        """The result as data, for ``--json``."""
        return {
            "folder": str(self.folder),
            "weights": str(self.weights),
            "steps": self.steps,
            "finished": self.finished,
            "best_score": self.best_score,
            "plan": self.plan,
            "package": None if self.package is None else str(self.package),
            "package_digest": self.package_digest,
        }


def train(request: TrainRequest, on_event: OnEvent = silent) -> TrainResult:
    """Train; see :func:`hounsfield.training.train.train` for what it raises."""
    from hounsfield.training.loop import Hooks
    from hounsfield.training.recipe_text import read_recipe
    from hounsfield.training.train import Job
    from hounsfield.training.train import train as run_training

    recipe = read_recipe(request.recipe, request.changes)
    job = Job(recipe, request.recipe.resolve().parent, request.output, resume=request.resume, package=request.package)
    hooks = Hooks(
        progress=lambda done, total: on_event(Progress("train", done, total)),
        note=lambda message, severity: on_event(Note(message, severity)),
    )
    trained = run_training(job, hooks, lambda stage, done, total: on_event(Progress(stage, done, total)))
    package = None if trained.finished is None else trained.finished.package
    return TrainResult(
        trained.folder,
        trained.weights,
        trained.state.step,
        trained.state.finished,
        trained.state.best_score,
        str(trained.plan),
        None if package is None else package.root,
        None if package is None else package.digest,
    )


@dataclass(frozen=True)
class SearchRequest:
    """What to search, where, and for how long.

    Parameters
    ----------
    recipe
        A recipe with a ``[search]`` table.
    output
        The search's folder.
    budget_s
        Seconds.
    resume
        Go on with the search in the folder.
    """

    recipe: Path
    output: Path
    budget_s: float
    resume: bool = False


@dataclass(frozen=True)
class SearchResult:
    """The best values by dotted name, their score, and the report."""

    folder: Path
    best: dict[str, Any]
    score: float | None
    trials: int
    importance: dict[str, float]
    report: Path

    def as_dict(self) -> dict[str, Any]:
        """The result as data, for ``--json``."""
        return {
            "folder": str(self.folder),
            "best": self.best,
            "score": self.score,
            "trials": self.trials,
            "importance": self.importance,
            "report": str(self.report),
        }


def search(request: SearchRequest, on_event: OnEvent = silent) -> SearchResult:
    """Search; see :func:`hounsfield.training.search.search` for what it raises."""
    from hounsfield.training.search import REPORT
    from hounsfield.training.search import search as run_search

    found = run_search(
        request.recipe,
        request.output,
        request.budget_s,
        request.resume,
        lambda message, severity: on_event(Note(message, severity)),
    )
    return SearchResult(
        found.folder,
        dict(found.best),
        found.score,
        len(found.trials),
        dict(found.importance),
        found.folder / REPORT,
    )
