"""A sender with a ledger: the oracle of every test of loss."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from pydicom import FileDataset
from pydicom.uid import CTImageStorage
from sqlalchemy import select

from hounsfield.department.database import open_database
from hounsfield.department.tables import instances as table

from .instances import Entry, pixel_hash
from .scu import Scu


def send(
    port: int, datasets: Iterable[FileDataset], note: Callable[[Entry], None], sop_class: str = CTImageStorage
) -> None:
    """Send over one association; each answer, or its absence, is noted at once.

    Raises
    ------
    OSError
        When the association is lost.
    """
    with Scu(port, sop_class=sop_class) as scu:
        for one in datasets:
            status = None
            try:
                status = scu.store(one)
            finally:
                note(Entry(str(one.SOPInstanceUID), hashlib.sha256(one.PixelData).hexdigest(), status))


def echoes(port: int, timeout: float = 5.0) -> bool:
    """Whether a node answers a C-ECHO."""
    try:
        with Scu(port, timeout=timeout) as scu:
            return scu.echo() == 0
    except OSError:
        return False


def wait_until(what: Callable[[], bool], seconds: float = 60.0) -> float:
    """Wait for a fact, or fail; the seconds it took."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < seconds, "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - began


def lost_or_wrong(root: Path, ledger: Iterable[Entry]) -> list[str]:
    """Acknowledged instances that the node has not, or has with other pixels; and everything torn."""
    database = open_database(root / "state.sqlite")
    assert database.integrity() == "ok"
    with database.read() as connection:
        rows = list(connection.execute(select(table)))
    database.close()
    kept = {row.sop_instance_uid: row for row in rows if row.standing == "kept"}
    assert len(kept) == sum(row.standing == "kept" for row in rows)
    faults = []
    for row in rows:
        path = root / "instances" / row.sha256[:2] / f"{row.sha256}.dcm"
        if hashlib.sha256(path.read_bytes()).hexdigest() != row.sha256:
            faults.append(f"torn: {row.sop_instance_uid}")
    for entry in ledger:
        if entry.acknowledged:
            row = kept.get(entry.uid)
            if row is None:
                faults.append(f"lost: {entry.uid}")
            elif pixel_hash(root / "instances" / row.sha256[:2] / f"{row.sha256}.dcm") != entry.pixels:
                faults.append(f"other pixels: {entry.uid}")
    return faults
