"""One scan, several processes (or GPUs): each decides some layers of windows, into shared memory.

Neighbouring parts both run the windows that overlap their border, so every voxel gets exactly the
sums, and the label, of an undivided run. Children are forked: the prepared scan is shared,
not copied. The parent must not have loaded an engine of its own before, because the threads
of a runtime do not survive a fork.
"""

from __future__ import annotations

import itertools
import json
import math
import mmap
import multiprocessing
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from hounsfield.errors import EngineError, HounsfieldError, SettingsError
from hounsfield.inference.deciding import Decision
from hounsfield.inference.loading import Loaded
from hounsfield.inference.sliding_window import Progress, RunSettings, Segmented, segment, walk_order
from hounsfield.inference.windows import WindowGrid
from hounsfield.packages.manifest import WindowSpec
from hounsfield.preparing import Prepared
from hounsfield.volume import LabelMap, Shape

Open = Callable[[int], Loaded]
_JOIN_SECONDS = 10


def split_layers(shape: Shape, window: WindowSpec, axis: int | None, parts: int) -> tuple[range, ...]:
    """The layers of windows along the walk's first axis, in at most ``parts`` runs of like length.

    Parameters
    ----------
    shape
        (k, j, i) of the network's grid.
    axis
        As in :class:`RunSettings`.
    """
    if parts < 1:
        raise SettingsError(f"{parts} processes do not make sense", "give at least 1")
    layers = len(WindowGrid.over(shape, window).starts[walk_order(shape, axis)[0]])
    edges = [round(layers * part / min(parts, layers)) for part in range(min(parts, layers) + 1)]
    return tuple(range(low, high) for low, high in itertools.pairwise(edges))


def segment_in_parts(
    prepared: Prepared,
    open_network: Open,
    window: WindowSpec,
    rule: Decision,
    *,
    parts: int,
    settings: RunSettings | None = None,
    on_progress: Progress | None = None,
) -> Segmented:
    """Run a network over a scan in several forked processes.

    Parameters
    ----------
    open_network
        Called in each child with the number of its part, to load the network there (for instance
        each on its own GPU, or each with its share of the threads).
    parts
        Processes, at most; there are never more than layers of windows.

    Returns
    -------
    As :func:`hounsfield.inference.segment`; ``seconds`` are those of the slowest part.

    Raises
    ------
    HounsfieldError
        What the first failing child raised; the others are stopped.
    EngineError
        If a child died.
    """
    settings = RunSettings() if settings is None else settings
    runs = split_layers(prepared.shape, window, settings.axis, parts)
    shape = prepared.source.shape
    labels = np.frombuffer(mmap.mmap(-1, math.prod(shape)), np.uint8).reshape(shape)

    def work(part: int, pipe: Connection) -> None:
        _work(lambda told: _one(part, told), pipe)

    def _one(part: int, told: Progress) -> Segmented:
        loaded = open_network(part)
        return segment(
            prepared,
            loaded.session,
            window,
            rule,
            head=loaded.head,
            settings=settings,
            out=labels,
            layers=runs[part],
            on_progress=told,
        )

    began = time.perf_counter()
    answers = _gather(work, len(runs), on_progress)
    seconds = {name: max(float(answer["seconds"][name]) for answer in answers) for name in answers[0]["seconds"]}
    seconds["total"] = time.perf_counter() - began
    windows, skipped = (sum(int(answer[name]) for answer in answers) for name in ("windows", "skipped"))
    return Segmented(LabelMap(labels, prepared.source), windows, skipped, seconds)


def _work(run: Callable[[Progress], Segmented], pipe: Connection) -> None:
    """In the child: run, tell progress, answer as JSON."""
    try:
        out = run(lambda done, total: pipe.send_bytes(json.dumps({"done": done, "total": total}).encode()))
        answer: dict[str, Any] = {"windows": out.windows, "skipped": out.skipped, "seconds": out.seconds}
    except HounsfieldError as error:
        answer = error.as_dict()
    except Exception as error:  # the parent turns it into an EngineError; nothing is hidden
        answer = {"error": "EngineError", "fact": f"a worker failed: {error!r}", "remedy": "report this", "path": None}
    pipe.send_bytes(json.dumps(answer).encode())
    pipe.close()


def _gather(work: Callable[[int, Connection], None], parts: int, on_progress: Progress | None) -> list[dict[str, Any]]:
    """Start the children, pass their progress on, and collect their answers."""
    context = multiprocessing.get_context("fork")
    children: list[BaseProcess] = []
    pipes: dict[Connection, int] = {}
    try:
        for part in range(parts):
            mine, its = context.Pipe(duplex=False)
            child: BaseProcess = context.Process(target=work, args=(part, its), daemon=True)
            with warnings.catch_warnings():
                # Python warns of forks beside threads; no lock of ours is held here.
                warnings.simplefilter("ignore", DeprecationWarning)
                child.start()
            its.close()
            children.append(child)
            pipes[mine] = part
        return _listen(pipes, children, on_progress)
    finally:
        for child in children:
            if child.is_alive():
                child.terminate()
            child.join(_JOIN_SECONDS)
            if child.is_alive():
                child.kill()
                child.join()
        for pipe in pipes:
            pipe.close()


def _listen(
    pipes: dict[Connection, int], children: list[BaseProcess], on_progress: Progress | None
) -> list[dict[str, Any]]:
    answers: dict[int, dict[str, Any]] = {}
    state = [(0, 0)] * len(children)
    open_pipes = dict(pipes)
    while open_pipes:
        for pipe in wait(list(open_pipes)):
            part = open_pipes[pipe]  # type: ignore[index]
            try:
                message = json.loads(pipe.recv_bytes())  # type: ignore[union-attr]
            except EOFError:
                children[part].join(_JOIN_SECONDS)
                raise EngineError(
                    fact=f"a worker process ended with code {children[part].exitcode} before it was done",
                    remedy="plan with less memory or fewer processes",
                ) from None
            if "done" in message:
                state[part] = (message["done"], message["total"])
                if on_progress is not None and all(total for _, total in state):
                    on_progress(sum(done for done, _ in state), sum(total for _, total in state))
            elif "error" in message:
                raise _error(message)
            else:
                answers[part] = message
                del open_pipes[pipe]  # type: ignore[arg-type]
    return [answers[part] for part in range(len(children))]


def _error(message: dict[str, Any]) -> HounsfieldError:
    """The child's error, as the class it was."""
    import hounsfield.errors as tree

    kind = getattr(tree, str(message["error"]), EngineError)
    made: HounsfieldError = kind(message["fact"], message["remedy"], message["path"])
    return made
