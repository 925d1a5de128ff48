"""Look at a file's bytes, whatever its name says: programs, archives and pickles are refused.

This only adds refusals with a clear reason; no trust follows from it. What protects is that the
format is a closed list of files, each parsed strictly as data, and that nothing is unpickled.
"""

from __future__ import annotations

import os
import pickletools
import re
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

from hounsfield.errors import PackageRefused
from hounsfield.packages.inventory import opened

_HEAD = 64 * 1024
_TAIL = 22 + 65535

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\x7fELF", "a program or shared library (ELF)"),
    (b"\xfe\xed\xfa\xce", "a program or shared library (Mach-O)"),
    (b"\xfe\xed\xfa\xcf", "a program or shared library (Mach-O)"),
    (b"\xce\xfa\xed\xfe", "a program or shared library (Mach-O)"),
    (b"\xcf\xfa\xed\xfe", "a program or shared library (Mach-O)"),
    (b"\xca\xfe\xba\xbe", "a program (Mach-O or Java class)"),
    (b"\x00asm", "a program (WebAssembly)"),
    (b"PK\x03\x04", "a zip archive, as torch checkpoints are"),
    (b"PK\x05\x06", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"BZh9", "a bzip2 archive"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy file"),
    (b"#!", "a script"),
)
_OLD_PICKLE = re.compile(rb"\A(?:[\(\]\}]{0,4})c[A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n")
_PYTHON = re.compile(rb"\A\s*(?:#[^\n]*\n\s*)*(?:import [a-z_]\w*|from [a-z_][\w.]* import |def \w+\(|class \w+[:(])")
_ACTIVE = re.compile(rb"<\s*(?:script|iframe|object|embed)\b|javascript:", re.IGNORECASE)


def refuse_programs(root: Path, name: str) -> None:
    """Raise PackageRefused if the content of a file is a program, an archive or a pickle."""
    with opened(root, name) as file:
        what = _what(file)
    if what is not None:
        raise PackageRefused(fact=f"its content is {what}", remedy="a package is data: do not use it", path=root / name)


def _what(file: BufferedReader) -> str | None:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(_HEAD)
    for start, what in _STARTS:
        if head.startswith(start):
            return what
    file.seek(max(0, size - _TAIL))
    tail = file.read(_TAIL)
    checks: tuple[tuple[Callable[[], bool], str], ...] = (
        (lambda: _is_windows_program(head), "a Windows program or library (PE)"),
        (lambda: head[257:262] == b"ustar", "a tar archive"),
        (lambda: _is_pickle(head), "a Python pickle, which can run any code"),
        (lambda: _ends_as_zip(tail), "a zip archive behind other bytes"),
        (lambda: _PYTHON.match(head) is not None, "Python source"),
    )
    return next((what for holds, what in checks if holds()), None)


def refuse_active_text(root: Path, name: str, data: bytes) -> None:
    """Raise PackageRefused for a card with active HTML, or with bytes that are not text."""
    path = root / name
    if _ACTIVE.search(data):
        raise PackageRefused(fact="the text holds active HTML", remedy="write plain Markdown", path=path)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PackageRefused(fact="the text is not UTF-8", remedy="save it as UTF-8", path=path) from error
    if any(ord(character) < 32 and character not in "\t\n\r" for character in text):
        raise PackageRefused(fact="the text holds control characters", remedy="write plain Markdown", path=path)


def _is_windows_program(head: bytes) -> bool:
    if not head.startswith(b"MZ") or len(head) < 64:
        return False
    offset = int.from_bytes(head[60:64], "little")
    return head[offset : offset + 4] == b"PE\0\0"


def _is_pickle(head: bytes) -> bool:
    """Whether the bytes read as a pickle; :mod:`pickletools` only lists opcodes, it runs none."""
    if _OLD_PICKLE.match(head):
        return True
    if len(head) < 3 or head[0] != 0x80 or not 2 <= head[1] <= 5:
        return False
    count = 0
    try:
        for opcode, _, _ in pickletools.genops(head):
            count += 1
            if opcode.name == "STOP" or count > 32:
                return True
    except (ValueError, IndexError, OverflowError, UnicodeDecodeError):
        return count > 8
    return False


def _ends_as_zip(tail: bytes) -> bool:
    """Whether an end-of-central-directory record closes the file exactly (APPNOTE 4.3.16)."""
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 22 > len(tail):
        return False
    return at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail)
