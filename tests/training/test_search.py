"""A search: within its ranges and its time, resumable, with a report of what mattered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hounsfield.errors import OutputExists, SettingsError
from hounsfield.training import search as searching
from hounsfield.training.loop import Hooks
from hounsfield.training.material import Told
from hounsfield.training.search import search
from hounsfield.training.train import Job, Trained, train
from training.phantoms import RECIPE, write_recipe

pytestmark = pytest.mark.torch

SEARCH = """
[search]
steps = 8
trials = 5
importance_trials = 2

[search.ranges]
"optimisation.learning_rate" = { low = 1e-5, high = 3e-2, log = true }
"architecture.filters" = { choices = [[4, 8], [6, 8]] }
"""


def said(message: str, severity: str) -> None:
    """Nobody listens."""


def test_a_search_stays_in_its_ranges_and_reports(balls: Path, tmp_path: Path) -> None:
    recipe = write_recipe(balls, RECIPE + SEARCH)
    found = search(recipe, tmp_path / "s", 300.0, False, said)
    assert len(found.trials) == 5
    outcomes = {trial.outcome for trial in found.trials}
    assert outcomes <= {"complete", "pruned"}
    for trial in found.trials:
        assert 1e-5 <= trial.values["optimisation.learning_rate"] <= 3e-2
        assert trial.values["architecture.filters"] in ([4, 8], [6, 8])
    complete = [trial.value for trial in found.trials if trial.outcome == "complete"]
    assert found.score == max(value for value in complete if value is not None)
    text = (tmp_path / "s" / "report.md").read_text()
    assert json.dumps(found.best["optimisation.learning_rate"]) in text
    assert "What mattered" in text
    with pytest.raises(OutputExists, match="--resume"):
        search(recipe, tmp_path / "s", 1.0, False, said)
    again = search(recipe, tmp_path / "s", 300.0, True, said)
    assert [trial.values for trial in again.trials] == [trial.values for trial in found.trials]
    write_recipe(balls, RECIPE + SEARCH, seed="4")
    with pytest.raises(SettingsError, match="changed since"):
        search(recipe, tmp_path / "s", 1.0, True, said)


def test_an_interrupted_trial_goes_on(balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write_recipe(balls, RECIPE + SEARCH.replace("trials = 5", "trials = 2", 1))
    folders: list[tuple[Path, bool]] = []

    def interrupted(job: Job, hooks: Hooks, told: Told) -> Trained:
        folders.append((job.folder, job.resume))

        def progress(done: int, total: int) -> None:
            if len(folders) == 1 and done == 3:
                raise KeyboardInterrupt

        return train(job, Hooks(progress=progress, scored=hooks.scored), told)

    monkeypatch.setattr(searching, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(recipe, tmp_path / "s", 300.0, False, said)
    rest = search(recipe, tmp_path / "s", 300.0, True, said)
    assert folders[0] == (tmp_path / "s" / "trials" / "00000", False)
    assert folders[1] == (folders[0][0], True)  # the same trial, from its checkpoint
    first, second = rest.trials[:2]
    assert (first.outcome, first.values) == ("interrupted", second.values)
    assert sum(trial.outcome in ("complete", "pruned") for trial in rest.trials) == 2


def test_time_that_is_spent_ends_the_search(balls: Path, tmp_path: Path) -> None:
    recipe = write_recipe(balls, RECIPE + SEARCH.replace("steps = 8", "steps = 4000", 1))
    found = search(recipe, tmp_path / "s", 3.0, False, said)
    assert [trial.outcome for trial in found.trials] == ["interrupted"]
    assert found.best == {}
    assert (tmp_path / "s" / "trials" / "00000").is_dir()
    assert "No trial was completed" in (tmp_path / "s" / "report.md").read_text()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("", "no .search. table"),
        (SEARCH.replace("optimisation.learning_rate", "optimisation.learning_rat"), "did you mean"),
        (SEARCH.replace("high = 3e-2", "high = 1e-9"), "low is below high"),
    ],
)
def test_a_wrong_declaration_is_told_before_anything_runs(tmp_path: Path, change: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        search(write_recipe(tmp_path, RECIPE + change), tmp_path / "s", 10.0, False, said)
    assert not (tmp_path / "s").exists()
