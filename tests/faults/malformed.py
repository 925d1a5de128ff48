"""Real DICOM objects with wounds, over C-STORE: each gets a defined answer, soon, and harms nobody else."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from hounsfield.network.limits import NodeLimits
from hounsfield.network.part10 import data_set_start, file_head
from hounsfield.network.received import Received
from hounsfield.usecases.node.inbox import copy_in

from .instances import instance
from .running import Receiver
from .scu import Scu

ANSWERS = frozenset((0x0000, 0x0117, 0xA900, 0xC000))
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
_MOST_BYTES = 300_000
_TOGETHER = 10
_NEST = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"


@dataclass
class Outcome:
    """What became of the wounded objects."""

    sent: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0
    growth_mib: float = 0.0
    faults: list[str] = field(default_factory=list)


def corpus(shared_data: Path) -> list[tuple[str, str, bytes]]:
    """(SOP class, SOP instance, data set) of the small real objects."""
    found = []
    for folder in ("dicom-tricky", "dicom-seg-sr"):
        for path in sorted((shared_data / folder).rglob("*")):
            if not path.is_file() or path.stat().st_size > _MOST_BYTES:
                continue
            try:
                header = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
            except InvalidDicomError:
                continue
            if "SOPClassUID" in header and header.file_meta.TransferSyntaxUID == EXPLICIT_LITTLE:
                content = path.read_bytes()[data_set_start(path) :]
                found.append((str(header.SOPClassUID), str(header.SOPInstanceUID), content))
    return found


def wounded(content: bytes, chance: random.Random) -> bytes:
    """One to eight wounds: bits, lengths, value representations, cuts, doubled and nested pieces."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(min(len(data), 4000) if chance.random() < 0.8 else len(data))
        kind = chance.randrange(6)
        if kind == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[at : at + 4] = chance.choice([b"\xff\xff\xff\xff", b"\xf0\xff\xff\xff", b"\0\0\0\x80", b"\0\0\0\0"])
        elif kind == 2:
            data[at : at + 2] = chance.choice([b"SQ", b"UN", b"OB", b"ZZ", b"\0\0"])
        elif kind == 3:
            del data[at + 1 :]
        elif kind == 4:
            data[at:at] = data[at : at + chance.randrange(1, 400)]
        else:
            data[at:at] = _NEST * chance.randrange(1, 400)
    return bytes(data)


def run(root: Path, shared_data: Path, count: int, seed: int) -> Outcome:
    """Send ``count`` wounded objects, each tenth as a file; after every hundred, a whole one must pass."""
    outcome, chance, objects = Outcome(), random.Random(seed), corpus(shared_data)
    assert len(objects) > 20
    with Receiver(root) as receiver:
        before = 0.0
        while outcome.sent < count:
            sop_class, uid, content = chance.choice(objects)
            together = [wounded(content, chance) for _ in range(min(_TOGETHER, count - outcome.sent))]
            if chance.random() < 0.1:
                _drop(receiver, sop_class, uid, together, outcome)
            else:
                _send(receiver.port, sop_class, uid, together, outcome)
            if outcome.sent % 100 == 0:
                with Scu(receiver.port) as scu:
                    if scu.echo() or scu.store(instance(1, outcome.sent)):
                        outcome.faults.append(f"a whole instance did not pass after {outcome.sent}")
            before = before or resident_mib()
        outcome.growth_mib = round(resident_mib() - before, 1)
        if receiver.parts():
            outcome.faults.append("something was left in the incoming folder")
    return outcome


def _send(port: int, sop_class: str, uid: str, together: list[bytes], outcome: Outcome) -> None:
    """Over one association: each must be answered, and the association must live on."""
    try:
        with Scu(port, sop_class=sop_class) as scu:
            for data in together:
                began = time.monotonic()
                status = scu.store_bytes(uid, data)
                _note(outcome, f"{status:04X}", status in ANSWERS, began)
    except OSError as error:
        outcome.faults.append(f"no answer after {outcome.sent} objects ({type(error).__name__})")
        outcome.sent += _TOGETHER - outcome.sent % _TOGETHER


def _drop(receiver: Receiver, sop_class: str, uid: str, together: list[bytes], outcome: Outcome) -> None:
    """The way of a file in the inbox, and of a part of STOW-RS."""
    path = receiver.root / "wounded.dcm"
    for data in together:
        path.write_bytes(file_head(sop_class, uid, EXPLICIT_LITTLE) + data)
        began = time.monotonic()
        received = copy_in(path, receiver.files.incoming, NodeLimits())
        answer = receiver.keeper.keep_now(received) if isinstance(received, Received) else received
        _note(outcome, f"file {answer.status:04X}", answer.status in ANSWERS, began)
    path.unlink()


def _note(outcome: Outcome, status: str, allowed: bool, began: float) -> None:
    outcome.longest_s = max(outcome.longest_s, time.monotonic() - began)
    outcome.sent += 1
    outcome.statuses[status] += 1
    if not allowed:
        outcome.faults.append(f"object {outcome.sent} was answered {status}")


def resident_mib() -> float:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
