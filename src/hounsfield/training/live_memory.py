"""The peak of a training step, by replaying it on tensors that have sizes but no values.

Every operation of the forward pass, the loss, the way back and the optimiser runs for real, on
fake tensors; what is alive is counted as it comes and goes. It takes seconds and no memory.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hounsfield.architectures import architecture, build
from hounsfield.training.losses import loss_of
from hounsfield.training.recompute import recompute_blocks

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one training step.

    Parameters
    ----------
    peak
        Most that is alive at once: weights, gradients, moments, activations, temporaries.
    resting
        Alive between two steps: weights, gradients' room, moments.
    """

    peak: int
    resting: int


@dataclass(frozen=True)
class StepSetting:
    """One way to carry out a step.

    Parameters
    ----------
    batch
        Items of one forward pass.
    precision
        Of the forward pass; weights and moments are float32.
    recompute
        Whether blocks are computed twice.
    """

    batch: int
    precision: str
    recompute: bool


@dataclass(frozen=True)
class StepShape:
    """What a step works on: image without the batch axis, target without it, columns of a record."""

    image: tuple[int, ...]
    target: tuple[int, ...]
    whole_target: bool
    loss: str
    optimiser: str
    columns: int = 0


class _Alive(TorchDispatchMode):
    """Counts the bytes of all storages that are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._seen: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        answer = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(answer):
            if isinstance(leaf, Tensor):
                self.count(leaf)
        return answer

    def count(self, tensor: Tensor) -> None:
        """Count the storage of a tensor until it goes."""
        storage = tensor.untyped_storage()
        if storage in self._seen:
            return
        size = storage.nbytes()
        self._seen[storage] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, size)

    def _gone(self, size: int) -> None:
        self.now -= size


def replay_step(description: Mapping[str, Any], shape: StepShape, setting: StepSetting) -> StepMemory:
    """Replay two steps (the second has the moments) and answer the peak of the second."""
    with FakeTensorMode():
        network = build(description).train()
        average = [torch.empty_like(p) for p in network.parameters()]
        if setting.recompute:
            recompute_blocks(network, str(description["name"]), keep_random_state=False)
        optimiser = make_optimiser(network.parameters(), shape.optimiser)
        alive = _Alive()
        with alive:
            for tensor in [*network.parameters(), *network.buffers(), *average]:
                alive.count(tensor)
            inputs, target = example(description, shape, setting.batch)
            for _ in range(2):
                alive.peak = alive.now
                one_step(network, optimiser, inputs, target, shape, setting)
            return StepMemory(alive.peak, alive.now)


def replay_answer(description: Mapping[str, Any], shape: StepShape, setting: StepSetting) -> int:
    """Bytes of a network that only answers, as a teacher does: its weights and the peak of one forward pass."""
    kind = _TYPES[setting.precision]
    with FakeTensorMode(), torch.no_grad():
        network = build(description).eval()
        alive = _Alive()
        with alive:
            for tensor in [*network.parameters(), *network.buffers()]:
                alive.count(tensor)
            inputs, _ = example(description, shape, setting.batch)
            with torch.autocast(inputs[0].device.type, kind, enabled=kind != torch.float32):
                network(*inputs)
            return alive.peak


def example(description: Mapping[str, Any], shape: StepShape, batch: int) -> tuple[tuple[Tensor, ...], Tensor]:
    """Inputs and target of a step, all zero."""
    inputs = [torch.zeros(batch, *shape.image)]
    if "record" in architecture(str(description["name"])).inputs:
        inputs.append(torch.zeros(batch, shape.columns))
    kind = torch.int64 if shape.whole_target else torch.float32
    return tuple(inputs), torch.zeros(batch, *shape.target, dtype=kind)


def one_step(
    network: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    inputs: tuple[Tensor, ...],
    target: Tensor,
    shape: StepShape,
    setting: StepSetting,
) -> None:
    """Forward, loss, back, optimiser."""
    kind = _TYPES[setting.precision]
    with torch.autocast(inputs[0].device.type, kind, enabled=kind != torch.float32):
        logits = network(*inputs)
    loss = loss_of(shape.loss, logits, target)
    del logits
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()


def make_optimiser(parameters: Any, name: str) -> torch.optim.Optimizer:
    """The optimiser as the loop makes it, for its memory; rates do not matter here."""
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=1e-4, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(parameters, lr=1e-4)
