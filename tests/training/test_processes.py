"""Two processes on the loopback train as one does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training.conftest import Runner
from training.phantoms import RECIPE, write_recipe

pytestmark = pytest.mark.torch

CODE = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from hounsfield.training.loop import Hooks
from hounsfield.training.recipe_text import read_recipe
from hounsfield.training.train import Job, train
recipe, cache, out = (Path(word) for word in sys.argv[1:])
job = Job(read_recipe(recipe), recipe.parent, out, cache, resume=True, package=False, measure=False)
train(job, Hooks(), lambda stage, done, total: None)
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_two_processes_give_the_weights_of_one(
    balls: Path, prepared_cases: Path, tmp_path: Path, run_training: Runner
) -> None:
    recipe = write_recipe(balls, RECIPE, batch="4", steps="8", every="4")
    alone = run_training(recipe, tmp_path / "alone")
    assert alone.plan.batch == 4
    environment = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    words = [str(word) for word in (recipe, prepared_cases, tmp_path / "two")]
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, *words],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [child.communicate(timeout=400)[1] for child in children]
    assert [child.returncode for child in children] == [0, 0], errors
    one, two = load_file(alone.weights), load_file(tmp_path / "two" / "weights.safetensors")
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=2e-3, atol=2e-4, msg=name)
