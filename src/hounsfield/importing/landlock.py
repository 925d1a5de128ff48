"""Landlock: which files a process may touch (kernel documentation, userspace-api/landlock)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from hounsfield.importing.locks import open_path, packed, system_call

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_VERSION, _PATH_BENEATH = 1, 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
_ALL_OF_FIRST = (1 << 13) - 1
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
_TCP = 0b11
_SCOPES = 0b11


def restrict_files(folder: Path, readable: Iterable[Path]) -> bool:
    """Let this thread and those it starts read ``readable`` and write below ``folder`` only.

    TCP and signals to other processes are refused too where the kernel knows how.

    Returns
    -------
    Whether the kernel took it.
    """
    version = system_call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_CREATE_VERSION))
    if version < 1:
        return False
    rights = _ALL_OF_FIRST
    rights |= _REFER if version >= 2 else 0
    rights |= _TRUNCATE if version >= 3 else 0
    rights |= _IOCTL_DEVICE if version >= 5 else 0
    attributes = packed("=QQQ", rights, _TCP if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = system_call(_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    try:
        taken = all(_allow(ruleset, place, _READ_FILE | _READ_DIR) for place in readable)
        taken = taken and _allow(ruleset, folder, rights & ~_EXECUTE) and _allow(ruleset, Path(os.devnull), _WRITE_FILE)
        return taken and system_call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)) == 0
    finally:
        os.close(ruleset)


def _allow(ruleset: int, place: Path, rights: int) -> bool:
    descriptor = open_path(place)
    try:
        beneath = packed("=Qi", rights if place.is_dir() else rights & _FILE_RIGHTS, descriptor)
        return (
            system_call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), beneath, ctypes.c_uint32(0)) == 0
        )
    finally:
        os.close(descriptor)
