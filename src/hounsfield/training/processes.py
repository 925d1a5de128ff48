"""One training in several processes, as ``torchrun`` starts them; alone, everything here does nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Group:
    """Which of how many processes this is.

    Parameters
    ----------
    rank, size
        Number of this process, and how many there are.
    local_rank, local_size
        The same on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and tells the user."""
        return self.rank == 0

    def share(self, values: list[float]) -> list[float]:
        """The first process's numbers, in every process."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=_exchange_device())
        torch.distributed.broadcast(tensor, 0)
        return [float(value) for value in tensor.tolist()]

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a scalar over the processes."""
        if self.size > 1:
            torch.distributed.all_reduce(value)
            value /= self.size
        return value

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            torch.distributed.barrier()

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network with gradients averaged over the processes."""
        if self.size == 1:
            return network
        return nn.parallel.DistributedDataParallel(network)


@contextlib.contextmanager
def joined(device: str) -> Iterator[Group]:
    """Join the processes that ``torchrun`` announced in the environment (PyTorch's own variables)."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group()
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(local)
    torch.distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        local_size = int(os.environ.get("LOCAL_WORLD_SIZE", str(size)))
        yield Group(torch.distributed.get_rank(), size, local, local_size)
    finally:
        torch.distributed.destroy_process_group()


def _exchange_device() -> torch.device:
    return torch.device("cuda" if torch.distributed.get_backend() == "nccl" else "cpu")
