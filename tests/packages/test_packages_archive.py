"""Packages as zip files: packed the same each time; hostile archives are refused before they write."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from package_variants import full_package, snapshot

from hounsfield.errors import HounsfieldError, NotReadable, OutputExists, PackageInvalid, PackageRefused
from hounsfield.packages import install, pack, verify
from hounsfield.packages.package import ModelPackage
from hounsfield.usecases.package import VerifyRequest, verify_package


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return full_package(tmp_path_factory.mktemp("good"))


def _members(package: ModelPackage) -> dict[str, bytes]:
    names = [*package.files, "digests.json"]
    return {f"{package.reference}/{name}": (package.root / name).read_bytes() for name in names}


def _zip(members: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] = lambda entry: None) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            entry = zipfile.ZipInfo(name)
            change(entry)
            archive.writestr(entry, data)
    return stream.getvalue()


def test_a_packed_package_is_the_same_each_time_and_installs(package: ModelPackage, tmp_path: Path) -> None:
    first, second = (pack(package, tmp_path / name) for name in ("a.zip", "b.zip"))
    assert first.read_bytes() == second.read_bytes()
    there = install(first, store=tmp_path / "store")
    assert there.root == tmp_path / "store" / package.reference
    assert there.digest == package.digest
    assert verify(there.root) == there
    with pytest.raises(OutputExists):
        pack(package, first)


def test_other_zip_programs_work(package: ModelPackage, tmp_path: Path) -> None:
    """Deflated, with folder entries, with and without the top folder."""
    members = _members(package)
    flat = {name.split("/", 1)[1]: data for name, data in members.items()}
    folders = {f"{package.reference}/": b"", f"{package.reference}/graphs/": b""}
    for number, chosen in enumerate(({**folders, **members}, flat)):
        data = _zip(chosen, lambda entry: setattr(entry, "compress_type", zipfile.ZIP_DEFLATED))
        path = tmp_path / f"{number}.zip"
        path.write_bytes(data)
        assert verify_package(VerifyRequest(path)).package.digest == package.digest


def _link(entry: zipfile.ZipInfo) -> None:
    if entry.filename.endswith("card.md"):
        entry.create_system = 3
        entry.external_attr = 0o120777 << 16


def _with(package: ModelPackage, name: str, data: bytes = b"x") -> bytes:
    return _zip({**_members(package), name: data})


def _twice(package: ModelPackage) -> bytes:
    stream = io.BytesIO(_zip(_members(package)))
    with zipfile.ZipFile(stream, "a") as archive, warnings.catch_warnings(action="ignore"):
        archive.writestr(f"{package.reference}/card.md", "other")
    return stream.getvalue()


def _patched_directory(data: bytes, at: int, value: bytes) -> bytes:
    """Overwrite bytes of each central directory entry (APPNOTE 4.3.12)."""
    out, start = bytearray(data), 0
    while (start := out.find(b"PK\x01\x02", start)) >= 0:
        out[start + at : start + at + len(value)] = value
        start += 4
    return bytes(out)


def _bomb(package: ModelPackage) -> bytes:
    members = {**_members(package), f"{package.reference}/graphs/bomb.data": bytes(64 * 2**20)}
    return _zip(members, lambda entry: setattr(entry, "compress_type", zipfile.ZIP_DEFLATED))


def _longer_than_declared(package: ModelPackage) -> bytes:
    members = {**_members(package), f"{package.reference}/graphs/w.data": bytes(2**20 - 1)}
    data = bytearray(_zip(members, lambda entry: setattr(entry, "compress_type", zipfile.ZIP_DEFLATED)))
    last = data.rfind(b"PK\x01\x02")
    data[last + 24 : last + 28] = struct.pack("<I", 100)
    return bytes(data)


HOSTILE: dict[str, tuple[Callable[[ModelPackage], bytes], type[HounsfieldError], str]] = {
    "parent": (lambda p: _with(p, "../outside.md"), PackageRefused, "leads out of the folder"),
    "deep parent": (lambda p: _with(p, f"{p.reference}/graphs/../../../x.onnx"), PackageRefused, "leads out"),
    "absolute": (lambda p: _with(p, "/etc/passwd"), PackageRefused, "leads out of the folder"),
    "backslash": (lambda p: _with(p, "a\\..\\..\\x"), PackageRefused, "leads out of the folder"),
    "drive": (lambda p: _with(p, "C:/x"), PackageRefused, "leads out of the folder"),
    "link": (lambda p: _zip(_members(p), _link), PackageRefused, "is a link or device"),
    "python": (lambda p: _with(p, f"{p.reference}/__init__.py"), PackageRefused, "a Python file"),
    "deep": (lambda p: _with(p, f"{p.reference}/graphs/a/b.onnx"), PackageRefused, "has no place in a package"),
    "terminal": (lambda p: _with(p, f"{p.reference}/graphs/\x1b[2J.onnx"), PackageRefused, "\\x1b"),
    "other top": (lambda p: _with(p, "other/graphs/b.onnx"), PackageRefused, "no place for the file"),
    "twice": (_twice, PackageRefused, "is in it twice"),
    "case": (lambda p: _with(p, f"{p.reference}/graphs/FP32.onnx"), PackageRefused, "is in it twice"),
    "encrypted": (lambda p: _patched_directory(_zip(_members(p)), 8, b"\x01\x00"), PackageRefused, "is encrypted"),
    "bzip2": (
        lambda p: _zip(_members(p), lambda entry: setattr(entry, "compress_type", zipfile.ZIP_BZIP2)),
        PackageRefused,
        "compressed in a way not read here",
    ),
    "bomb": (_bomb, PackageRefused, "would grow more than 200 times"),
    "declared huge": (
        lambda p: _patched_directory(_zip(_members(p)), 24, struct.pack("<I", 2**31 + 5)),
        PackageRefused,
        "would grow more than 200 times",
    ),
    "longer": (_longer_than_declared, NotReadable, "damaged"),
    "many": (
        lambda p: _zip({f"evidence/{number}.json": b"{}" for number in range(201)}),
        PackageRefused,
        "more than 200 members",
    ),
    "directory": (
        lambda p: _zip({f"evidence/{'x' * 90}{number}.json": b"" for number in range(8_000)}),
        PackageRefused,
        "lists more than a package can hold",
    ),
    "truncated": (lambda p: _zip(_members(p))[:-40], NotReadable, "damaged"),
    "nothing in it": (lambda p: _zip({}), PackageInvalid, "has no manifest.toml"),
    "noise": (
        lambda p: b"PK\x05\x06" + bytes(4) + b"\x09\0" * 2 + b"\x50\0\0\0" * 2 + bytes(2),
        NotReadable,
        "damaged",
    ),
    "text": (lambda p: b"hello", NotReadable, "no zip file"),
    "empty": (lambda p: b"", NotReadable, "no zip file"),
    "spoilt": (
        lambda p: _zip({**_members(p), f"{p.reference}/card.md": b"another card"}),
        PackageInvalid,
        "card.md: its sha256 is not the listed one",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(name: str, package: ModelPackage, tmp_path: Path) -> None:
    make, error, words = HOSTILE[name]
    path = tmp_path / "x.zip"
    path.write_bytes(make(package))
    store = tmp_path / "store"
    store.mkdir()
    before = {name: state[:2] for name, state in snapshot(tmp_path).items()}
    for use in (lambda: install(path, store=store), lambda: verify_package(VerifyRequest(path))):
        with pytest.raises(HounsfieldError) as caught:
            use()
        assert type(caught.value) is error, str(caught.value)
        assert words in str(caught.value)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)
        assert "\x1b" not in str(caught.value)
    assert {name: state[:2] for name, state in snapshot(tmp_path).items()} == before
