"""Hostile and crowding peers: broken PDUs, bombs, silent sockets, a hundred associations at once."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from hounsfield.network.limits import NodeLimits

from .instances import Entry, instance
from .malformed import resident_mib
from .running import Receiver
from .scu import Scu, associate_rq, command, data_set, p_data
from .sender import lost_or_wrong, send

_BRIEF = NodeLimits(silent_s=0.5, idle_s=0.5, pdu_s=0.5)


@dataclass
class Outcome:
    """What became of a number of tries."""

    tried: int = 0
    longest_s: float = 0.0
    longest_echo_s: float = 0.0
    growth_mib: float = 0.0
    acknowledged: int = 0
    faults: list[str] = field(default_factory=list)


def _echo(receiver: Receiver, outcome: Outcome, when: str) -> None:
    began = time.monotonic()
    try:
        with Scu(receiver.port, timeout=10) as scu:
            if scu.echo():
                outcome.faults.append(f"C-ECHO was not answered with success {when}")
    except OSError as error:
        outcome.faults.append(f"no C-ECHO {when} ({type(error).__name__})")
    outcome.longest_echo_s = max(outcome.longest_echo_s, time.monotonic() - began)


def broken_pdus(root: Path, count: int, seed: int) -> Outcome:
    """Wounded associations and messages; after every hundred a C-ECHO must be answered."""
    outcome, chance = Outcome(), random.Random(seed)
    with Receiver(root, {"limits": _BRIEF}) as receiver:
        before = resident_mib()
        for number in range(count):
            began = time.monotonic()
            _one_broken(receiver.port, chance, outcome)
            outcome.longest_s = max(outcome.longest_s, time.monotonic() - began)
            outcome.tried += 1
            if number % 100 == 99:
                _echo(receiver, outcome, f"after {number + 1} broken PDUs")
        outcome.growth_mib = round(resident_mib() - before, 1)
        if receiver.parts():
            outcome.faults.append("something was left in the incoming folder")
    return outcome


def _one_broken(port: int, chance: random.Random, outcome: Outcome) -> None:
    rq = {0x0002: "1.2.840.10008.1.1", 0x0100: chance.choice((0x30, 0x01, 0x20, 0x130, 0x0FFF)), 0x0110: 1, 0x0800: 1}
    pieces = [bytearray(associate_rq()), bytearray(p_data(chance.choice((1, 3)), command(rq), is_command=True))]
    pieces.append(bytearray(p_data(1, data_set(instance(1, 0))[: chance.randrange(4000)], is_command=False)))
    wounded = pieces[chance.randrange(3)]
    for _ in range(chance.randint(1, 6)):
        wounded[chance.randrange(len(wounded))] = chance.randrange(256)
    if chance.random() < 0.3:
        del wounded[chance.randrange(1, len(wounded)) :]
    if chance.random() < 0.1:
        pieces.insert(chance.randrange(3), bytearray(struct.pack(">BBL", chance.randrange(256), 0, 0xFFFFFFF0)))
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plug:
        try:
            plug.sendall(b"".join(map(bytes, pieces)))
            plug.shutdown(socket.SHUT_WR)
            while plug.recv(65536):
                pass
        except ConnectionError:
            return
        except TimeoutError:
            outcome.faults.append("a broken association was held for 10 s")


def bombs(root: Path) -> Outcome:
    """Objects that claim or become far more than they are; each must be refused soon, and cost little memory."""
    outcome = Outcome()
    whole = instance(1, 0)
    good = data_set(whole)
    nested = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    cases = {f"nested {depth} deep": nested * depth + good for depth in (17, 200, 100_000)}
    cases["claims 4 GiB"] = good[:100] + b"\x09\x00\x10\x10OB\0\0\xf0\xff\xff\xff" + good[100:]
    cases["a million elements"] = b"\x09\x00\x10\x10LO\0\0" * 1_000_000 + good
    with Receiver(root) as receiver:
        before = resident_mib()
        for name, data in cases.items():
            began = time.monotonic()
            with Scu(receiver.port) as scu:
                if scu.store_bytes(str(whole.SOPInstanceUID), data) == 0:
                    outcome.faults.append(f"{name}: was stored")
            outcome.longest_s = max(outcome.longest_s, time.monotonic() - began)
            outcome.tried += 1
        _pdu_of_4_gib(receiver.port, outcome)
        _inflating(root, outcome)
        _echo(receiver, outcome, "after the bombs")
        outcome.growth_mib = round(resident_mib() - before, 1)
        if outcome.growth_mib > 200:
            outcome.faults.append(f"memory grew by {outcome.growth_mib} MiB")
    return outcome


def _pdu_of_4_gib(port: int, outcome: Outcome) -> None:
    """A head that promises 4 GiB, and a stream behind it: the node must hang up, and not read on."""
    outcome.tried += 1
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plug:
        plug.sendall(b"\x01\x00\xff\xff\xff\xf0")
        sent = 0
        try:
            while sent < 64 * 2**20:
                plug.sendall(bytes(65536))
                sent += 65536
        except OSError:
            return
        outcome.faults.append("64 MiB of a PDU that is too long were taken")


def _inflating(root: Path, outcome: Outcome) -> None:
    """A deflated data set of 1 GiB in 1 MiB, by the way of a file."""
    from hounsfield.network.part10 import file_head
    from hounsfield.network.received import Received
    from hounsfield.usecases.node.keeping import NotAcceptable, check

    deflated = "1.2.840.10008.1.2.1.99"
    squeezer = zlib.compressobj(9, wbits=-15)
    body = squeezer.compress(b"\x08\x00\x18\x00UI\x08\x001.2.3.4\x00\x09\x00\x10\x10UN\0\0\0\0\0\x40")
    body += b"".join(squeezer.compress(bytes(1 << 20)) for _ in range(1024)) + squeezer.flush()
    path = root / "bomb.part"
    path.write_bytes(file_head("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", deflated) + body)
    outcome.tried += 1
    try:
        check(Received(path, "0", 1, "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", deflated, "A", "h"))
    except NotAcceptable:
        return
    finally:
        path.unlink()
    outcome.faults.append("a deflated bomb was accepted")


def silent_sockets(root: Path, count: int, seconds: float) -> Outcome:
    """Sockets that say nothing or half a head, opened again when dropped; a C-ECHO each half second."""
    outcome, plugs = Outcome(), list[socket.socket]()
    with Receiver(root, {"limits": NodeLimits(silent_s=5.0)}) as receiver:
        before, end = resident_mib(), time.monotonic() + seconds
        while time.monotonic() < end:
            while len(plugs) < count:
                plug = socket.create_connection(("127.0.0.1", receiver.port), timeout=10)
                plug.sendall(b"" if outcome.tried % 2 else b"\x01\x00\x00")
                plug.setblocking(False)
                plugs.append(plug)
                outcome.tried += 1
            _echo(receiver, outcome, "beside silent sockets")
            plugs = [plug for plug in plugs if not _dropped(plug)]
            time.sleep(0.5)
        for plug in plugs:
            plug.close()
        outcome.growth_mib = round(resident_mib() - before, 1)
    if outcome.longest_echo_s > 2:
        outcome.faults.append(f"a C-ECHO took {outcome.longest_echo_s:.1f} s")
    return outcome


def _dropped(plug: socket.socket) -> bool:
    try:
        gone = plug.recv(16) == b""
    except BlockingIOError:
        return False
    except OSError:
        gone = True
    if gone:
        plug.close()
    return gone


def crowd(root: Path, associations: int, each: int) -> Outcome:
    """Many associations at once, a tenth of what they send doubled; exact counts in the end."""
    outcome, ledger = Outcome(), list[Entry]()
    start = threading.Barrier(associations)

    def work(study: int) -> None:
        batch = [instance(study, number - (number % 10 == 9)) for number in range(each)]
        start.wait(60)
        try:
            send(receiver.port, batch, ledger.append)
        except OSError as error:
            outcome.faults.append(f"an association failed ({type(error).__name__})")

    limits = NodeLimits(associations=associations + 10, associations_per_host=associations + 10)
    with Receiver(root, {"limits": limits}) as receiver:
        threads = [threading.Thread(target=work, args=(study,)) for study in range(associations)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        outcome.longest_s = time.monotonic() - began
        counts = dict(receiver.keeper.counts)
    outcome.tried, outcome.acknowledged = len(ledger), sum(entry.acknowledged for entry in ledger)
    outcome.faults += lost_or_wrong(root, ledger)
    expected = len({entry.uid for entry in ledger})
    if outcome.acknowledged != associations * each or counts.get("new") != expected:
        outcome.faults.append(f"{outcome.acknowledged} acknowledged, {counts} kept, {expected} expected")
    outcome.longest_s = 0.0  # the whole crowd's time says nothing of one answer
    return outcome
