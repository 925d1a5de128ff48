"""Facts about the machine: cores, memory, limits of the container, instruction sets, accelerators."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_AMX_BF16 = "amx_bf16"
#: Dot products of 8-bit integers: x86 (VNNI, AMX) and ARM.
INT8_INSTRUCTIONS = ("amx_int8", "avx512_vnni", "avx_vnni", "asimddp", "i8mm")
_QUERY = ("--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class Accelerator:
    """A GPU that could run a network: its name, its memory, and what is free of it."""

    name: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Machine:
    """What a plan may count on.

    Parameters
    ----------
    cpu_model
        As the kernel names it.
    cores
        Threads that may really run: affinity and the container's quota are taken off.
    flags
        Instruction sets of the CPU.
    total_bytes, available_bytes
        Physical memory within the container's limit, and what of it is free or reclaimable.
    accelerators
        The GPUs seen.
    """

    cpu_model: str
    cores: int
    total_bytes: int
    available_bytes: int
    flags: frozenset[str] = frozenset()
    accelerators: tuple[Accelerator, ...] = ()

    @property
    def fast_bf16(self) -> bool:
        """Whether bf16 arithmetic is faster than fp32 here (AMX)."""
        return _AMX_BF16 in self.flags

    @property
    def fast_int8(self) -> bool:
        """Whether the CPU has dot products of 8-bit integers; without them int8 is emulated."""
        return bool(self.flags & set(INT8_INSTRUCTIONS))

    @property
    def key(self) -> str:
        """What a calibration made here depends on besides threads: the CPU and its bf16 unit."""
        return f"{self.cpu_model}{' AMX' if self.fast_bf16 else ''}"

    def key_of(self, device: str) -> str:
        """``key``, and on a GPU its name as well."""
        number = int(device.partition(":")[2] or 0)
        names = [one.name for one in self.accelerators]
        if device == "cpu":
            return self.key
        return f"{self.key} {names[number] if number < len(names) else 'unknown GPU'}"


def read_machine(root: Path = Path("/"), accelerators: bool = True) -> Machine:
    """Read the facts of this machine from ``/proc`` and the control groups.

    Parameters
    ----------
    root
        Where ``proc`` and ``sys`` are; another folder in tests.
    accelerators
        Also ask ``nvidia-smi``, if it is installed.
    """
    cpu = _text(root / "proc/cpuinfo")
    memory = _meminfo(_text(root / "proc/meminfo"))
    limit, used = _cgroup_memory(root)
    total = memory.get("MemTotal", 2**31)
    available = memory.get("MemAvailable", total // 2)
    if limit is not None:
        total = min(total, limit)
        available = min(available, max(0, limit - used))
    return Machine(
        cpu_model=_field(cpu, "model name") or "unknown CPU",
        cores=_cores(root),
        total_bytes=total,
        available_bytes=available,
        flags=frozenset((_field(cpu, "flags") or _field(cpu, "Features")).split()),
        accelerators=_accelerators() if accelerators else (),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _field(text: str, name: str) -> str:
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _meminfo(text: str) -> dict[str, int]:
    """Bytes by name from ``/proc/meminfo``, which counts in KiB."""
    found = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdigit():
            found[key] = int(words[0]) * 1024
    return found


def _own_groups(root: Path) -> dict[str, str]:
    """Controller → path in its hierarchy, from ``/proc/self/cgroup``; version 2 has the key ''."""
    groups = {}
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        for controller in controllers.split(","):
            groups[controller] = path
    return groups


def _ancestors(base: Path, path: str) -> list[Path]:
    """The folders of a control group and of all above it: each may set a limit."""
    own = base / path.lstrip("/")
    return [own, *[parent for parent in own.parents if parent == base or base in parent.parents]]


def _cgroup_memory(root: Path) -> tuple[int | None, int]:
    """The tightest memory limit of the control groups and what counts against it, page cache off."""
    base, groups = root / "sys/fs/cgroup", _own_groups(root)
    candidates = [
        *[(path, "memory.max", "memory.current") for path in _ancestors(base, groups.get("", "/"))],
        *[
            (path, "memory.limit_in_bytes", "memory.usage_in_bytes")
            for path in _ancestors(base / "memory", groups.get("memory", "/"))
        ],
    ]
    tightest: tuple[int, int] | None = None
    for folder, limit_file, used_file in candidates:
        limit = _number(_text(folder / limit_file))
        if limit is None or limit >= 2**60 or (tightest is not None and limit >= tightest[0]):
            continue
        cache = _statistic(_text(folder / "memory.stat"), "inactive_file")
        tightest = (limit, max(0, (_number(_text(folder / used_file)) or 0) - cache))
    return tightest if tightest is not None else (None, 0)


def _statistic(text: str, name: str) -> int:
    words = (line.split() for line in text.splitlines())
    return next((int(pair[1]) for pair in words if len(pair) == 2 and pair[0] == name and pair[1].isdigit()), 0)


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isdigit() else None


def _cores(root: Path) -> int:
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    base, groups = root / "sys/fs/cgroup", _own_groups(root)
    for folder in _ancestors(base, groups.get("", "/")):
        words = _text(folder / "cpu.max").split()
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]) > 0:
            affinity = min(affinity, max(1, int(words[0]) // int(words[1])))
    return max(1, affinity)


def _accelerators() -> tuple[Accelerator, ...]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        answer = subprocess.run([program, *_QUERY], capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_accelerators(answer.stdout)


def parse_accelerators(text: str) -> tuple[Accelerator, ...]:
    """The GPUs in the answer of ``nvidia-smi`` (CSV: name, total MiB, free MiB)."""
    found = []
    for line in text.splitlines():
        words = [word.strip() for word in line.rsplit(",", 2)]
        if len(words) == 3 and words[1].isdigit() and words[2].isdigit():
            found.append(Accelerator(words[0], int(words[1]) * 2**20, int(words[2]) * 2**20))
    return tuple(found)
