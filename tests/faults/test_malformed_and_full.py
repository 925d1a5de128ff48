"""Malformed objects, bombs, a full disk, and files put into the inbox."""

from __future__ import annotations

import hashlib
import resource
import zlib
from pathlib import Path

import pytest
from sqlalchemy import select

from hounsfield.department.tables import instances
from hounsfield.network import dimse
from hounsfield.network.limits import NodeLimits
from hounsfield.network.part10 import file_head
from hounsfield.network.received import Answer, Received
from hounsfield.usecases.node.clerk import sweep
from hounsfield.usecases.node.inbox import copy_in, finished_files
from hounsfield.usecases.node.keeping import NotAcceptable, check
from hounsfield.usecases.node.opening import open_node

from . import malformed
from .instances import Entry, encoded, instance
from .nodes import make_node
from .running import Receiver
from .scu import Scu
from .sender import echoes, lost_or_wrong, wait_until
from .zygote import Zygote, kill

DEFLATED = "1.2.840.10008.1.2.1.99"


@pytest.mark.shared_data
def test_wounded_objects_get_a_defined_answer(shared_data: Path, tmp_path: Path) -> None:
    outcome = malformed.run(tmp_path, shared_data, count=300, seed=5)
    assert outcome.faults == []
    assert outcome.statuses["C000"] > 20
    assert outcome.growth_mib < 200


def test_a_deflated_bomb_is_refused_without_being_inflated(tmp_path: Path) -> None:
    squeezer = zlib.compressobj(9, wbits=-15)
    element = b"\x08\x00\x18\x00UI\x08\x001.2.3.4\x00" + b"\x09\x00\x10\x10UN\0\0\0\0\0\x08"  # 128 MiB are to follow
    body = squeezer.compress(element) + b"".join(squeezer.compress(bytes(1 << 20)) for _ in range(128))
    path = tmp_path / "bomb.part"
    path.write_bytes(file_head("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", DEFLATED) + body + squeezer.flush())
    assert path.stat().st_size < 2**18
    before = malformed.resident_mib()
    with pytest.raises(NotAcceptable) as caught:
        check(Received(path, "0", 1, "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", DEFLATED, "A", "h"))
    assert caught.value.answer.status == dimse.CANNOT_UNDERSTAND
    assert malformed.resident_mib() - before < 64


def test_no_room_for_a_file_or_for_the_database_is_a700_and_heals_by_itself(tmp_path: Path) -> None:
    """Room is taken by a limit on the size of every file, the database's own among them."""
    root, ledger, zygote = tmp_path / "node", list[Entry](), Zygote()
    port = make_node(root)
    pid = zygote.start(root, "receive")
    try:
        wait_until(lambda: echoes(port))
        with Scu(port) as scu:
            assert scu.store(instance(1, 0)) == 0
            room = (root / "state.sqlite-wal").stat().st_size
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
            assert scu.store(instance(1, 1, size=512)) == 0xA700  # half a megabyte: the instance's own file
            statuses = [scu.store(instance(1, 2 + n)) for n in range(3)]  # two kilobytes: the log of the database
            assert set(statuses) == {0xA700}
            assert list((root / "incoming").iterdir()) == []
            assert scu.echo() == 0
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            for number in range(5):
                one = instance(1, number)
                ledger.append(Entry(str(one.SOPInstanceUID), hashlib.sha256(one.PixelData).hexdigest(), scu.store(one)))
        assert all(entry.acknowledged for entry in ledger)
    finally:
        kill(pid)
        zygote.close()
    assert lost_or_wrong(root, ledger) == []


def test_what_a_crash_left_is_swept_and_what_a_row_names_is_not(tmp_path: Path) -> None:
    make_node(tmp_path)
    with Receiver(tmp_path) as receiver, Scu(receiver.port) as scu:
        assert scu.store(instance(1, 0)) == 0
    node = open_node(tmp_path)
    orphan = node.files.path("ab" + "0" * 62)
    orphan.write_bytes(b"of an instance that was never acknowledged")
    (node.files.incoming / "1.part").write_bytes(b"half")
    (node.results / "7-1").mkdir()
    assert sweep(node, older_than_s=3600.0) == 0
    assert sweep(node, older_than_s=-1.0) == 3
    assert [path.suffix for path in tmp_path.rglob("instances/*/*")] == [".dcm"]
    node.close()


def test_a_file_in_the_inbox_becomes_what_it_would_have_been_over_the_network(tmp_path: Path) -> None:
    make_node(tmp_path / "node")
    node, one = open_node(tmp_path / "node"), instance(1, 0)
    one.preamble = b"MZ" + b"\x90" * 126
    (node.inbox / "a study").mkdir()
    (node.inbox / "a study" / "1.dcm").write_bytes(encoded(one))
    first, seen = finished_files(node.inbox, {})
    ready, _ = finished_files(node.inbox, seen)
    assert (first, len(ready)) == ([], 1)
    with Receiver(node.root) as receiver, Scu(receiver.port) as scu:
        assert scu.store(one) == 0
        received = copy_in(ready[0], node.files.incoming, NodeLimits())
        assert isinstance(received, Received)
        assert receiver.keeper.keep_now(received).status == 0
        assert receiver.keeper.counts == {"new": 1, "duplicate": 1}
        with receiver.database.read() as connection:
            assert len(connection.execute(select(instances)).all()) == 1
    (node.inbox / "2.dcm").write_bytes(b"not DICOM at all")
    assert copy_in(node.inbox / "2.dcm", node.files.incoming, NodeLimits()) == Answer(
        dimse.CANNOT_UNDERSTAND, "it is not DICOM, or damaged"
    )
    node.close()
