"""The process in which one job runs: a request on standard input, the outcome on a descriptor.

    python -m hounsfield.usecases.node.job_process FD PARENT

It runs the same use case as ``hounsfield run``, whose worker process keeps the memory budget. It
ends when its parent does.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from hounsfield.errors import HounsfieldError, InternalError
from hounsfield.planning import Budget
from hounsfield.usecases.events import Event, Progress
from hounsfield.usecases.job import Choices
from hounsfield.usecases.node.processes import die_with_parent
from hounsfield.usecases.node.routing import Order
from hounsfield.usecases.run import RunRequest, run_model
from hounsfield.volume import Place


def main() -> None:
    """Read the order, run it, and say how it went."""
    die_with_parent(int(sys.argv[2]))
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as out:

        def say(event: Event) -> None:
            if isinstance(event, Progress):
                out.write(json.dumps({"stage": event.stage, "done": event.done, "total": event.total}) + "\n")
                out.flush()

        given = json.loads(sys.stdin.readline())
        order = Order.from_json(given["order"])
        choices = Choices(
            precision=order.precision,
            at=() if order.at_mm is None else (Place(lps_mm=order.at_mm),),
            repair=order.repair,
            allow_unproven=order.allow_unproven,
            captures=order.captures,
            explain=order.explain,
            mode="whole" if order.whole else "window",
        )
        try:
            budget = Budget.parse(order.memory or None)
            request = RunRequest(
                order.model, Path(given["input"]), Path(given["output"]), choices=choices, budget=budget
            )
            out.write(json.dumps({"result": run_model(request, say).as_dict()}) + "\n")
        except HounsfieldError as error:
            out.write(json.dumps({"error": error.as_dict()}) + "\n")
        except Exception as error:
            unforeseen = InternalError(f"it failed unexpectedly ({type(error).__name__})", "see the log of the node")
            out.write(json.dumps({"error": unforeseen.as_dict()}) + "\n")


if __name__ == "__main__":
    main()
