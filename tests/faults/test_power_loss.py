"""A short part of the power cuts; and the oracle itself finds a receiver that forgets an fsync."""

from __future__ import annotations

from pathlib import Path

from . import power_loss
from .power_loss import Call, Disk


def test_what_was_acknowledged_survives_the_loss_of_everything_that_was_not_fsynced(tmp_path: Path) -> None:
    outcome = power_loss.run(tmp_path, count=12, crashes=20, seed=3)
    assert outcome.acknowledged == 12
    assert outcome.crashes > 25
    assert outcome.faults == []


def test_the_oracle_drops_what_was_not_fsynced(tmp_path: Path) -> None:
    root, after = tmp_path / "node", tmp_path / "after"
    root.mkdir()
    disk, name = Disk(root), str(root / "a").encode()

    def left() -> dict[str, bytes]:
        import shutil

        shutil.rmtree(after, ignore_errors=True)
        after.mkdir()
        disk.after_power_loss(after, None)
        return {path.name: path.read_bytes() for path in after.iterdir()}

    disk.do(Call(0, 0, "openat", (name,), '(AT_FDCWD, "", O_WRONLY|O_CREAT, 0600) = 3', 3))
    disk.do(Call(1, 1, "write", (b"abc",), '(3, "", 3) = 3', 3))
    assert left() == {}
    disk.do(Call(2, 4, "fsync", (), "(3) = 0", 0))
    assert left() == {}  # the content is on the disk, its name is not
    disk.do(Call(5, 5, "openat", (str(root).encode(),), '(AT_FDCWD, "", O_RDONLY) = 4', 4))
    disk.do(Call(6, 7, "write", (b"def",), '(3, "", 3) = 3', 3))
    disk.do(Call(8, 8, "fsync", (), "(4) = 0", 0))
    assert left() == {"a": b"abc"}
    disk.do(Call(6, 9, "fsync", (), "(3) = 0", 0))  # began before the second write had ended
    assert left() == {"a": b"abc"}
    disk.do(Call(10, 11, "fdatasync", (), "(3) = 0", 0))
    assert left() == {"a": b"abcdef"}
