"""What a run may take: host memory, device memory, time."""

from __future__ import annotations

from dataclasses import dataclass

from hounsfield.errors import SettingsError
from hounsfield.planning.units import format_bytes, format_seconds, parse_bytes, parse_seconds


@dataclass(frozen=True)
class Budget:
    """Upper limits of one run; ``None`` means that nothing was asked.

    Parameters
    ----------
    host_bytes
        Peak resident memory of the process that runs the model, everything included.
    device_bytes
        Peak memory on the accelerator.
    seconds
        From the start of the run to the written result.
    """

    host_bytes: int | None = None
    device_bytes: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("host_bytes", "device_bytes", "seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise SettingsError(f"a budget of {value} {name} leaves nothing to run in", "give a positive amount")

    @classmethod
    def parse(cls, memory: str | None = None, gpu_memory: str | None = None, time: str | None = None) -> Budget:
        """From what the user typed, such as ``2GiB``, ``8GiB``, ``60s``."""
        return cls(
            host_bytes=None if memory is None else parse_bytes(memory),
            device_bytes=None if gpu_memory is None else parse_bytes(gpu_memory),
            seconds=None if time is None else parse_seconds(time),
        )

    def holds(self, host_bytes: int, device_bytes: int, seconds: float) -> bool:
        """Whether a run that takes this much stays within the budget."""
        return (
            (self.host_bytes is None or host_bytes <= self.host_bytes)
            and (self.device_bytes is None or device_bytes <= self.device_bytes)
            and (self.seconds is None or seconds <= self.seconds)
        )

    def __str__(self) -> str:
        parts = []
        if self.host_bytes is not None:
            parts.append(f"{format_bytes(self.host_bytes)} of memory")
        if self.device_bytes is not None:
            parts.append(f"{format_bytes(self.device_bytes)} on the accelerator")
        if self.seconds is not None:
            parts.append(format_seconds(self.seconds))
        return ", ".join(parts) or "no limit"
