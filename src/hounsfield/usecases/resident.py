"""Resident memory of this process and of others, from /proc (proc(5))."""

from __future__ import annotations

from pathlib import Path


def peak_bytes() -> int:
    """The highest resident memory of this process since it started or since ``forget_peak``."""
    return _status(Path("/proc/self/status"), "VmHWM")


def forget_peak() -> bool:
    """Let the peak start again from now (proc(5), clear_refs 5); False where the kernel does not allow it."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def tree_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants; pages they share are counted once.

    0 when the process is gone.
    """
    children = _descendants(pid)
    own = _statm(pid)
    return own + sum(_unshared(child) for child in children)


def allow_growth(budget_bytes: int, slack_bytes: int = 64 * 2**20) -> None:
    """Limit this process's private memory so that it cannot pass the budget between two looks.

    RLIMIT_DATA counts what could become resident; the slack leaves room for stacks and arenas that
    never do.
    """
    import resource

    status = Path("/proc/self/status")
    room = max(0, budget_bytes - _status(status, "VmRSS")) + slack_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (_status(status, "VmData") + room, resource.RLIM_INFINITY))


def give_back_free_memory() -> None:
    """Collect garbage and return free heap to the system (malloc_trim(3), where there is one)."""
    import ctypes
    import gc

    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def lift_limit() -> None:
    """Take back what ``allow_growth`` set."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _statm(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * 4096
    except (OSError, IndexError):
        return 0


def _unshared(pid: int) -> int:
    """Private pages of a forked child: what it adds to its parent."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    wanted = ("Private_Clean:", "Private_Dirty:")
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(wanted))


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        for task in _tasks(one):
            try:
                text = Path(f"/proc/{one}/task/{task}/children").read_text(encoding="ascii")
            except OSError:
                continue
            children = [int(word) for word in text.split()]
            found += children
            waiting += children
    return found


def _tasks(pid: int) -> list[str]:
    try:
        return [path.name for path in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []


def _status(path: Path, name: str) -> int:
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0
