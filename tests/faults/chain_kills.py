"""kill -9 at random points over the whole chain: receive, claim, infer, write, send, and all at once.

The oracle is what the sender's ledger and the peer say: nothing acknowledged is lost, and at the
peer there is exactly what one finished job per study version wrote, each instance once.
"""

from __future__ import annotations

import datetime as dt
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom import FileDataset, dcmread
from sqlalchemy import func, select

from hounsfield.department.database import open_database
from hounsfield.department.jobs import retry
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
_CHOICES = (("receive",), ("clerk",), ("work",), PARTS)
_WEIGHTS = (3, 3, 2, 1)
_MOST_WAITING = 4
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
    """What a run of kills came to.

    Attributes
    ----------
    hit
        What was under way when a part was killed: how often it was receiving, at a job, sending.
    retried
        Jobs whose worker was killed three times: they end as dead letters, and a person lets them be tried again.
    sent_again
        Instances that the peer got twice, with the same bytes, as the answer had been lost.
    """

    kills: int = 0
    hit: Counter[str] = field(default_factory=Counter)
    studies: int = 0
    versions: int = 0
    retried: int = 0
    acknowledged: int = 0
    stored_at_peer: int = 0
    sent_again: int = 0
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


def run(root: Path, kills: int, seed: int, pause_s: float = 2.0) -> Outcome:
    """Kill parts ``kills`` times while studies keep coming; then let all settle, and look."""
    outcome, ledger, stop = Outcome(), list[Entry](), threading.Event()
    with Sink(_slow) as sink:
        destination = f'[[destinations]]\nname = "sink"\nae_title = "SINK"\nhost = "127.0.0.1"\nport = {sink.port}\n'
        more = f"quiet_s = 0.6\nlease_s = 20.0\n{destination}"
        port = make_node(root, more=more, routes=ROUTES)
        chance, zygote = random.Random(seed), Zygote()
        running = {part: zygote.start(root, part) for part in PARTS}
        sender = threading.Thread(target=_go_on, args=(root, port, stop, ledger.append, outcome))
        try:
            wait_until(lambda: echoes(port))
            sender.start()
            job_s = wait_until(lambda: bool(sink.stored), 300)
            rest = time.monotonic()
            while outcome.kills < kills:
                time.sleep(chance.uniform(0.0, pause_s))
                chosen = chance.choices(_CHOICES, _WEIGHTS)[0]
                if "work" in chosen:  # a worker that is killed more often than a job takes never ends one
                    if time.monotonic() < rest:
                        continue
                    rest = time.monotonic() + chance.uniform(0.0, 2.0) * job_s
                _note_hit(root, chosen, outcome)
                for part in chosen:
                    kill(running[part])
                for part in chosen:
                    running[part] = zygote.start(root, part)
                outcome.kills += 1
                if "receive" in chosen:
                    outcome.longest_ready_s = max(outcome.longest_ready_s, wait_until(lambda: echoes(port)))
            stop.set()
            sender.join()
            outcome.settled_s = _settle(root, outcome)
        finally:
            stop.set()
            for pid in running.values():
                kill(pid)
            zygote.close()
        outcome.acknowledged = sum(entry.acknowledged for entry in ledger)
        outcome.faults += lost_or_wrong(root, ledger) + _faults_at_peer(root, sink, outcome)
    if b"Canary" in Path(f"{root}.log").read_bytes():
        outcome.faults.append("the log names a patient")
    return outcome


def _slow(uid: str) -> int:
    """A peer that takes its time, so that kills hit the sending too."""
    time.sleep(0.5)
    return 0


def _note_hit(root: Path, chosen: tuple[str, ...], outcome: Outcome) -> None:
    """Count what is under way in the parts that are about to die."""
    leased, unsent, receiving = _under_way(root)
    outcome.hit["receiving"] += "receive" in chosen and receiving
    outcome.hit["at a job"] += "work" in chosen and leased
    outcome.hit["sending"] += "clerk" in chosen and unsent


def _under_way(root: Path) -> tuple[bool, bool, bool]:
    """Whether a job is leased, a result is to be sent, a file is half received."""
    database = open_database(root / "state.sqlite")
    try:
        with database.read() as connection:
            leased = connection.execute(select(jobs.c.id).where(jobs.c.state == "leased")).first()
            unsent = connection.execute(select(deliveries.c.id).where(deliveries.c.state == "waiting")).first()
    finally:
        database.close()
    return leased is not None, unsent is not None, any((root / "incoming").iterdir())


def _settle(root: Path, outcome: Outcome) -> float:
    """Wait until nothing happens any more; dead letters of killed workers are retried, as a person would."""
    began = time.monotonic()
    while True:
        wait_until(lambda: settled(root), 600)
        database = open_database(root / "state.sqlite")
        with database.write() as connection:
            killed = (jobs.c.state == "dead") & jobs.c.reason.like("the worker died%")
            dead = list(connection.execute(select(jobs.c.id).where(killed)).scalars())
            outcome.retried += sum(retry(connection, number) for number in dead)
        database.close()
        if not dead:
            return time.monotonic() - began


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
        while _waiting(root) >= _MOST_WAITING and not stop.wait(0.5):
            pass


def _waiting(root: Path) -> int:
    """How many studies have no answer yet."""
    database = open_database(root / "state.sqlite")
    try:
        with database.read() as connection:
            open_studies = select(func.count()).select_from(studies).where(studies.c.state == "receiving")
            open_jobs = select(func.count()).select_from(jobs).where(jobs.c.state.in_(("waiting", "leased")))
            return int(connection.execute(open_studies).scalar_one() + connection.execute(open_jobs).scalar_one())
    finally:
        database.close()


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
    outcome.sent_again = sum(sink.stored.values()) - len(sink.stored)
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
