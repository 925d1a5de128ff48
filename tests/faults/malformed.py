"""Real DICOM objects with wounds, over C-STORE: each gets a defined answer, soon, and harms nobody else."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from hounsfield.network.part10 import data_set_start

from .instances import instance
from .running import Receiver
from .scu import Scu

ANSWERS = frozenset((0x0000, 0x0117, 0xA900, 0xC000))
_MOST_BYTES = 300_000
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
            if "SOPClassUID" in header and header.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1":
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
    """Send ``count`` wounded objects; after every hundred, a whole one must pass."""
    outcome, chance, objects = Outcome(), random.Random(seed), corpus(shared_data)
    assert len(objects) > 20
    with Receiver(root) as receiver:
        before = 0.0
        for number in range(count):
            sop_class, uid, content = chance.choice(objects)
            began = time.monotonic()
            with Scu(receiver.port, sop_class=sop_class) as scu:
                status = scu.store_bytes(uid, wounded(content, chance))
            outcome.longest_s = max(outcome.longest_s, time.monotonic() - began)
            outcome.sent += 1
            outcome.statuses[f"{status:04X}"] += 1
            if status not in ANSWERS:
                outcome.faults.append(f"object {number} was answered {status:04X}")
            if number % 100 == 99:
                with Scu(receiver.port) as scu:
                    if scu.echo() or scu.store(instance(1, number)):
                        outcome.faults.append(f"a whole instance did not pass after {number}")
            if number == 50:
                before = resident_mib()
        outcome.growth_mib = round(resident_mib() - before, 1)
        if receiver.parts():
            outcome.faults.append("something was left in the incoming folder")
    return outcome


def resident_mib() -> float:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
