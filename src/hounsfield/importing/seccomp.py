"""A system-call filter: no sockets, no programs, no processes, no meddling with others or the kernel.

Classic BPF over ``struct seccomp_data`` (seccomp(2)): the architecture must be the one the filter
was made for, refused calls answer EPERM, ``clone3`` answers ENOSYS so that the C library falls
back to ``clone``, whose flags can be seen: threads are let through, processes are not.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Iterable

from hounsfield.importing.locks import libc, packed, system_call

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_CLONE_THREAD = 0x00010000
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_OTHER_ABI = 0x40000000

_X86_64 = {
    "arch": 0xC000003E,
    "seccomp": 317,
    "clone": 56,
    "clone3": 435,
    # socket connect accept sendto recvfrom sendmsg recvmsg bind listen socketpair accept4 sendmmsg recvmmsg
    "network": (41, 42, 43, 44, 45, 46, 47, 49, 50, 53, 288, 307, 299),
    # fork vfork execve execveat ptrace process_vm_readv process_vm_writev pidfd_open pidfd_getfd
    "process": (57, 58, 59, 322, 101, 310, 311, 434, 438),
    # mount umount2 pivot_root chroot unshare setns bpf perf_event_open keyctl add_key request_key
    # userfaultfd io_uring_setup init_module finit_module kexec_load reboot swapon open_by_handle_at
    "kernel": (165, 166, 155, 161, 272, 308, 321, 298, 250, 248, 249, 323, 425, 175, 313, 246, 169, 167, 304),
}
_AARCH64 = {
    "arch": 0xC00000B7,
    "seccomp": 277,
    "clone": 220,
    "clone3": 435,
    "network": (198, 203, 202, 206, 207, 211, 212, 200, 201, 199, 242, 269, 243),
    "process": (221, 281, 117, 270, 271, 434, 438),
    "kernel": (40, 39, 41, 51, 97, 268, 280, 241, 219, 217, 218, 282, 425, 105, 273, 104, 142, 224, 265),
}
_MACHINES = {"x86_64": _X86_64, "aarch64": _AARCH64}


def filter_calls() -> bool:
    """Put the filter on all threads of this process, for good.

    Returns
    -------
    Whether the kernel took it; False also on a machine that the filter does not know.
    """
    table = _MACHINES.get(platform.machine())
    if table is None:
        return False
    program = _program(table)
    code = ctypes.create_string_buffer(program, len(program))
    holder = packed("@HP", len(program) // 8, ctypes.addressof(code))
    number = table["seccomp"]
    taken = system_call(number, ctypes.c_uint(_SET_MODE_FILTER), ctypes.c_uint(_ALL_THREADS), holder)  # type: ignore[arg-type]
    return taken == 0 or (libc().prctl(_PR_SET_SECCOMP, _MODE_FILTER, holder, 0, 0) == 0 and _alone())


def _alone() -> bool:
    """Whether this process has one thread, which the older interface covers."""
    from pathlib import Path

    return len(list(Path("/proc/self/task").iterdir())) == 1


def _program(table: dict[str, object]) -> bytes:
    refused = [*_numbers(table["network"]), *_numbers(table["process"]), *_numbers(table["kernel"])]
    out = [
        _line(_LOAD, _ARCHITECTURE),
        _line(_EQUAL, _number(table["arch"]), 1, 0),
        _line(_RETURN, _KILL),
        _line(_LOAD, _NUMBER),
        _line(_AT_LEAST, _OTHER_ABI, 0, 1),
        _line(_RETURN, _KILL),
    ]
    for number in refused:
        out += [_line(_EQUAL, number, 0, 1), _line(_RETURN, _ERRNO | errno.EPERM)]
    out += [
        _line(_EQUAL, _number(table["clone3"]), 0, 1),
        _line(_RETURN, _ERRNO | errno.ENOSYS),
        _line(_EQUAL, _number(table["clone"]), 0, 3),
        _line(_LOAD, _FIRST_ARGUMENT),
        _line(_ANY_BIT, _CLONE_THREAD, 1, 0),
        _line(_RETURN, _ERRNO | errno.EPERM),
        _line(_RETURN, _ALLOW),
    ]
    return b"".join(out)


def _numbers(value: object) -> Iterable[int]:
    assert isinstance(value, tuple)  # noqa: S101
    return value


def _number(value: object) -> int:
    assert isinstance(value, int)  # noqa: S101
    return value


def _line(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
