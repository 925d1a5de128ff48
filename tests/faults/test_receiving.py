"""Receiving: idempotent, strict, bounded; what is not acknowledged leaves nothing behind."""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.sop_class import MRImageStorage
from sqlalchemy import select

from hounsfield.department.tables import instances, studies
from hounsfield.network.limits import NodeLimits
from hounsfield.network.received import Rejection

from .instances import Entry, instance
from .running import Receiver
from .scu import Scu, associate_rq, command, data_set, item, p_data
from .sender import echoes, lost_or_wrong, send, wait_until


def rows(receiver: Receiver, table: object = instances) -> list[object]:
    with receiver.database.read() as connection:
        return list(connection.execute(select(table)))  # type: ignore[call-overload]


def test_the_same_instance_again_is_success_and_changes_nothing(tmp_path: Path) -> None:
    with Receiver(tmp_path) as receiver, Scu(receiver.port) as scu:
        assert [scu.store(instance(1, 0)) for _ in range(3)] == [0, 0, 0]
        assert receiver.keeper.counts == {"new": 1, "duplicate": 2}
        assert [row.standing for row in rows(receiver)] == ["kept"]  # type: ignore[attr-defined]
        assert rows(receiver, studies)[0].revision == 1  # type: ignore[attr-defined]
        assert receiver.parts() == []


def test_other_pixels_under_a_known_uid_are_kept_apart_and_flagged(tmp_path: Path) -> None:
    first, other = instance(1, 0), instance(1, 0, seed=1)
    assert first.PixelData != other.PixelData
    with Receiver(tmp_path) as receiver, Scu(receiver.port) as scu:
        assert [scu.store(first), scu.store(other), scu.store(other)] == [0, 0, 0]
        found = rows(receiver)
        assert [row.standing for row in found] == ["kept", "conflict"]  # type: ignore[attr-defined]
        assert rows(receiver, studies)[0].conflicts == 1  # type: ignore[attr-defined]
        stored = [dcmread(receiver.files.path(row.sha256)).PixelData for row in found]  # type: ignore[attr-defined]
        assert stored == [first.PixelData, other.PixelData]


def test_the_preamble_of_a_sender_never_reaches_the_disk(tmp_path: Path) -> None:
    found = instance(1, 0)
    found.preamble = b"MZ" + b"\x90" * 126
    with Receiver(tmp_path) as receiver, Scu(receiver.port) as scu:
        assert scu.store(found) == 0
        (stored,) = (receiver.root / "instances").rglob("*.dcm")
        assert stored.read_bytes()[:132] == bytes(128) + b"DICM"
        assert stored.stat().st_mode & 0o111 == 0


@pytest.mark.parametrize(
    ("uid", "change", "status"),
    [
        ("../../etc/passwd", {}, 0x0117),
        ("1.2.03", {}, 0x0117),
        ("1." * 40 + "1", {}, 0x0117),
        ("2.25.1", {}, 0xA900),
        ("", {"StudyInstanceUID": "1.2/../3"}, 0xA900),
        ("", {"SeriesInstanceUID": ""}, 0xA900),
        ("", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, 0xA900),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_what_is_not_what_it_says_is_refused(tmp_path: Path, uid: str, change: dict[str, str], status: int) -> None:
    found = instance(1, 0)
    named = str(found.SOPInstanceUID)
    for keyword, value in change.items():
        setattr(found, keyword, value)
    with Receiver(tmp_path) as receiver, Scu(receiver.port) as scu:
        assert scu.store_bytes(uid or named, data_set(found)) == status
        assert scu.store(instance(2, 0)) == 0
        assert len(rows(receiver)) == 1
        assert receiver.parts() == []


def test_damaged_data_sets_are_refused_and_the_association_goes_on(tmp_path: Path) -> None:
    found = instance(1, 0)
    good, uid = data_set(found), str(found.SOPInstanceUID)
    nested = struct.pack("<HH2sHL", 0x0008, 0x1115, b"SQ", 0, 0xFFFFFFFF) + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    bad = [
        good[:-10],
        good[:100],
        b"",
        b"\xff" * 500,
        nested * 3000 + good,
        b"\x02\x00\x10\x00UI\x06\x001.2.3\x00" + good,
    ]
    with Receiver(tmp_path) as receiver, Scu(receiver.port) as scu:
        for data in bad:
            assert scu.store_bytes(uid, data) in (0xC000, 0xA900)
        assert scu.store_bytes(uid, good) == 0
        assert len(list((receiver.root / "instances").rglob("*.dcm"))) == 1


def test_an_instance_beyond_the_limit_is_refused_without_being_stored(tmp_path: Path) -> None:
    limits = NodeLimits(instance_bytes=20_000)
    with Receiver(tmp_path, {"limits": limits}) as receiver:
        with Scu(receiver.port) as scu:
            assert scu.store(instance(1, 0, size=110)) == 0xC002
            assert scu.store(instance(1, 1, size=32)) == 0
        with pytest.raises((ConnectionError, TimeoutError)), Scu(receiver.port) as scu:
            scu.store(instance(1, 2, size=512))
        assert receiver.parts() == []


def test_no_space_is_answered_a700_and_heals_by_itself(tmp_path: Path) -> None:
    limits = NodeLimits(reserve_bytes=1 << 60)
    with Receiver(tmp_path, {"limits": limits}) as receiver, Scu(receiver.port) as scu:
        assert scu.store(instance(1, 0)) == 0xA700
        assert receiver.parts() == []
        receiver._acceptor.limits = NodeLimits(reserve_bytes=0)
    with Receiver(tmp_path) as receiver, Scu(receiver.port) as scu:
        assert scu.store(instance(1, 0)) == 0


def test_silent_sockets_hold_up_nobody(tmp_path: Path) -> None:
    with Receiver(tmp_path, {"limits": NodeLimits(silent_s=120.0)}) as receiver:
        silent = [socket.create_connection(("127.0.0.1", receiver.port)) for _ in range(200)]
        for plug in silent[::2]:
            plug.sendall(b"\x01\x00\x00")  # half a head
        with Scu(receiver.port) as scu:
            assert (scu.echo(), scu.store(instance(1, 0))) == (0, 0)
        for plug in silent:  # all that while they were there
            plug.setblocking(False)
            with pytest.raises(BlockingIOError):
                plug.recv(1)
            plug.close()


def test_silent_sockets_are_dropped(tmp_path: Path) -> None:
    with Receiver(tmp_path, {"limits": NodeLimits(silent_s=0.3)}) as receiver:
        for first in (b"", b"\x01\x00\x00", associate_rq()[:40]):
            with socket.create_connection(("127.0.0.1", receiver.port), timeout=30) as plug:
                plug.sendall(first)
                assert plug.recv(10) == b""


def test_a_pdu_that_claims_too_much_is_not_read(tmp_path: Path) -> None:
    with Receiver(tmp_path) as receiver:
        for first in (b"\x01\x00\xff\xff\xff\xf0", b"\x04\x00\xff\xff\xff\xf0", b"\x63\x00\x00\x00\x00\x04"):
            with socket.create_connection(("127.0.0.1", receiver.port), timeout=5) as plug:
                plug.sendall(first)
                assert plug.recv(1)[:1] == b"\x07"
        with socket.create_connection(("127.0.0.1", receiver.port), timeout=5) as plug:
            plug.sendall(associate_rq())
            assert plug.recv(4096)[:1] == b"\x02"
            plug.sendall(b"\x04\x00\xff\xff\xff\xf0")
            assert plug.recv(10)[:1] == b"\x07"
        assert echoes(receiver.port)


def test_malformed_pdus_end_one_association_and_no_more(tmp_path: Path) -> None:
    import random

    chance, whole = random.Random(3), associate_rq()
    rq = {0x0002: "1.2.840.10008.1.1", 0x0100: 0x0030, 0x0110: 1, 0x0800: 0x0101}
    after = p_data(3, command(rq), is_command=True)
    with Receiver(tmp_path, {"limits": NodeLimits(silent_s=0.3, idle_s=0.3, pdu_s=0.3)}) as receiver:
        for number in range(300):
            first, second = bytearray(whole), bytearray(after)
            wounded = first if number % 2 else second
            for _ in range(chance.randint(1, 4)):
                wounded[chance.randrange(len(wounded))] = chance.randrange(256)
            cut = chance.choice([None, None, chance.randrange(1, len(wounded))])
            del wounded[cut or len(wounded) :]
            with socket.create_connection(("127.0.0.1", receiver.port), timeout=5) as plug:
                plug.sendall(bytes(first) + bytes(second))
                plug.shutdown(socket.SHUT_WR)
                while plug.recv(4096):
                    pass
        assert echoes(receiver.port)
        wait_until(lambda: receiver._acceptor._open.total() == 0)


def test_associations_beyond_the_limit_are_a_passing_shortage(tmp_path: Path) -> None:
    with Receiver(tmp_path, {"limits": NodeLimits(associations=2)}) as receiver:
        address = ("127.0.0.1", receiver.port)
        with Scu(receiver.port), Scu(receiver.port), socket.create_connection(address, timeout=5) as plug:
            plug.sendall(associate_rq())
            assert plug.recv(100) == b"\x03\x00\x00\x00\x00\x04\x00\x02\x03\x02"
        wait_until(lambda: echoes(receiver.port))


def test_who_is_not_admitted_is_rejected_and_told_why(tmp_path: Path) -> None:
    told = []

    def admit(calling: str, called: str, host: str) -> Rejection | None:
        told.append((calling, called, host))
        return Rejection(1, 1, 3, "not on the list") if calling == "SENDER" else None

    with Receiver(tmp_path, {"admit": admit}) as receiver:
        with pytest.raises(ConnectionError):
            Scu(receiver.port)
        assert told == [("SENDER", "HOUNSFIELD", "127.0.0.1")]
        wait_until(lambda: [record.rejected for record in receiver.records] == ["not on the list"])


def test_many_associations_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    ledger: list[Entry] = []
    with Receiver(tmp_path, {"limits": NodeLimits(associations=64)}) as receiver:
        work = [[instance(study, n // 2 if n > 8 else n) for n in range(12)] for study in range(16)]
        threads = [threading.Thread(target=send, args=(receiver.port, batch, ledger.append)) for batch in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ledger) == 16 * 12
        assert all(entry.acknowledged for entry in ledger)
        assert len(rows(receiver)) == len({entry.uid for entry in ledger}) == 16 * 9
        assert receiver.keeper._commits.batches < 16 * 12  # some went together
    assert lost_or_wrong(tmp_path, ledger) == []


@pytest.mark.shared_data
def test_dcmtk_and_pynetdicom_are_understood(shared_data: Path, tmp_path: Path) -> None:
    scan = shared_data / "mr-hippocampus-msd" / "dicom-hcrop-study1"
    with Receiver(tmp_path) as receiver:
        subprocess.run(["echoscu", "127.0.0.1", str(receiver.port)], check=True, timeout=30)
        storescu = ["storescu", "-R", "+sd", "+r", "127.0.0.1", str(receiver.port), str(scan)]
        subprocess.run(storescu, check=True, timeout=60, env={"TCP_NODELAY": "1", "PATH": _path()})
        assert receiver.keeper.counts == {"new": 32}
        entity = AE(ae_title="PYNETDICOM")
        entity.add_requested_context(MRImageStorage)
        association = entity.associate("127.0.0.1", receiver.port)
        first = sorted(scan.rglob("*.dcm"))[0]
        assert association.send_c_store(first).Status == 0
        association.release()
        assert receiver.keeper.counts["duplicate"] + receiver.keeper.counts["conflict"] == 1
        sent = {dcmread(path).SOPInstanceUID: dcmread(path).PixelData for path in scan.rglob("*.dcm")}
        for row in rows(receiver):
            if row.standing == "kept":  # type: ignore[attr-defined]
                stored = dcmread(receiver.files.path(row.sha256))  # type: ignore[attr-defined]
                assert stored.PixelData == sent[row.sop_instance_uid]  # type: ignore[attr-defined]


def _path() -> str:
    import os

    return os.environ["PATH"]


def test_a_context_that_nobody_stores_is_not_accepted(tmp_path: Path) -> None:
    find = "1.2.840.10008.5.1.4.1.2.2.1"
    with Receiver(tmp_path) as receiver, socket.create_connection(("127.0.0.1", receiver.port), timeout=5) as plug:
        plug.sendall(associate_rq(classes=(find, "1.2.840.10008.1.1")))
        answer = plug.recv(4096)
        assert item(0x21, struct.pack(">BBBB", 1, 0, 3, 0) + item(0x40, b"1.2.840.10008.1.2.1")) in answer
        assert struct.pack(">BBBB", 3, 0, 0, 0) in answer
