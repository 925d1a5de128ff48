"""The memory of a GPU as PyTorch keeps it: what a process may take, and the most that it took."""

from __future__ import annotations

import re

from hounsfield.errors import EngineUnavailable, SettingsError

_DEVICE = re.compile(r"cpu|cuda(:\d{1,2})?")


def checked_device(text: str) -> str:
    """``cpu``, ``cuda`` or ``cuda:N``; empty is ``cpu``.

    Raises
    ------
    SettingsError
        For anything else.
    """
    if text and _DEVICE.fullmatch(text) is None:
        raise SettingsError(f"{text!r} is not a device", "use cpu, cuda, or cuda:1 for the second GPU")
    return text or "cpu"


def why_unseen(device: str) -> str:
    """Why PyTorch cannot use a GPU here; empty where it can."""
    try:
        import torch
    except ImportError as error:
        return f"PyTorch does not import ({error})"
    if not torch.cuda.is_available():
        return "PyTorch sees no GPU here"
    count, number = torch.cuda.device_count(), int(device.partition(":")[2] or 0)
    return "" if number < count else f"PyTorch sees {count} GPUs, and {device} is not one of them"


def limit_memory(device: str, limit_bytes: int) -> None:
    """Let this process allocate at most so much on a GPU: beyond it PyTorch raises out of memory.

    The limit holds for tensors, not for the driver's own context (some hundred MiB).

    Raises
    ------
    EngineUnavailable
        If the GPU cannot be used.
    """
    reason = why_unseen(device)
    if reason:
        raise EngineUnavailable(reason, "choose the device cpu")
    import torch

    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit_bytes / total), device)


def forget_peak(device: str) -> None:
    """Let the peak start again from now; nothing where there is no such GPU."""
    if device == "cpu" or why_unseen(device):
        return
    import torch

    torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: str) -> int:
    """The most that this process held on a device since it began or forgot its peak; 0 where there is none."""
    if device == "cpu" or why_unseen(device):
        return 0
    import torch

    return int(torch.cuda.max_memory_reserved(device))
