"""kill -9 at random points while receiving, again and again; the oracle is the sender's ledger."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .instances import Entry, instance
from .nodes import make_node
from .sender import echoes, lost_or_wrong, send, wait_until
from .zygote import Zygote, kill


@dataclass
class Outcome:
    """What a run of kills came to."""

    kills: int = 0
    sent: int = 0
    acknowledged: int = 0
    longest_start_s: float = 0.0
    faults: list[str] = field(default_factory=list)


def run(root: Path, kills: int, seed: int, senders: int = 2) -> Outcome:
    """Kill a receiver ``kills`` times at random moments under senders that never stop.

    What was not acknowledged is sent again, as a PACS would. In the end every instance must be
    there once, and all that was acknowledged at any time with the pixels that were sent.
    """
    port = make_node(root)
    ledger: list[Entry] = []
    outcome, stop = Outcome(), threading.Event()
    threads = [threading.Thread(target=_go_on, args=(port, n, stop, ledger.append)) for n in range(senders)]
    chance, zygote = random.Random(seed), Zygote()
    try:
        pid = zygote.start(root, "receive")
        wait_until(lambda: echoes(port))
        for thread in threads:
            thread.start()
        for _ in range(kills):
            time.sleep(chance.uniform(0.0, 0.5))
            kill(pid)
            outcome.kills += 1
            pid = zygote.start(root, "receive")
            outcome.longest_start_s = max(outcome.longest_start_s, wait_until(lambda: echoes(port)))
        stop.set()
        for thread in threads:
            thread.join()
        kill(pid)
    finally:
        stop.set()
        zygote.close()
    outcome.sent, outcome.acknowledged = len(ledger), sum(entry.acknowledged for entry in ledger)
    outcome.faults = lost_or_wrong(root, ledger)
    return outcome


def _go_on(port: int, study: int, stop: threading.Event, note: Callable[[Entry], None]) -> None:
    """Send instance after instance; what had no answer is sent again."""
    number, size = 0, 64
    while not stop.is_set():
        entries: list[Entry] = []
        batch = [instance(study, number + n, size=size) for n in range(8)]
        try:
            send(port, batch, entries.append)
        except OSError:
            time.sleep(0.02)
        for entry in entries:
            note(entry)
            number += entry.acknowledged
