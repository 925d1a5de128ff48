"""Activations on disk: exact, bounded by the disk, and gone whatever happens; statistics of whole volumes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.errors import OutputError
from hounsfield.inference.whole.spill import Spill, lies_in_memory
from hounsfield.inference.whole.statistics import ChannelStatistics
from hounsfield.inference.whole.storage import storage_dtype, to_storage


@pytest.mark.parametrize("storage", ["fp32", "fp16", "bf16"])
def test_slabs_read_back_what_was_written(storage: str, tmp_path: Path) -> None:
    dtype = storage_dtype(storage)
    values = to_storage(np.random.default_rng(0).normal(size=(3, 10, 4, 5)).astype(np.float32), dtype)
    with Spill(tmp_path) as spill:
        array = spill.create((3, 10, 4, 5), dtype)
        for start in (0, 4, 8):
            array.write(slice(0, 3), start, values[:, start : start + 4])
        part = np.empty((3, 5, 4, 5), dtype)
        array.read(2, 7, part)
        np.testing.assert_array_equal(part.astype(np.float32), values[:, 2:7].astype(np.float32))
        assert spill.bytes_now == values.nbytes
        assert list(tmp_path.iterdir()) == []
    assert spill.bytes_now == 0


def test_more_than_the_disk_holds_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with Spill(tmp_path) as spill, pytest.raises(OutputError, match=r"full|cannot be used"):
        spill.create((1, 1, 2**31, 2**28), np.dtype(np.float32))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_while_writing_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, data: memoryview, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Spill(tmp_path) as spill:
        array = spill.create((1, 2, 3, 4), np.dtype(np.float32))
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(OutputError, match=r"full.*free space"):
            array.write(slice(0, 1), 0, np.zeros((1, 2, 3, 4), np.float32))


def test_short_writes_and_reads_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite, preadv = os.pwrite, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda handle, data, offset: pwrite(handle, data[:7], offset))
    monkeypatch.setattr(os, "preadv", lambda handle, parts, offset: preadv(handle, [parts[0][:5]], offset))
    values = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    with Spill(tmp_path) as spill:
        array = spill.create((1, 2, 3, 4), values.dtype)
        array.write(slice(0, 1), 0, values)
        back = np.empty_like(values)
        array.read(0, 2, back)
    np.testing.assert_array_equal(back, values)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="absent"), Spill(tmp_path / "absent") as spill:
        spill.create((1, 1, 1, 1), np.dtype(np.float32))


def test_nothing_is_left_after_the_process_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib, numpy\n"
        "from hounsfield.inference.whole.spill import Spill\n"
        "spill = Spill(pathlib.Path(sys.argv[1]))\n"
        "array = spill.create((1, 4, 64, 64), numpy.dtype('f4'))\n"
        "array.write(slice(0, 1), 0, numpy.ones((1, 4, 64, 64), 'f4'))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_memory_is_recognised(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\ntmpfs {tmp_path}/fast tmpfs rw 0 0\n")
    (tmp_path / "fast").mkdir()
    assert lies_in_memory(tmp_path / "fast" / "deeper", mounts)
    assert not lies_in_memory(tmp_path / "slow", mounts)
    assert not lies_in_memory(tmp_path, tmp_path / "absent")


@given(st.integers(0, 10_000), st.floats(-1e4, 1e4), st.floats(1e-2, 1e2), st.lists(st.integers(1, 9000), max_size=4))
def test_statistics_equal_two_passes_however_the_volume_is_cut(
    seed: int, mean: float, deviation: float, cuts: list[int]
) -> None:
    values = (np.random.default_rng(seed).normal(size=20_000) * deviation + mean).astype(np.float32)
    statistics = ChannelStatistics(1)
    for part in np.split(values, sorted(cuts)):
        if part.size:
            statistics.add(0, part)
    exact = values.astype(np.float64)
    assert statistics.mean()[0] == pytest.approx(exact.mean(), rel=1e-6, abs=1e-6 * deviation)
    assert statistics.variance()[0] == pytest.approx(exact.var(), rel=1e-4)


def test_statistics_of_a_constant_channel_are_exact() -> None:
    statistics = ChannelStatistics(1)
    statistics.add(0, np.full(300_000, 1234.5, np.float32))
    assert statistics.variance()[0] == 0
    scale, shift = statistics.affine(np.ones(1, np.float32), np.zeros(1, np.float32), 1e-5)
    assert scale[0] * 1234.5 + shift[0] == pytest.approx(0, abs=0.05)
