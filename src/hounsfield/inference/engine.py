"""The promise that an inference engine makes, and what it is handed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import EngineError, EngineUnavailable
from hounsfield.plugins import ENGINES, Availability, registry
from hounsfield.volume import Shape

Precision = Literal["fp32", "bf16", "fp16", "int8"]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class OnnxGraph:
    """A network as an ONNX file (or its bytes): (batch, channels, k, j, i) in and out.

    ``quantised`` is True for graphs whose weights and activations are 8-bit integers.
    """

    model: Path | bytes
    quantised: bool = False


@dataclass(frozen=True)
class TorchNetwork:
    """A network as a function that builds it with its weights, ready to call (``eval`` mode).

    The use case makes it from a package's architecture and safetensors, so that inference
    needs to know neither.
    """

    build: Callable[[], Any]


Network = OnnxGraph | TorchNetwork


@dataclass(frozen=True)
class LoadSettings:
    """How a network is to be loaded.

    Parameters
    ----------
    precision
        The arithmetic of the network; never chosen by the engine.
    window
        (k, j, i) voxels of each input: engines compile for this shape.
    channels
        Input channels.
    batch
        Windows per call.
    threads
        CPU threads; 0 means all that the process may use.
    device
        ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    requests
        How many windows may be under way at once: with 2 the caller's work on one answer
        overlaps with the network's on the next.
    cache_folder
        Folder for compiled models; ``None`` keeps none.
    """

    precision: Precision
    window: Shape
    channels: int = 1
    batch: int = 1
    threads: int = 0
    device: str = "cpu"
    requests: int = 2
    cache_folder: Path | None = None

    @property
    def input_shape(self) -> tuple[int, int, int, int, int]:
        """(batch, channels, k, j, i)."""
        return (self.batch, self.channels, *self.window)


@runtime_checkable
class Session(Protocol):
    """A network loaded for one window shape, on one device.

    Contract
    --------
    - ``precision`` is what really runs, read back from the engine, not what was asked for.
      A session asked for fp32 that would run anything less exact is never handed out.
    - ``infer`` takes C-ordered float32 (n, channels, k, j, i) with n at most the batch and
      answers float32 (n, classes, k, j, i). The answer stays valid until the next call, and
      until then it is the caller's to write into.
    - ``stream`` gives the answers of many inputs in their order; each stays valid only until
      the next is asked for, and inputs are drawn ahead by at most ``requests``.
    - ``close`` frees memory and threads at once; a closed session is not used again.

    It is not thread-safe and knows nothing of windows, blending, labels or packages.
    """

    precision: Precision

    def infer(self, batch: Floats) -> Floats:
        """The network's answer to one batch."""
        ...

    def stream(self, batches: Iterable[Floats]) -> Iterator[Floats]:
        """The answers to many batches, in order, overlapped with the caller's own work."""
        ...

    def facts(self) -> dict[str, str | int]:
        """Engine, version, device, precision, threads: what a result says of how it was made."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...


@runtime_checkable
class Engine(Protocol):
    """A runtime that can load networks.

    Contract
    --------
    - Importing its module is cheap: the runtime itself is imported by ``availability`` or ``load``.
    - ``availability`` never raises; where the runtime is absent it names the install line.
    - ``load`` raises EngineUnavailable where the runtime is absent or cannot run this network at
      this precision on this device, and EngineError where the network is damaged.

    It never chooses precision, device or threads by itself. It exists so that a stranger's
    runtime can be added by one line of packaging metadata (see :mod:`hounsfield.plugins`).
    """

    name: str

    def availability(self) -> Availability:
        """Whether the runtime can be used here."""
        ...

    def load(self, network: Network, settings: LoadSettings) -> Session:
        """Compile the network for one window shape."""
        ...


def engine(name: str) -> Engine:
    """The engine of this name.

    Raises
    ------
    PluginError
        If no installed distribution brings it.
    EngineUnavailable
        If it cannot be used here; the remedy is the install line.
    """
    found = registry(ENGINES).load(name)
    made: Engine = found() if isinstance(found, type) else found
    require(name, made.availability())
    return made


def require(name: str, answer: Availability) -> None:
    """Raise EngineUnavailable unless the answer is yes."""
    if not answer:
        raise EngineUnavailable(
            fact=f"the engine {name} cannot be used: {answer.reason}",
            remedy=f"install it: {answer.install}" if answer.install else "choose another engine",
        )


def checked(name: str, batch: Floats, settings: LoadSettings) -> None:
    """Raise EngineError unless the batch has the shape the session was loaded for."""
    n = batch.shape[0] if batch.ndim == 5 else 0
    if not 1 <= n <= settings.batch or batch.shape[1:] != settings.input_shape[1:] or batch.dtype != np.float32:
        raise EngineError(
            fact=f"{name} was loaded for float32 {settings.input_shape} and was given {batch.dtype} {batch.shape}",
            remedy="load it for the window, channels and batch that are used",
        )


def overlapped(infer: Callable[[Floats], Floats], batches: Iterable[Floats], requests: int) -> Iterator[Floats]:
    """Answers in order; up to ``requests`` calls of ``infer`` wait on one worker thread.

    For engines that release the interpreter lock while they compute.
    """
    if requests < 2:
        yield from map(infer, batches)
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="hounsfield-engine") as worker:
        waiting: deque[Future[Floats]] = deque()
        try:
            for batch in batches:
                waiting.append(worker.submit(infer, batch))
                if len(waiting) >= requests:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()
