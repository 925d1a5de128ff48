"""Open ``.pt``, ``.pth``, ``.ckpt``, ``.bin`` and ``.safetensors`` files as plain data.

Layouts: torch's zip (``NAME/data.pkl`` and ``NAME/data/KEY``, entries stored, not packed), its older
stream (five pickles, then the storages), and safetensors (a JSON header, then bytes).
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from hounsfield.errors import PackageInvalid, SourceRefused
from hounsfield.importing.checkpoints.tensors import DTYPES, STORAGES, Storage, Tensor, item_bytes
from hounsfield.importing.checkpoints.unpickle import MOST_BYTES, Name, unpickle
from hounsfield.importing.claim import printable
from hounsfield.packages.safetensors_file import check_safetensors

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".tar", ".model", ".safetensors")
_MAGIC = 0x1950A86A20F9469CFC6C
_MOST_ENTRIES = 200_000
_REMEDY = "save only the tensors: torch.save(model.state_dict(), FILE), or use safetensors"
_BESIDE = re.compile(r"(version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id)")
_SAFETENSORS = {
    "F64": "DoubleStorage",
    "F32": "FloatStorage",
    "F16": "HalfStorage",
    "BF16": "BFloat16Storage",
    "I64": "LongStorage",
    "I32": "IntStorage",
    "I16": "ShortStorage",
    "I8": "CharStorage",
    "U8": "ByteStorage",
    "BOOL": "BoolStorage",
}


def is_checkpoint(path: Path) -> bool:
    """Whether a file's name and first bytes are those of a checkpoint that can be read."""
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(16)
    if path.suffix.lower() == ".safetensors":
        return len(head) > 8 and head[8:9] == b"{"
    return head.startswith(b"PK\x03\x04") or (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05")


def read_checkpoint(path: Path) -> Any:
    """The content of a checkpoint: nested plain data and tensors; numbers are read when asked for.

    Raises
    ------
    SourceRefused
        For anything that is not plain data and tensors.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            return _safetensors(path)
        with path.open("rb") as file:
            packed = file.read(4) == b"PK\x03\x04"
        return _zipped(path) if packed else _stream(path)
    except SourceRefused as error:
        raise SourceRefused(error.fact, error.remedy, error.path or path) from error.__cause__


def _zipped(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            root = _checked_root(entries, len(archive.infolist()))
            order = archive.read(f"{root}/byteorder") if f"{root}/byteorder" in entries else b"little"
            if order not in (b"little", b"big"):
                raise SourceRefused("its byte order is neither little nor big", _REMEDY)
            data = archive.read(f"{root}/data.pkl")
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise SourceRefused("the archive is damaged", "fetch the file again") from error

    known: dict[tuple[str, str, int], Storage] = {}

    def storage(pid: Any) -> Storage:
        kind, key, elements = _storage_id(pid)
        entry = entries.get(f"{root}/data/{key}")
        if entry is None or entry.file_size != elements * item_bytes(kind):
            raise SourceRefused(
                f"the numbers of storage {printable(key, 20)} are missing or cut off, or of another type",
                "fetch it again",
            )
        made = Storage(kind, elements, lambda: _entry(path, entry), order == b"little")
        return known.setdefault((kind, key, elements), made)

    return unpickle(data, storage)


def _checked_root(entries: dict[str, zipfile.ZipInfo], count: int) -> str:
    """The one folder of the archive, all of whose entries are of the format.

    Raises
    ------
    SourceRefused
        For TorchScript and exported programs, packed entries, and files that do not belong there.
    """
    if len(entries) != count or count > _MOST_ENTRIES:
        raise SourceRefused("the archive holds a name twice, or too many", _REMEDY)
    roots = {name.split("/")[0] for name in entries}
    names = {name.partition("/")[2] for name in entries}
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        raise SourceRefused(
            "it is a TorchScript program, which is code",
            "export the network as ONNX where you trust it, and import that",
        )
    if any(name.startswith(("models/", "archive_format")) for name in names | set(entries)):
        raise SourceRefused(
            "it is an exported PyTorch program", "export the network as ONNX where you trust it, and import that"
        )
    if len(roots) != 1 or "data.pkl" not in names:
        raise SourceRefused("it is a zip file, but no PyTorch checkpoint", "give the checkpoint itself")
    for name, entry in entries.items():
        inner = name.partition("/")[2]
        if not (inner == "data.pkl" or re.fullmatch(r"data/\d{1,9}", inner) or _BESIDE.fullmatch(inner)):
            raise SourceRefused(f"the archive holds {printable(name, 80)!r}, which is no part of a checkpoint", _REMEDY)
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size or entry.flag_bits & 1:
            raise SourceRefused(f"the entry {printable(name, 80)!r} is packed, which PyTorch never does", _REMEDY)
        if inner == "data.pkl" and entry.file_size > MOST_BYTES:
            raise SourceRefused("the pickle in it is too large", _REMEDY)
    return roots.pop()


def _entry(path: Path, entry: zipfile.ZipInfo) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(entry.filename)
    except (zipfile.BadZipFile, OSError) as error:
        raise SourceRefused("the archive is damaged", "fetch the file again") from error


def _storage_id(pid: Any) -> tuple[str, str, int]:
    """Kind, key and number of elements of a persistent id."""
    good = isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], Name)
    if not good or not isinstance(pid[2], str) or type(pid[4]) is not int or pid[4] < 0:
        raise SourceRefused("the pickle in it refers to something that is no storage of numbers", _REMEDY)
    name = pid[1].text.rpartition(".")[2]
    kind = STORAGES.get(name) or DTYPES.get(name) or ("u1" if name == "UntypedStorage" else None)
    if kind is None:
        raise SourceRefused(f"the storage type {name} is not read here", _REMEDY)
    return kind, pid[2], pid[4]


def _stream(path: Path) -> Any:
    """The older layout: magic number, version, system, content, keys, then count and bytes of each storage."""
    with path.open("rb") as file:
        if unpickle(file, _no_storage) != _MAGIC:
            raise SourceRefused("it is a pickle, but no PyTorch checkpoint", _REMEDY)
        if unpickle(file, _no_storage) != 1001:
            raise SourceRefused("it is a PyTorch checkpoint of an unknown version", _REMEDY)
        system = unpickle(file, _no_storage)
        little = bool(system.get("little_endian", True)) if isinstance(system, dict) else True
        places: dict[str, int] = {}
        sizes: dict[str, int] = {}
        known: dict[tuple[str, str, int], Storage] = {}

        def storage(pid: Any) -> Storage:
            kind, key, elements = _storage_id(pid)
            size = elements * item_bytes(kind)
            sizes[key] = max(size, sizes.get(key, 0))
            made = Storage(kind, elements, lambda: _bytes_at(path, places[key], size), little)
            return known.setdefault((kind, key, elements), made)

        content = unpickle(file, storage)
        _place_storages(file, unpickle(file, _no_storage), sizes, places, path.stat().st_size)
    return content


def _place_storages(file: BinaryIO, keys: Any, sizes: dict[str, int], places: dict[str, int], end: int) -> None:
    if not isinstance(keys, list) or set(sizes) - {key for key in keys if isinstance(key, str)}:
        raise SourceRefused("the list of storages is damaged", _REMEDY)
    for key in keys:
        head = file.read(8)
        places[key] = file.tell()
        at = places[key] + sizes.get(key, 0)
        if len(head) != 8 or key not in sizes or at > end:
            raise SourceRefused("the numbers are cut off", "fetch the file again")
        count = struct.unpack("<q", head)[0]
        if not 0 <= count <= sizes[key]:
            raise SourceRefused("the number of elements of a storage is damaged", _REMEDY)
        file.seek(at)


def _no_storage(pid: Any) -> Storage:
    raise SourceRefused("the pickle in it refers to numbers where there are none", _REMEDY)


def _bytes_at(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        check_safetensors(path.parent, path.name)
    except PackageInvalid as error:
        raise SourceRefused(error.fact, error.remedy, path) from error
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        table = json.loads(file.read(length))
    out: dict[str, Tensor] = {}
    for name, entry in table.items():
        if name == "__metadata__":
            continue
        storage_name = _SAFETENSORS.get(entry["dtype"])
        if storage_name is None:
            raise SourceRefused(
                f"the tensor {printable(name, 80)!r} is of type {entry['dtype']}, which is not read", _REMEDY
            )
        start, stop = entry["data_offsets"]
        kind = STORAGES[storage_name]
        storage = Storage(kind, (stop - start) // item_bytes(kind), _reader(path, 8 + length + start, stop - start))
        shape = tuple(entry["shape"])
        out[name] = Tensor(storage, 0, shape, _c_strides(shape))
    return out


def _reader(path: Path, start: int, size: int) -> Any:
    return lambda: _bytes_at(path, start, size)


def _c_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))
