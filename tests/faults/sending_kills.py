"""kill -9 at random points while results are sent; the oracle is the peer.

Every result that a finished job left behind must be at the peer in the end, with the bytes that the
job wrote. What the peer had stored when its answer was lost comes again, byte for byte.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import func, select

from hounsfield.department.tables import deliveries
from hounsfield.usecases.node.opening import Node, open_node

from .finished import finish_job
from .instances import instance
from .nodes import make_node
from .sender import wait_until
from .sink import Sink
from .zygote import Zygote, kill

_RESULTS = 6
_FEWEST_WAITING = 18


@dataclass
class Outcome:
    """What a run of kills came to.

    Attributes
    ----------
    hit
        Kills while something was on its way to the peer or waited to be.
    sent_again
        Instances that the peer got twice, with the same bytes.
    """

    kills: int = 0
    hit: int = 0
    jobs: int = 0
    stored_at_peer: int = 0
    sent_again: int = 0
    faults: list[str] = field(default_factory=list)


def run(root: Path, kills: int, seed: int) -> Outcome:
    """Kill the sending part ``kills`` times while there is always something to send."""
    outcome, chance = Outcome(), random.Random(seed)
    with Sink(_slow) as sink:
        destination = f'[[destinations]]\nname = "sink"\nae_title = "SINK"\nhost = "127.0.0.1"\nport = {sink.port}\n'
        make_node(root, more=f"quiet_s = 3600.0\n{destination}")
        node, zygote = open_node(root), Zygote()
        pid = zygote.start(root, "clerk")
        try:
            for _ in range(kills):
                while _unsent(node) < _FEWEST_WAITING:
                    finish_job(node, ("sink",), _RESULTS, study=outcome.jobs)
                    outcome.jobs += 1
                time.sleep(chance.uniform(0.0, 0.6))
                outcome.hit += _unsent(node) > 0
                kill(pid)
                outcome.kills += 1
                pid = zygote.start(root, "clerk")
            wait_until(lambda: _unsent(node) == 0, 120)
        finally:
            kill(pid)
            zygote.close()
        outcome.faults = _faults(node, sink, outcome)
        node.close()
    return outcome


def _slow(uid: str) -> int:
    """A peer that takes its time, so that a kill finds something on its way."""
    time.sleep(0.03)
    return 0


def _unsent(node: Node) -> int:
    with node.database.read() as connection:
        query = select(func.count()).select_from(deliveries).where(deliveries.c.state == "waiting")
        return int(connection.execute(query).scalar_one())


def _faults(node: Node, sink: Sink, outcome: Outcome) -> list[str]:
    """The peer against what the jobs wrote."""
    made = [instance(study, number) for study in range(outcome.jobs) for number in range(_RESULTS)]
    pixels = {str(one.SOPInstanceUID): one.PixelData for one in made}
    outcome.stored_at_peer, outcome.sent_again = len(sink.stored), sum(sink.stored.values()) - len(sink.stored)
    faults = [f"not at the peer: {uid}" for uid in pixels if uid not in sink.stored]
    faults += [f"other bytes: {uid}" for uid, data in sink.contents.items() if not data.endswith(pixels[uid])]
    faults += [f"the same UID with different bytes: {uid}" for uid in sink.different]
    with node.database.read() as connection:
        states = set(connection.execute(select(deliveries.c.state)).scalars())
    if states != {"delivered"}:
        faults.append(f"deliveries ended as {sorted(states)}")
    return faults
