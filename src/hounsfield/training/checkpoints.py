"""Checkpoints: one safetensors file that is whole or the one before; never a pickle.

Written under a temporary name, forced to the disk, renamed, and the folder forced too. The state
besides the tensors (step, curve, best score, settings that must not change) is JSON in the file's
own header, so both are always of the same step.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hounsfield.architectures import load_weights, weights_of
from hounsfield.errors import OutputError, TrainingError

_FORMAT = 1
_HEADER_LIMIT = 100 * 2**20
_ADAPTERS = "adapters."


def write_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any] | None = None) -> None:
    """Write named tensors (and JSON state) durably.

    Raises
    ------
    OutputError
        If the disk refuses, for example because it is full; what stood there before is kept.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save

    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    metadata = {"state": json.dumps({"format": _FORMAT, **state}, allow_nan=False)} if state is not None else None
    try:
        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        with temporary.open("wb") as file:
            file.write(save(kept, metadata))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except (OSError, SafetensorError) as error:
        reason = (error.strerror or "error").lower() if isinstance(error, OSError) else str(error)
        raise OutputError(
            fact=f"the weights cannot be written ({reason})",
            remedy="free space; what was written before is kept",
            path=path,
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small text file durably, whole or not at all; raises as :func:`write_tensors` does."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a small file durably, whole or not at all; raises as :func:`write_tensors` does."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise OutputError(
            fact=f"it cannot be written ({(error.strerror or 'error').lower()})", remedy="free space", path=path
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the state of a checkpoint.

    Raises
    ------
    TrainingError
        If the file is damaged or of another version.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            state = json.loads((file.metadata() or {}).get("state", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise TrainingError(
            fact=f"the checkpoint cannot be read ({error})",
            remedy="start the training anew in another folder",
            path=path,
        ) from error
    if state.pop("format", None) != _FORMAT:
        raise TrainingError(
            fact="the checkpoint is of another version", remedy="start the training anew in another folder", path=path
        )
    return tensors, state


def pack(
    network: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer, adapters: nn.Module | None = None
) -> dict[str, Tensor]:
    """Everything with a shape: weights, their average, a student's adapters, the optimiser's moments, by name."""
    tensors = {f"network.{name}": tensor for name, tensor in weights_of(network).items()}
    tensors |= {f"average.{name}": tensor for name, tensor in weights_of(average).items()}
    if adapters is not None:
        tensors |= {f"{_ADAPTERS}{name}": tensor for name, tensor in weights_of(adapters).items()}
    for name, parameter in _trained(network, adapters).items():
        for key, value in optimiser.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{key}.{name}"] = value
    return {name: tensor.detach() for name, tensor in tensors.items()}


def unpack(
    tensors: Mapping[str, Tensor],
    network: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    adapters: nn.Module | None = None,
) -> None:
    """Put the tensors of :func:`pack` back, in place."""
    parts = [("network.", network), ("average.", average)]
    for part, module in parts if adapters is None else [*parts, (_ADAPTERS, adapters)]:
        load_weights(module, {name.removeprefix(part): t for name, t in tensors.items() if name.startswith(part)})
    parameters = _trained(network, adapters)
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            key, parameter = name.removeprefix("optimiser.").split(".", 1)
            owner = parameters[parameter]
            moment = tensor.shape == owner.shape and key != "step"
            # Moments keep the layout of their weights, so that resuming takes the same arithmetic.
            optimiser.state[owner][key] = torch.empty_like(owner.detach()).copy_(tensor) if moment else tensor.clone()


def _trained(network: nn.Module, adapters: nn.Module | None) -> dict[str, nn.Parameter]:
    """What the optimiser changes, by name."""
    beside = {} if adapters is None else {f"{_ADAPTERS}{name}": p for name, p in adapters.named_parameters()}
    return dict(network.named_parameters()) | beside


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
