"""Whole files or none: existing output, full disk, broken folders, other people's races."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hounsfield.errors import OutputError, OutputExists, ReadBackFailed
from hounsfield.writing.files import write_checked


def _fine(path: Path) -> None:
    assert path.exists()


def test_written_file_is_whole_and_described(tmp_path: Path) -> None:
    written = write_checked(tmp_path / "a.bin", "test", lambda p: p.write_bytes(b"abc") and None, _fine)
    assert (tmp_path / "a.bin").read_bytes() == b"abc"
    assert written.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert written.size_bytes == 3
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk_is_one_clear_line_and_leaves_nothing(tmp_path: Path, number: int) -> None:
    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(OutputError, match="the disk is full; free some space") as caught:
        write_checked(tmp_path / "a.bin", "test", full, _fine)
    assert list(tmp_path.iterdir()) == []
    assert caught.value.path == tmp_path / "a.bin"


def test_full_disk_at_fsync_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OutputError, match="disk is full"):
        write_checked(tmp_path / "a.bin", "test", lambda p: p.write_bytes(b"x" * 999) and None, _fine)
    assert list(tmp_path.iterdir()) == []


CHILD = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from writing_phantoms import grid, result_for
from hounsfield.errors import OutputError
from hounsfield.writing import write_json, write_nifti, write_report, write_seg
folder = Path({folder!r})
result = result_for(folder)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
out = folder / "out"
out.mkdir()
for write, name in ((write_seg, "a.dcm"), (write_nifti, "a.nii"), (write_json, "a.json"), (write_report, "a.html")):
    try:
        write(result, out / name)
    except OutputError as error:
        print(error.fact)
print(sorted(p.name for p in out.iterdir()))
"""


def test_every_writer_survives_a_real_limit_of_the_system(tmp_path: Path) -> None:
    """The system itself refuses to write past 300 bytes (RLIMIT_FSIZE), in a child process."""
    assert signal.SIGXFSZ
    code = CHILD.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines() == ["the disk is full"] * 4 + ["[]"], done.stderr


def test_existing_file_is_kept_and_overwrite_must_be_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(OutputExists):
        write_checked(path, "test", lambda p: p.write_bytes(b"new") and None, _fine)
    assert path.read_bytes() == b"old"
    write_checked(path, "test", lambda p: p.write_bytes(b"new") and None, _fine, overwrite=True)
    assert path.read_bytes() == b"new"


def test_failed_overwrite_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def bad(written: Path) -> None:
        raise ValueError("differs")

    with pytest.raises(ReadBackFailed):
        write_checked(path, "test", lambda p: p.write_bytes(b"new") and None, bad, overwrite=True)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"

    def overtaken(temporary: Path) -> None:
        temporary.write_bytes(b"mine")
        path.write_bytes(b"theirs")

    with pytest.raises(OutputExists):
        write_checked(path, "test", overtaken, _fine)
    assert path.read_bytes() == b"theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the folder does not exist"):
        write_checked(tmp_path / "no" / "a.bin", "test", lambda p: p.write_bytes(b"x") and None, _fine)


def test_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="could not be written"):
        write_checked(tmp_path / "file" / "a.bin", "test", lambda p: p.write_bytes(b"x") and None, _fine)


def test_interrupted_writing_leaves_nothing(tmp_path: Path) -> None:
    def interrupted(path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_checked(tmp_path / "a.bin", "test", interrupted, _fine)
    assert list(tmp_path.iterdir()) == []
