"""The closed list of files that a package may hold, and safe ways to look at them.

Everything here works on names, ``lstat`` and the first and last bytes; nothing is parsed yet.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from hounsfield.errors import PackageInvalid, PackageNotFound, PackageRefused

MANIFEST = "manifest.toml"
DIGESTS = "digests.json"
SIGNATURE = "signature.ed25519"
WEIGHTS = "weights.safetensors"
CARD = "card.md"
FOLDERS = ("evidence", "graphs")

_KIB, _MIB, _GIB = 1024, 1024**2, 1024**3
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"


@dataclass(frozen=True)
class Place:
    """A place of the format: which paths fit it, and the most bytes such a file may have."""

    pattern: str
    most_bytes: int


#: All that a package may hold; ``graphs/*.data`` are the external data of ONNX graphs.
PLACES = (
    Place(re.escape(MANIFEST), 256 * _KIB),
    Place(re.escape(DIGESTS), 64 * _KIB),
    Place(re.escape(SIGNATURE), 4 * _KIB),
    Place(re.escape(CARD), _MIB),
    Place(re.escape(WEIGHTS), 8 * _GIB),
    Place(rf"graphs/{_NAME}\.onnx", 2 * _GIB - 1),
    Place(rf"graphs/{_NAME}\.data", 8 * _GIB),
    Place(rf"evidence/{_NAME}\.json", 4 * _MIB),
)
MOST_FILES = 200
MOST_TOTAL_BYTES = 24 * _GIB

_PROGRAMS = {
    "a Python file": (".py", ".pyc", ".pyd", ".pyw", ".pyx", ".ipynb", ".whl"),
    "a pickle or a checkpoint that is one": (
        *(".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin", ".joblib", ".npy", ".npz", ".pt2", ".h5", ".keras"),
    ),
    "a program or library": (".so", ".dll", ".dylib", ".exe", ".o", ".a", ".jar", ".class", ".wasm", ".js"),
    "a script": (".sh", ".bash", ".bat", ".cmd", ".ps1", ".pl", ".rb", ".lua"),
    "an archive": (".zip", ".tar", ".gz", ".tgz", ".7z", ".bz2", ".xz", ".mar", ".nemo"),
}


def place_of(name: str) -> Place:
    """The place of the format that the relative path ``name`` fits.

    Raises
    ------
    PackageRefused
        If the format has no place for it.
    """
    for place in PLACES:
        if re.fullmatch(place.pattern, name):
            return place
    suffixes = {f".{part}" for part in name.lower().split("/")[-1].split(".")[1:]}
    for what, known in _PROGRAMS.items():
        if suffixes & set(known):
            raise PackageRefused(fact=f"it holds {what}: {shown(name)}", remedy=_CLOSED)
    raise PackageRefused(fact=f"the format has no place for the file {shown(name)}", remedy=_CLOSED)


_CLOSED = "a package is data: remove the file (docs/reference/model-package.md lists what it may hold)"


def shown(name: str, most: int = 80) -> str:
    """An untrusted name made safe to print: control characters escaped, shortened."""
    text = name.encode("unicode_escape").decode("ascii")
    return repr(text if len(text) <= most else text[:most] + "…").replace("\\\\", "\\")


def take_inventory(root: Path) -> dict[str, int]:
    """The files of a package folder: relative path (with ``/``) to size in bytes.

    Raises
    ------
    PackageNotFound
        If ``root`` is no folder.
    PackageRefused
        For links, devices, pipes, names outside the closed list, or too many or too large files.
    """
    if not root.is_dir():
        raise PackageNotFound(fact="there is no such package folder", remedy="check the path", path=root)
    sizes: dict[str, int] = {}
    try:
        for name, entry in _entries(root):
            sizes[name] = _checked_size(name, entry)
            if len(sizes) > MOST_FILES:
                raise PackageRefused(fact=f"it holds more than {MOST_FILES} files", remedy="remove what is not needed")
    except PackageRefused as error:
        raise type(error)(error.fact, error.remedy, root) from None
    except OSError as error:
        raise PackageInvalid(
            fact=f"it cannot be read ({error.strerror})", remedy="check the rights", path=root
        ) from error
    _refuse_colliding(sizes, root)
    if sum(sizes.values()) > MOST_TOTAL_BYTES:
        raise PackageRefused(fact="it is larger than a package may be", remedy="remove what is not needed", path=root)
    return dict(sorted(sizes.items()))


def _entries(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(root) as found:
        for entry in found:
            if not entry.is_dir(follow_symlinks=False):
                yield entry.name, entry
                continue
            if entry.name not in FOLDERS:
                raise PackageRefused(fact=f"the format has no place for the folder {shown(entry.name)}", remedy=_CLOSED)
            with os.scandir(entry.path) as inner:
                for file in inner:
                    yield f"{entry.name}/{file.name}", file


def _checked_size(name: str, entry: os.DirEntry[str]) -> int:
    state = entry.stat(follow_symlinks=False)
    if stat.S_ISLNK(state.st_mode):
        raise PackageRefused(fact=f"{shown(name)} is a link", remedy="replace it by the file itself")
    if not stat.S_ISREG(state.st_mode):
        raise PackageRefused(fact=f"{shown(name)} is not a plain file", remedy="remove it")
    place = place_of(name)
    if state.st_size > place.most_bytes:
        raise PackageRefused(
            fact=f"{shown(name)} has {state.st_size} bytes, more than the {place.most_bytes} allowed",
            remedy="make it smaller",
        )
    return state.st_size


def _refuse_colliding(sizes: dict[str, int], root: Path) -> None:
    seen: dict[str, str] = {}
    for name in sizes:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise PackageRefused(
                fact=f"{shown(other)} and {shown(name)} differ only in case", remedy="rename one of them", path=root
            )


@contextmanager
def opened(root: Path, name: str) -> Iterator[BufferedReader]:
    """Open a file of the package for reading; never follows a link, never waits on a pipe."""
    path = root / name
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise PackageInvalid(
            fact=f"the file cannot be opened ({error.strerror})", remedy="check the package", path=path
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise PackageRefused(fact="it is not a plain file", remedy="remove it", path=path)
        yield file


def read_small(root: Path, name: str) -> bytes:
    """All bytes of a file whose place bounds it to a few MiB."""
    most = place_of(name).most_bytes
    with opened(root, name) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise PackageRefused(fact="it is larger than allowed", remedy="make it smaller", path=root / name)
    return data
