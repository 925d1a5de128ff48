"""The verbs as the command line calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from hounsfield.cli import dataset, train
from training.phantoms import RECIPE, write_recipe

pytestmark = pytest.mark.torch

app = typer.Typer()
app.command()(train.train)
app.command()(train.search)
app.add_typer(dataset.app, name="dataset")


def test_train_and_check_answer_json(balls: Path, tmp_path: Path) -> None:
    recipe = write_recipe(balls, RECIPE, steps="2", every="2")
    run = CliRunner().invoke(app, ["train", str(recipe), "-o", str(tmp_path / "run"), "--no-package", "--json"])
    assert run.exit_code == 0, run.output
    answer = json.loads(run.stdout)
    assert answer["steps"] == 2
    assert Path(answer["weights"]).is_file()
    check = CliRunner().invoke(app, ["dataset", "check", str(balls / "cases.csv"), "--json"])
    assert check.exit_code == 0, check.output
    assert json.loads(check.stdout)["usable"]
    table = (balls / "cases.csv").read_text()
    (balls / "leak.csv").write_text(table.replace("p5", "p0"))
    leak = CliRunner().invoke(app, ["dataset", "check", str(balls / "leak.csv"), "--quiet"])
    assert leak.exit_code == 1
    assert "several splits" in leak.output
