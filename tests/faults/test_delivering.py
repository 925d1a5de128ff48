"""Delivering through every kind of bad peer: all of it once, in the end, and one peer never holds up another."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from hounsfield.audit import verify
from hounsfield.department import deliveries, jobs
from hounsfield.department.tables import deliveries as table
from hounsfield.network.destinations import Destination, Receipt
from hounsfield.usecases.node import delivering
from hounsfield.usecases.node.delivering import deliver_due
from hounsfield.usecases.node.opening import Node, open_node

from .finished import finish_job
from .instances import instance
from .nodes import free_port, make_node
from .proxy import Proxy
from .sink import Sink

COUNT = 6


def to(port: int, name: str = "pacs") -> Destination:
    return Destination(name, "dicom", "SINK", "127.0.0.1", port, timeout_s=1.0)


@pytest.fixture
def node(tmp_path: Path) -> Any:
    """A node with one finished job of six results for two destinations, nothing sent yet."""
    make_node(tmp_path)
    found = open_node(tmp_path)
    finish_job(found, ("pacs", "other"), COUNT)
    yield found
    found.close()


class Clock:
    """Time that jumps to the next moment at which something is due."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, node: Node) -> None:
        self.now, self.began, self._node = 1_800_000_000.0, 1_800_000_000.0, node
        monkeypatch.setattr(deliveries.time, "time", lambda: self.now)

    @property
    def hours(self) -> float:
        return (self.now - self.began) / 3600

    def jump(self) -> None:
        with self._node.database.read() as connection:
            waiting = (table.c.state == "waiting", table.c.destination == "pacs")
            due = connection.execute(select(table.c.due_at).where(*waiting)).scalars()
            self.now = max(self.now, min(due, default=self.now)) + 0.01


def states(node: Node, destination: str = "pacs") -> list[str]:
    with node.database.read() as connection:
        found = connection.execute(select(table.c.state).where(table.c.destination == destination))
        return sorted(found.scalars())


def test_each_result_arrives_once_with_the_bytes_that_the_job_wrote(node: Node) -> None:
    with Sink() as sink:
        assert deliver_due(node, to(sink.port)).delivered == COUNT
        assert deliver_due(node, to(sink.port)).delivered == 0
        assert list(sink.stored.values()) == [1] * COUNT
        assert [uid.rsplit(".", 1)[1] for uid in sink.asked] == ["1", "2", "3", "4", "5", "6"]  # oldest first
    assert states(node) == ["delivered"] * COUNT
    assert states(node, "other") == ["waiting"] * COUNT
    assert verify(node.root / "audit.jsonl").holds


def test_a_pacs_that_is_down_for_eight_hours_gets_everything_once(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, tries = Clock(monkeypatch, node), 0
    port = free_port()
    monkeypatch.setattr(delivering.store_scu, "send", _down(delivering.store_scu.send, lambda: clock.hours < 8))
    with Sink(port=port) as sink:
        while "waiting" in states(node):
            deliver_due(node, to(port))
            tries += 1
            clock.jump()
        assert 8 <= clock.hours < 8.5
        assert list(sink.stored.values()) == [1] * COUNT
    assert tries < 60 * COUNT  # it backed off


def _down(real: Callable[..., Any], is_down: Callable[[], bool]) -> Callable[..., Any]:
    """Nobody listens while it is down: the same road, to a port that is closed."""

    def send(destination: Destination, parcels: Any) -> Any:
        return real(to(free_port(), destination.name) if is_down() else destination, parcels)

    return send


def test_given_up_after_three_days_and_sent_again_by_a_person(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, node)
    refused = [Receipt(f"2.25.4711.9.1.{n + 1}", False, None, "down") for n in range(COUNT)]
    monkeypatch.setattr(delivering.store_scu, "send", lambda destination, parcels: refused[: len(parcels)])
    while "waiting" in states(node):
        deliver_due(node, to(1))
        clock.jump()
    assert states(node) == ["dead"] * COUNT
    assert 71 < clock.hours < 73
    with node.database.write() as connection:
        assert deliveries.resend(connection) == COUNT
    assert states(node) == ["waiting"] * COUNT


def test_each_status_is_looked_at_by_itself(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some are refused for want of space, some stored with a warning: the others do not wait for them."""
    clock, refusals = Clock(monkeypatch, node), {"2": 2, "5": 3}

    def behave(uid: str) -> int:
        last = uid.rsplit(".", 1)[1]
        if refusals.get(last, 0) > 0:
            refusals[last] -= 1
            return 0xA700
        return 0xB000 if last == "3" else 0

    with Sink(behave) as sink:
        assert deliver_due(node, to(sink.port)).delivered == COUNT - 2
        while "waiting" in states(node):
            clock.jump()
            deliver_due(node, to(sink.port))
        assert list(sink.stored.values()) == [1] * COUNT
        assert len(sink.asked) == COUNT + 5


def test_an_association_that_is_aborted_in_the_middle(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, count = Clock(monkeypatch, node), itertools.count()

    def behave(uid: str) -> int:
        if next(count) in (2, 5):
            raise ConnectionError
        return 0

    with Sink(behave) as sink:
        while "waiting" in states(node):
            deliver_due(node, to(sink.port))
            clock.jump()
        assert list(sink.stored.values()) == [1] * COUNT


@pytest.mark.parametrize("fault", ["refuse", "cut", "reset", "garbage", "half-open"])
def test_a_line_that_fails_and_heals(node: Node, monkeypatch: pytest.MonkeyPatch, fault: Any) -> None:
    clock = Clock(monkeypatch, node)
    with Sink() as sink, Proxy(sink.port, [fault, fault], after=6000) as proxy:
        while "waiting" in states(node):
            deliver_due(node, to(proxy.port))
            clock.jump()
        assert set(sink.stored) == {f"2.25.4711.9.1.{n + 1}" for n in range(COUNT)}
        assert proxy.connections >= 3
        sent = {f"2.25.4711.9.1.{n + 1}": instance(9, n).PixelData for n in range(COUNT)}
        for uid, content in sink.contents.items():
            assert content.endswith(sent[uid])


def test_a_slow_line_takes_long_and_loses_nothing(node: Node) -> None:
    with Sink() as sink, Proxy(sink.port, ["drip"], after=0) as proxy:
        assert deliver_due(node, to(proxy.port)).delivered == COUNT
        assert proxy.connections == 1
        assert list(sink.stored.values()) == [1] * COUNT


def test_a_pacs_that_answers_too_late_gets_the_same_bytes_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stored an instance and its answer came after the wait was over: it is sent again, and nothing is doubled."""
    clock, late = Clock(monkeypatch, node), {"2", "4"}

    def behave(uid: str) -> int:
        last = uid.rsplit(".", 1)[1]
        if last in late:
            late.discard(last)
            time.sleep(1.6)
        return 0

    with Sink(behave) as sink:
        while "waiting" in states(node):
            deliver_due(node, to(sink.port))
            clock.jump()
        assert set(sink.stored) == {f"2.25.4711.9.1.{n + 1}" for n in range(COUNT)}
        assert (sink.different, len(sink.asked)) == ([], COUNT + 2)


def test_a_result_that_changed_on_the_disk_is_never_sent(node: Node) -> None:
    (first, *_) = sorted(node.results.rglob("*.dcm"))
    first.write_bytes(first.read_bytes() + b"\0")
    with Sink() as sink:
        assert deliver_due(node, to(sink.port)).delivered == COUNT - 1
        assert len(sink.stored) == COUNT - 1


def test_waits_double_to_a_quarter_of_an_hour(node: Node) -> None:
    for attempts, full in ((0, 5), (1, 10), (3, 40), (8, 900), (400, 900)):
        assert deliveries.full_wait_s(attempts) == full
    shares = [deliveries.jitter() for _ in range(50)]
    assert 2 / 3 <= min(shares) < max(shares) <= 1


def test_a_clock_set_back_by_a_year_does_not_stop_sending(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, node)
    refusing = Sink(lambda uid: 0xA700)
    with refusing as sink:
        deliver_due(node, to(sink.port))
    clock.now -= 365 * 86400
    with Sink() as sink:
        assert deliver_due(node, to(sink.port)).delivered == COUNT


def test_a_later_version_of_the_study_stops_what_was_not_sent(node: Node) -> None:
    with node.database.write() as connection:
        jobs.supersede(connection, "1.2.3.9", 2)
    with Sink() as sink:
        assert deliver_due(node, to(sink.port)).delivered == 0
    assert states(node) == ["superseded"] * COUNT
