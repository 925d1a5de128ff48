"""kill -9 at random points over the whole chain: receive, claim, infer, write, send, and all at once.

The oracle is what the sender's ledger and the peer say: nothing acknowledged is lost, and at the
peer there is exactly what one finished job per study version wrote, each instance once.
"""

from __future__ import annotations

import datetime as dt
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom import FileDataset, dcmread
from sqlalchemy import select

from hounsfield.department.database import open_database
from hounsfield.department.tables import deliveries, jobs, results, studies
from hounsfield.findings.measuring import derived_uid
from hounsfield.testing.packages import TinyModel, tiny_package
from hounsfield.volume import Geometry, Volume
from hounsfield.writing.series import SeriesIdentity, write_mr_series

from .instances import Entry
from .nodes import make_node
from .scu import MR
from .sender import echoes, lost_or_wrong, send, wait_until
from .sink import Sink
from .zygote import Zygote, kill

PARTS = ("receive", "clerk", "work")
SHAPE = (8, 12, 10)
ROUTES = """
[[route]]
name = "tiny"
model = "tiny-levels"
destinations = ["sink"]
allow_unproven = true
[route.match]
modality = ["MR"]
"""


@dataclass
class Outcome:
    """What a run of kills came to."""

    kills: int = 0
    studies: int = 0
    versions: int = 0
    acknowledged: int = 0
    stored_at_peer: int = 0
    longest_ready_s: float = 0.0
    settled_s: float = 0.0
    faults: list[str] = field(default_factory=list)


def ball(folder: Path, name: str) -> list[FileDataset]:
    """A bright ball in the dark, as an MR series of a study of its own."""
    k, j, i = np.indices(SHAPE)
    far = (k - SHAPE[0] / 2) ** 2 + (j - SHAPE[1] / 2) ** 2 + (i - SHAPE[2] / 2) ** 2
    volume = Volume((far < 8).astype(np.float32), Geometry.from_parts(SHAPE, (2.0, 1.5, 1.0)))
    study, frame = derived_uid("study", name), derived_uid("frame", name)
    noon = dt.datetime(2026, 1, 1, 12, 0, 0)
    write_mr_series(volume, folder, SeriesIdentity("Canary", "P", "s", name, "BRAIN", 1, study, frame, "ball", noon))
    return [dcmread(path) for path in sorted(folder.rglob("*.dcm"))]


def install_model(home: Path) -> None:
    """A tiny model of exactly known behaviour in the store of this test."""
    tiny_package(
        home / "packages",
        TinyModel(levels=(0.0, 1.0), modality="MR", quantity="arbitrary", window=(8, 8, 8)),
    )


def run(root: Path, kills: int, seed: int, pause_s: float = 4.0) -> Outcome:
    """Kill parts ``kills`` times while studies keep coming; then let all settle, and look."""
    outcome, ledger, stop = Outcome(), list[Entry](), threading.Event()
    with Sink() as sink:
        destination = f'[[destinations]]\nname = "sink"\nae_title = "SINK"\nhost = "127.0.0.1"\nport = {sink.port}\n'
        more = f"quiet_s = 1.0\nlease_s = 20.0\n{destination}"
        port = make_node(root, more=more, routes=ROUTES)
        chance, zygote = random.Random(seed), Zygote()
        running = {part: zygote.start(root, part) for part in PARTS}
        sender = threading.Thread(target=_go_on, args=(root, port, stop, ledger.append, outcome))
        try:
            wait_until(lambda: echoes(port))
            sender.start()
            for _ in range(kills):
                time.sleep(chance.uniform(0.0, pause_s))
                chosen = chance.choice([*((part,) for part in PARTS), ("work",), PARTS])
                for part in chosen:
                    kill(running[part])
                for part in chosen:
                    running[part] = zygote.start(root, part)
                outcome.kills += 1
                if "receive" in chosen:
                    outcome.longest_ready_s = max(outcome.longest_ready_s, wait_until(lambda: echoes(port)))
            stop.set()
            sender.join()
            outcome.settled_s = wait_until(lambda: settled(root), 300)
        finally:
            stop.set()
            for pid in running.values():
                kill(pid)
            zygote.close()
        outcome.acknowledged = sum(entry.acknowledged for entry in ledger)
        outcome.faults = lost_or_wrong(root, ledger) + _faults_at_peer(root, sink, outcome)
    return outcome


def _go_on(root: Path, port: int, stop: threading.Event, note: Callable[[Entry], None], outcome: Outcome) -> None:
    """Send study after study; what had no answer is sent again until it has one."""
    while not stop.is_set() or outcome.studies == 0:
        name = f"ball-{outcome.studies}"
        waiting = ball(root.parent / "sent" / name, name)
        while waiting:
            entries: list[Entry] = []
            try:
                send(port, waiting, entries.append, MR)
            except OSError:
                time.sleep(0.05)
            for entry in entries:
                note(entry)
            waiting = waiting[sum(entry.acknowledged for entry in entries) :]
        outcome.studies += 1
        stop.wait(3.0)


def settled(root: Path) -> bool:
    """Whether nothing more is going to happen by itself."""
    database = open_database(root / "state.sqlite")
    try:
        with database.read() as connection:
            open_studies = select(studies).where(studies.c.state == "receiving")
            open_jobs = select(jobs).where(jobs.c.state.in_(("waiting", "leased")))
            unsent = select(deliveries).where(deliveries.c.state == "waiting")
            return not any(connection.execute(query).first() for query in (open_studies, open_jobs, unsent))
    finally:
        database.close()


def _faults_at_peer(root: Path, sink: Sink, outcome: Outcome) -> list[str]:
    database = open_database(root / "state.sqlite")
    with database.read() as connection:
        made = list(connection.execute(select(jobs)))
        known = list(connection.execute(select(studies)))
        written = list(connection.execute(select(results).where(results.c.sop_instance_uid != "")))
        sent = list(connection.execute(select(deliveries)))
    database.close()
    outcome.versions, outcome.stored_at_peer = sum(row.version for row in known), len(sink.stored)
    faults = []
    for study in known:
        newest = [job for job in made if job.study_uid == study.study_uid and job.version == study.version]
        if [job.state for job in newest] != ["done"]:
            faults.append(f"study ended with {[(job.state, job.reason) for job in newest]}")
    for job in made:
        kinds = sorted(row.kind for row in written if row.job_id == job.id)
        if job.state == "done" and kinds != ["seg", "sr"]:
            faults.append(f"job {job.id} has {kinds}")
        if job.state != "done" and kinds:
            faults.append(f"job {job.id} is {job.state} and has results")
    uid_of = {row.id: row.sop_instance_uid for row in written}
    expected = {uid_of[row.result_id] for row in sent if row.state == "delivered"}
    if expected != set(sink.stored):
        faults.append(f"{len(expected)} delivered, {len(sink.stored)} at the peer")
    if any(sink.different):
        faults.append("the same UID arrived with different bytes")
    if {row.state for row in sent} - {"delivered", "superseded"}:
        faults.append("something was not delivered")
    return faults
