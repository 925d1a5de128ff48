"""Archives: what comes out is what went in, nothing else reaches the disk, and bombs meet limits."""

from __future__ import annotations

import io
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from reading_grids import GRIDS, as_sitk, voxels

from hounsfield.errors import HounsfieldError, LimitExceeded, NotReadable, UnsupportedEncoding
from hounsfield.reading import Limits, read, scan
from hounsfield.reading.archive import extract_archive

Pack = Callable[[Path, dict[str, bytes]], Path]


def pack_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def pack_tar(mode: str) -> Pack:
    def pack(path: Path, files: dict[str, bytes]) -> Path:
        with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return path

    return pack


KINDS = {
    "scan.zip": pack_zip,
    "scan.tar": pack_tar("w"),
    "scan.tar.gz": pack_tar("w:gz"),
    "scan.tar.xz": pack_tar("w:xz"),
    "scan.tar.bz2": pack_tar("w:bz2"),
    "without-suffix": pack_tar("w:gz"),
}
every_kind = pytest.mark.parametrize(("name", "pack"), KINDS.items(), ids=KINDS.keys())
SMALL = Limits(archive_bytes=1 << 30)


@pytest.fixture
def nifti_bytes(tmp_path: Path) -> bytes:
    path = tmp_path / "made.nii.gz"
    sitk.WriteImage(as_sitk(voxels(), GRIDS["oblique"]), str(path))
    return path.read_bytes()


def unpacked(path: Path, folder: Path, limits: Limits = SMALL) -> tuple[list[Path], tuple[str, ...]]:
    folder.mkdir()
    passed_over = extract_archive(path, folder, limits)
    return sorted(p for p in folder.rglob("*") if not p.is_dir()), passed_over


@every_kind
def test_a_scan_in_an_archive_reads_as_the_scan(name: str, pack: Pack, nifti_bytes: bytes, tmp_path: Path) -> None:
    path = pack(tmp_path / name, {"a/b/scan.nii.gz": nifti_bytes, "a/readme.txt": b"hello"})
    volume = read(path)
    np.testing.assert_array_equal(volume.array, voxels())
    assert volume.geometry.is_close(GRIDS["oblique"])
    assert volume.provenance.source == path


@every_kind
def test_the_temporary_folder_goes_with_the_contents(
    name: str, pack: Pack, nifti_bytes: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned = tmp_path / "temporary"
    owned.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(owned))
    with scan(pack(tmp_path / name, {"scan.nii.gz": nifti_bytes})) as contents:
        assert len(contents.series) == 1
        assert list(owned.iterdir())
    assert not list(owned.iterdir())


def test_a_detached_header_finds_its_data(tmp_path: Path) -> None:
    sitk.WriteImage(as_sitk(voxels(), GRIDS["PIR"]), str(tmp_path / "scan one.mhd"))
    files = {f"x/{n}": (tmp_path / n).read_bytes() for n in ("scan one.mhd", "scan one.raw")}
    volume = read(pack_zip(tmp_path / "scan.zip", files))
    np.testing.assert_array_equal(volume.array, voxels())


@pytest.mark.parametrize("name", ["scan.zip", "scan.tar.gz"])
@pytest.mark.parametrize(
    "hostile",
    [
        "../../escaped.nii",
        "{root}/escaped.nii",
        "..\\..\\escaped.nii",
        "C:\\escaped.nii",
        "a/../../../escaped.nii",
        "a\0b",
    ],
)
def test_no_name_leads_out(name: str, hostile: str, tmp_path: Path) -> None:
    path = KINDS[name](tmp_path / name, {hostile.format(root=tmp_path): b"data", "x" * 255: b"more"})
    out = tmp_path / "deep" / "out"
    out.parent.mkdir()
    files, _ = unpacked(path, out)
    assert sorted(p.read_bytes() for p in files) == [b"data", b"more"]
    assert set(tmp_path.rglob("*")) == {path, out.parent, out, *files, *(p.parent for p in files)}
    assert all(p.parent.parent == out and re.fullmatch(r"[0-9a-f]{32}(\.nii)?", p.name) for p in files)


def test_links_and_devices_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "scan.tar"
    with tarfile.open(path, "w") as archive:
        for kind, link in (
            (tarfile.SYMTYPE, "/etc"),
            (tarfile.LNKTYPE, "/etc/hostname"),
            (tarfile.CHRTYPE, ""),
            (tarfile.FIFOTYPE, ""),
        ):
            member = tarfile.TarInfo("link")
            member.type, member.linkname = kind, link
            archive.addfile(member)
        member = tarfile.TarInfo("link/file")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"data"))
    files, passed_over = unpacked(path, tmp_path / "out")
    assert [p.read_bytes() for p in files] == [b"data"]
    assert not files[0].is_symlink()
    assert passed_over == ("4 x link or device in the archive",)


def test_links_in_a_zip_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "scan.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/hostname")
    assert unpacked(path, tmp_path / "out") == ([], ("1 x link or device in the archive",))


@every_kind
def test_nested_archives_are_noted_and_stay_shut(name: str, pack: Pack, nifti_bytes: bytes, tmp_path: Path) -> None:
    inner = pack_zip(tmp_path / "inner.zip", {"scan.nii.gz": nifti_bytes}).read_bytes()
    with scan(pack(tmp_path / name, {"inner.zip": inner, "scan.nii.gz": nifti_bytes})) as contents:
        assert len(contents.series) == 1
        assert [s.reason for s in contents.skipped] == ["1 x archive inside the archive, not opened"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@every_kind
def test_a_second_file_of_a_name_does_not_replace_the_first(name: str, pack: Pack, tmp_path: Path) -> None:
    path = tmp_path / name
    if pack is pack_zip:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a", b"first")
            archive.writestr("a", b"second")
    else:
        pack(path, {"a": b"first"})
        with tarfile.open(
            path, {"scan.tar": "w", "scan.tar.xz": "w:xz", "scan.tar.bz2": "w:bz2"}.get(name, "w:gz")
        ) as archive:
            for data in (b"first", b"second"):
                member = tarfile.TarInfo("a")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    files, passed_over = unpacked(path, tmp_path / "out")
    assert [p.read_bytes() for p in files] == [b"first"]
    assert passed_over == ("1 x second file of the same name",)


@every_kind
def test_too_many_entries(name: str, pack: Pack, tmp_path: Path) -> None:
    path = pack(tmp_path / name, {f"{n}": b"x" for n in range(30)})
    with pytest.raises(LimitExceeded, match="more than 20 entries"):
        scan(path, limits=Limits(files=20))


@every_kind
def test_too_many_bytes(name: str, pack: Pack, tmp_path: Path) -> None:
    path = pack(tmp_path / name, {"a": np.random.default_rng(1).bytes(300 << 10), "b": bytes(900 << 10)})
    with pytest.raises(LimitExceeded, match="unpacks to more than 1 MiB"):
        scan(path, limits=Limits(archive_bytes=1 << 20))


@pytest.mark.parametrize("name", ["scan.zip", "scan.tar.gz"])
def test_a_bomb_meets_the_ratio(name: str, tmp_path: Path) -> None:
    path = KINDS[name](tmp_path / name, {"a": bytes(80 << 20)})
    with pytest.raises(LimitExceeded, match="exhaust a machine"):
        scan(path)


def test_a_zip_that_lies_about_its_sizes(tmp_path: Path) -> None:
    path = pack_zip(tmp_path / "scan.zip", {"a": bytes(70 << 20)})
    data = path.read_bytes().replace((70 << 20).to_bytes(4, "little"), (5).to_bytes(4, "little"))
    path.write_bytes(data)
    with pytest.raises((LimitExceeded, NotReadable)):
        scan(path)


@every_kind
@pytest.mark.parametrize("keep", [0.5, 0.97])
def test_a_cut_archive_is_not_readable(name: str, pack: Pack, keep: float, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    path = pack(tmp_path / name, {f"{n}.dcm": random.bytes(20_000) for n in range(20)})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(NotReadable, match=r"damaged or cut|has no end"):
        scan(path)


def test_a_tar_cut_between_two_files_is_not_readable(tmp_path: Path) -> None:
    path = pack_tar("w")(tmp_path / "scan.tar", {"a": bytes(512), "b": bytes(512)})
    path.write_bytes(path.read_bytes()[:1024])
    with pytest.raises(NotReadable, match="has no end"):
        scan(path)


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    path = pack_zip(tmp_path / "scan.zip", {"a": np.random.default_rng(1).bytes(100_000)})
    data = bytearray(path.read_bytes())
    data[50_000] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(NotReadable):
        scan(path)


def test_an_encrypted_zip_is_named(tmp_path: Path) -> None:
    path = pack_zip(tmp_path / "scan.zip", {"a": b"data"})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(UnsupportedEncoding, match="encrypted"):
        scan(path)


def test_an_unknown_method_is_named(tmp_path: Path) -> None:
    path = pack_zip(tmp_path / "scan.zip", {"a": b"data"})
    data = bytearray(path.read_bytes())
    data[8], data[data.index(b"PK\x01\x02") + 10] = 97, 97
    path.write_bytes(data)
    with pytest.raises(UnsupportedEncoding):
        scan(path)


def test_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack_zip(tmp_path / "scan.zip", {"a.nii": b"data"})

    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(HounsfieldError, match=r"No space left on device\); free space"):
        extract_archive(path, tmp_path, SMALL)
