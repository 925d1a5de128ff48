"""A mixed load on a running node: C-STORE, STOW-RS, searches, retrievals, and studies for a model.

Each kind of load is a thread that goes on until it is told to stop, at a steady pace. What was
answered with success is in the ledger.
"""

from __future__ import annotations

import hashlib
import json
import random
import secrets
import threading
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import FileDataset

from .chain_kills import ball
from .instances import Entry, encoded, instance
from .scu import MR
from .sender import send

_STORED = 10
_STOWED = 4
_SIZE = 64


@dataclass
class Load:
    """What is sent and asked, and what became of it.

    Parameters
    ----------
    folder
        For the studies that are made.
    port, http_port
        Where the node listens.
    token
        Of the role operator.

    Attributes
    ----------
    statuses
        HTTP statuses, and ``"failed"`` for requests without an answer.
    """

    folder: Path
    port: int
    http_port: int
    token: str
    ledger: list[Entry] = field(default_factory=list)
    studies_for_model: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    doubled: int = 0
    faults: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Start all kinds of load."""
        kinds = ((self._store, 3.0), (self._stow, 4.0), (self._read, 1.0), (self._model, 30.0))
        for work, pause_s in kinds:
            thread = threading.Thread(target=self._again, args=(work, pause_s))
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End the load when its last requests have been answered."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _again(self, work: Any, pause_s: float) -> None:
        number = 0
        while not self._stop.is_set():
            try:
                work(number)
            except OSError as error:
                self.faults.append(f"{work.__name__.strip('_')} had no answer ({type(error).__name__})")
            number += 1
            self._stop.wait(pause_s)

    def _store(self, number: int) -> None:
        """Ten instances over one association, the last of them twice."""
        batch = [instance(number // 5, number % 5 * _STORED + one, size=_SIZE) for one in range(_STORED)]
        send(self.port, [*batch, batch[-1]], self.ledger.append)
        self.doubled += 1

    def _stow(self, number: int) -> None:
        """Four instances in one body."""
        batch = [instance(10_000 + number // 10, number % 10 * _STOWED + one, size=_SIZE) for one in range(_STOWED)]
        boundary = secrets.token_hex(8)
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body = b"".join(head + encoded(one) + b"\r\n" for one in batch) + f"--{boundary}--".encode()
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        answer = json.loads(self._ask("/dicom-web/studies", body, {"Content-Type": kind}) or b"{}")
        stored = {one["00081155"]["Value"][0] for one in answer.get("00081199", {}).get("Value", [])}
        for one in batch:
            status = 0 if str(one.SOPInstanceUID) in stored else None
            self.ledger.append(Entry(str(one.SOPInstanceUID), hashlib.sha256(one.PixelData).hexdigest(), status))

    def _model(self, number: int) -> None:
        """A study that a route gives to a model."""
        files: list[FileDataset] = ball(self.folder / str(number), f"soak-{number}")
        send(self.port, files, self.ledger.append, MR)
        self.studies_for_model.append(str(files[0].StudyInstanceUID))

    def _read(self, number: int) -> None:
        """What a viewer and a dashboard ask for."""
        chance = random.Random(number)
        self._ask("/metrics")
        self._ask("/api/v1/jobs?most=20")
        studies = json.loads(self._ask("/dicom-web/studies?limit=10") or b"[]")
        if not studies:
            return
        study = chance.choice(studies)["0020000D"]["Value"][0]
        self._ask(f"/dicom-web/studies/{study}/series")
        found = json.loads(self._ask(f"/dicom-web/studies/{study}/instances?limit=50"))
        one = chance.choice(found)
        path = f"/dicom-web/studies/{study}/series/{one['0020000E']['Value'][0]}"
        self._ask(f"{path}/metadata")
        path += f"/instances/{one['00080018']['Value'][0]}"
        if "00280010" in one:
            self._ask(f"{path}/frames/1", accept='multipart/related; type="application/octet-stream"')
            self._ask(f"{path}/rendered", accept="image/png")
        self._ask(path, accept="application/dicom")

    def _ask(
        self, path: str, body: bytes | None = None, more: dict[str, str] | None = None, accept: str = "*/*"
    ) -> bytes:
        headers = {"Authorization": f"Bearer {self.token}", "Accept": accept, **(more or {})}
        asked = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", body, headers)
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:  # noqa: S310
                self.statuses[str(answer.status)] += 1
                found: bytes = answer.read()
                return found
        except urllib.error.HTTPError as error:
            self.statuses[str(error.code)] += 1
            if error.code >= 500:
                self.faults.append(f"{path.split('?')[0].split('/')[-1]} was answered {error.code}")
            error.close()
            return b""
