"""Train in child processes that are killed without warning, until one comes to the end.

Usage: python kill_driver.py RECIPE CACHE OUT KILLS SEED; prints the number of kills that hit.
The children are forked, so that the libraries are loaded once.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from hounsfield.training.loop import Hooks
from hounsfield.training.recipe_text import read_recipe
from hounsfield.training.train import Job, train


def child(recipe: Path, cache: Path, out: Path) -> None:
    torch.set_num_threads(1)
    resume = (out / "checkpoint.safetensors").is_file()
    job = Job(read_recipe(recipe), recipe.parent, out, cache, resume=resume, package=False, measure=False)
    train(job, Hooks(), lambda stage, done, total: None)


def main() -> None:
    recipe, cache, out = (Path(word) for word in sys.argv[1:4])
    kills, dice = int(sys.argv[4]), random.Random(int(sys.argv[5]))
    hits, longest = 0, None
    while True:
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                child(recipe, cache, out)
                status = 0
            finally:
                os._exit(status)
        if hits < kills:
            time.sleep(dice.uniform(0.05, longest or 1.0))
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            hits += 1
            continue
        longest = time.monotonic() - started
        if os.WEXITSTATUS(status) != 0:
            sys.exit("a child failed")
        print(hits)
        return


if __name__ == "__main__":
    main()
