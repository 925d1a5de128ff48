"""The locks of the jail, put on by the child itself: no network, no programs, no files but its own.

Linux only, each by its plain system interface: a network namespace of its own (unshare(2)),
Landlock (landlock(7)), a seccomp filter (seccomp(2)) and resource limits (setrlimit(2)). A lock
that the kernel refuses is left out; :func:`lock` says which ones hold, and the jail demands that
at least the seccomp filter does.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_SIGKILL = 9


@dataclass(frozen=True)
class Bounds:
    """Most memory (address space beyond the present one), processor time and file size."""

    memory_bytes: int
    cpu_s: int
    file_bytes: int


def libc() -> ctypes.CDLL:
    """The C library, with errno kept."""
    return ctypes.CDLL(None, use_errno=True)


def close_the_doors(folder: Path, readable: Iterable[Path]) -> list[str]:
    """Before any thread is started: network namespace, no new privileges, Landlock.

    Parameters
    ----------
    folder
        The only place that may be written below.
    readable
        Files and folders that may be read.

    Returns
    -------
    The locks that hold.
    """
    from hounsfield.importing.landlock import restrict_files

    held = []
    library = libc()
    library.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if library.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
        held.append("network namespace")
    if library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        held.append("no new privileges")
    if restrict_files(folder, readable):
        held.append("landlock")
    return held


def turn_the_key(bounds: Bounds) -> list[str]:
    """After trusted modules are loaded, before the source is opened: limits and the system-call filter."""
    from hounsfield.importing.seccomp import filter_calls

    held = []
    space = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    for kind, soft in (
        (resource.RLIMIT_AS, space + bounds.memory_bytes),
        (resource.RLIMIT_CPU, bounds.cpu_s),
        (resource.RLIMIT_FSIZE, bounds.file_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
        resource.setrlimit(kind, (soft, soft))
    held.append("limits on memory, time and files")
    if filter_calls():
        held.append("seccomp")
    return held


def readable_places(source: Path) -> list[Path]:
    """What the child needs to read: the interpreter, its libraries, the system's, and the source."""
    import sys

    places = [sys.prefix, sys.base_prefix, "/usr", "/lib", "/lib64", "/etc", "/proc", "/sys", "/dev", *sys.path]
    found = [Path(place) for place in dict.fromkeys(places) if place]
    return [*(place for place in found if place.exists()), source]


def system_call(number: int, *arguments: object) -> int:
    """A system call by its number; the error number, negated, where it fails."""
    library = libc()
    library.syscall.restype = ctypes.c_long
    answer = int(library.syscall(ctypes.c_long(number), *arguments))
    return answer if answer >= 0 else -ctypes.get_errno()


def packed(layout: str, *values: int) -> ctypes.Array[ctypes.c_char]:
    """A C structure as a buffer."""
    data = struct.pack(layout, *values)
    return ctypes.create_string_buffer(data, len(data))


def open_path(path: Path) -> int:
    """A descriptor that only names a place (O_PATH)."""
    return os.open(path, os.O_PATH | os.O_CLOEXEC)
