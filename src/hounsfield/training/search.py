"""Search over the declared ranges of a recipe: pruned, resumable, within time and memory.

Trials and their values are in ``search.db`` (SQLite, by Optuna: TPE sampling, successive halving).
A trial that was interrupted goes on from its checkpoint the next time.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hounsfield.errors import DoesNotFit, OutputExists, SettingsError, TrainingError
from hounsfield.planning.units import format_seconds
from hounsfield.training.checkpoints import write_text
from hounsfield.training.loop import CHECKPOINT, Hooks
from hounsfield.training.recipe import Range, Recipe, Search
from hounsfield.training.recipe_text import read_recipe, recipe_digest
from hounsfield.training.train import Job, train
from hounsfield.training.validation import Score

if TYPE_CHECKING:
    import optuna

STORAGE = "search.db"
REPORT = "report.md"
_VALIDATIONS = 8
_LEAST_SECONDS = 1.0


class _TimeIsUp(Exception):
    """The budget is spent; the trial waits on its checkpoint."""


@dataclass(frozen=True)
class Trial:
    """One trial as it ended: ``complete``, ``pruned``, ``does not fit``, ``diverged`` or ``interrupted``."""

    number: int
    outcome: str
    value: float | None
    values: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True)
class Searched:
    """What a search found.

    Parameters
    ----------
    best
        Values by dotted name of the recipe; empty if no trial was completed.
    score
        Of the best trial on the validation part.
    importance
        Share of the score's variation by name (PED-ANOVA, Watanabe 2023); empty with few trials.
    """

    folder: Path
    best: Mapping[str, Any]
    score: float | None
    trials: tuple[Trial, ...]
    importance: Mapping[str, float]
    seconds: float


def search(
    recipe_path: Path, folder: Path, budget_s: float, resume: bool, note: Callable[[str, str], None]
) -> Searched:
    """Run trials until the time is spent or all are done, then write the report.

    Parameters
    ----------
    recipe_path
        A recipe with a ``[search]`` table and validation cases.
    folder
        Of the search.
    budget_s
        Seconds for this call; an interrupted search gets a new budget.
    resume
        Go on with the search in the folder.

    Raises
    ------
    SettingsError
        If the recipe declares nothing to search, a name is unknown, or a value does not fit.
    OutputExists
        If the folder holds a search and ``resume`` is not asked for.
    """
    recipe = read_recipe(recipe_path)
    table = _declared(recipe, recipe_path)
    if (folder / STORAGE).exists() and not resume:
        raise OutputExists("the folder holds a search already", "give --resume, or another folder", folder)
    folder.mkdir(parents=True, exist_ok=True)
    study = _study(folder, recipe, table)
    deadline = time.monotonic() + budget_s
    started = time.monotonic()
    while _ended(study) < table.trials and time.monotonic() + _LEAST_SECONDS < deadline:
        trial = study.ask()
        try:
            told = _one_trial(study, trial, recipe_path, folder, table, deadline)
        except _TimeIsUp:
            _tell(study, trial, "FAIL", "interrupted")
            break
        except BaseException:
            _tell(study, trial, "FAIL", "interrupted")
            raise
        note(told, "note")
    result = _result(study, folder, table, time.monotonic() - started)
    write_text(folder / REPORT, report(result, table))
    return result


def _declared(recipe: Recipe, path: Path) -> Search:
    if recipe.search is None:
        raise SettingsError("the recipe has no [search] table", "declare ranges, see docs/how-to/train.md", path)
    if not recipe.data.validation:
        raise SettingsError("a search needs validation cases", "name the split in data.validation", path)
    for name, one in recipe.search.ranges.items():
        for value in one.choices or (_whole(one, one.low), _whole(one, one.high)):
            read_recipe(path, {name: list(value) if isinstance(value, tuple) else value})
    return recipe.search


def _study(folder: Path, recipe: Recipe, table: Search) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=f"sqlite:///{folder / STORAGE}",
        study_name="search",
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=recipe.seed),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=max(1, table.steps // _VALIDATIONS)),
        load_if_exists=True,
    )
    digest = recipe_digest(recipe) + table.model_dump_json(exclude={"trials"})
    if study.user_attrs.setdefault("recipe", digest) != digest:
        raise SettingsError("the recipe changed since the search began", "search anew in another folder", folder)
    study.set_user_attr("recipe", digest)
    waiting = optuna.trial.TrialState.RUNNING
    for trial in study.get_trials(deepcopy=False, states=(waiting,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        _again(study, trial.number, trial.params, trial.user_attrs)
    return study


def _again(study: optuna.Study, number: int, values: dict[str, Any], attributes: Mapping[str, Any]) -> None:
    """Queue an interrupted trial, in the same folder."""
    if values:
        study.enqueue_trial(values, user_attrs={"folder": attributes.get("folder", _folder_name(number))})


def _tell(study: optuna.Study, trial: optuna.Trial, state: str, outcome: str, value: float | None = None) -> None:
    import optuna

    trial.set_user_attr("outcome", outcome)
    study.tell(trial, value, state=optuna.trial.TrialState[state])
    if outcome == "interrupted":
        _again(study, trial.number, dict(trial.params), trial.user_attrs)


def _one_trial(
    study: optuna.Study,
    trial: optuna.Trial,
    recipe_path: Path,
    folder: Path,
    table: Search,
    deadline: float,
) -> str:
    """Train with one set of values; answers a line for the user."""
    values = {name: _suggest(trial, name, one) for name, one in table.ranges.items()}
    place = str(trial.user_attrs.get("folder", _folder_name(trial.number)))
    trial.set_user_attr("folder", place)
    started = time.monotonic()
    best: list[float] = []

    def scored(step: int, score: Score) -> bool:
        best.append(score.value)
        trial.report(score.value, step)
        return bool(trial.should_prune())

    def progress(done: int, total: int) -> None:
        if time.monotonic() > deadline and done < total:
            raise _TimeIsUp

    outcome, value, state = "complete", None, "COMPLETE"
    try:
        job = _job(recipe_path, folder, place, values, table)
        trained = train(job, Hooks(progress=progress, scored=scored), lambda stage, done, total: None)
        value = trained.state.best_score
        if trained.state.finished == "stopped by the search":
            outcome, state = "pruned", "PRUNED"
    except DoesNotFit:
        outcome, state = "does not fit", "PRUNED"
    except TrainingError:
        outcome, state = "diverged", "PRUNED"
    trial.set_user_attr("seconds", round(time.monotonic() - started, 1))
    trial.set_user_attr("score", value)
    _tell(study, trial, state, outcome, value if state == "COMPLETE" else None)
    shutil.rmtree(folder / "trials" / place, ignore_errors=True)
    shown = "" if value is None else f" {value:.4f}"
    return f"trial {trial.number}: {outcome}{shown} {json.dumps(values)}"


def _job(recipe_path: Path, folder: Path, place: str, values: Mapping[str, Any], table: Search) -> Job:
    recipe = read_recipe(recipe_path, {**values, "optimisation.steps": table.steps})
    every = max(1, table.steps // _VALIDATIONS)
    recipe = recipe.model_copy(
        update={
            "validation": recipe.validation.model_copy(update={"every": every, "patience": 0}),
            "compute": recipe.compute.model_copy(update={"checkpoint_every": every}),
        }
    )
    own = folder / "trials" / place
    job = Job(recipe, recipe_path.resolve().parent, own, folder / "cache", resume=True, package=False, measure=False)
    return job if (own / CHECKPOINT).is_file() else replace(job, resume=False)


def _suggest(trial: optuna.Trial, name: str, one: Range) -> Any:
    if one.choices:
        return json.loads(trial.suggest_categorical(name, [json.dumps(choice) for choice in one.choices]))
    low, high = float(one.low or 0), float(one.high or 0)
    if one.whole:
        return trial.suggest_int(name, int(low), int(high), log=one.log)
    return trial.suggest_float(name, low, high, log=one.log)


def _whole(one: Range, value: float | None) -> float | int | None:
    return int(value) if one.whole and value is not None else value


def _ended(study: optuna.Study) -> int:
    return sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in study.get_trials(deepcopy=False))


def _folder_name(number: int) -> str:
    return f"{number:05d}"


def _result(study: optuna.Study, folder: Path, table: Search, seconds: float) -> Searched:
    trials = tuple(
        Trial(
            trial.number,
            str(trial.user_attrs.get("outcome", trial.state.name.lower())),
            trial.user_attrs.get("score"),
            {name: _plain(value) for name, value in trial.params.items()},
            float(trial.user_attrs.get("seconds", 0.0)),
        )
        for trial in study.get_trials(deepcopy=False)
        if trial.state.name != "WAITING"
    )
    complete = [trial for trial in trials if trial.outcome == "complete" and trial.value is not None]
    best = max(complete, key=lambda trial: trial.value or 0.0, default=None)
    importance = _importance(study) if len(complete) >= table.importance_trials else {}
    return Searched(folder, best.values if best else {}, best.value if best else None, trials, importance, seconds)


def _plain(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _importance(study: optuna.Study) -> dict[str, float]:
    import warnings

    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the evaluator is marked experimental
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        try:
            found = optuna.importance.get_param_importances(study, evaluator=evaluator)
        except (ValueError, RuntimeError):
            return {}
    return {name: float(value) for name, value in found.items()}


def report(result: Searched, table: Search) -> str:
    """The search in Markdown: the best values, what mattered, every trial."""
    lines = ["# Search", ""]
    if result.best:
        lines += [f"Best score {result.score:.4f}, with these lines in the recipe:", ""]
        lines += [f"    {name} = {json.dumps(value)}" for name, value in result.best.items()]
    else:
        lines += ["No trial was completed: give more time, or a smaller search.steps."]
    lines += ["", "## What mattered", ""]
    if result.importance:
        lines += [f"- {name}: {share:.0%} of the variation" for name, share in result.importance.items()]
    else:
        lines += [f"Not known: fewer than {table.importance_trials} trials were completed, or they do not differ."]
    lines += ["", "## Trials", "", "|trial|outcome|score|time|values|", "|---|---|---|---|---|"]
    for trial in result.trials:
        score = "" if trial.value is None else f"{trial.value:.4f}"
        lines.append(
            f"|{trial.number}|{trial.outcome}|{score}|{format_seconds(trial.seconds)}|`{json.dumps(dict(trial.values))}`|"
        )
    lines += ["", "Scores are of the validation part, which the search has now seen: evaluate on other cases.", ""]
    return "\n".join(lines)
