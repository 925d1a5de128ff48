"""The worker: leases a job, lets it run in a process of its own, shows life, and stores what came out."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hounsfield.audit import AuditEvent
from hounsfield.deidentifying.rules import Options
from hounsfield.department import jobs
from hounsfield.department.jobs import Finished, Leased
from hounsfield.department.leases import this_process
from hounsfield.errors import DomainRefused, HounsfieldError
from hounsfield.usecases.deidentify import DeidentifyRequest, copies
from hounsfield.usecases.node.advancing import Shown
from hounsfield.usecases.node.opening import Node, log
from hounsfield.usecases.node.routing import Order
from hounsfield.usecases.node.storing import IMAGES, store_results

BEAT_SECONDS: Final = 3.0
IDLE_SECONDS: Final = 0.5
#: Errors that another attempt cannot mend.
_HOPELESS: Final = frozenset(
    (
        "NotReadable",
        "UnsupportedEncoding",
        "LimitExceeded",
        "DoesNotFit",
        "NothingToRead",
        "PackageNotFound",
        "PackageInvalid",
        "PackageRefused",
        "SettingsError",
    )
)


@dataclass
class Worker:
    """Works on one job at a time.

    Attributes
    ----------
    owner
        The name under which it leases.
    """

    node: Node
    owner: str = field(default_factory=this_process)

    def run(self, stopped: Callable[[], bool]) -> None:
        """Work until told to stop; the job at hand is given back then."""
        while not stopped():
            job = jobs.claim(self.node.database, self.owner)
            if job is None:
                time.sleep(IDLE_SECONDS)
                continue
            self.do(job, stopped)

    def do(self, job: Leased, stopped: Callable[[], bool] = lambda: False) -> None:
        """Do one attempt at a job, and record how it ended."""
        log("job-begins", job=job.id, attempt=job.attempt)
        folder = self.node.work / f"{job.id}-{job.fence}"
        order = Order.from_json(job.order_json)
        try:
            if order.deidentify is not None:
                lay_out_copies(self.node, order, folder / "input")
            else:
                lay_out(self.node, order, folder / "input")
            said = self._run(job, order, folder, stopped)
            if said is not None:
                record(self.node, job, order, folder, said)
        except HounsfieldError as error:
            jobs.fail(self.node.database, job, error.fact, again=False)
            log("job-failed", job=job.id, reason=error.fact)
        except OSError as error:
            reason = f"the system refused ({error.strerror or type(error).__name__})"
            jobs.fail(self.node.database, job, reason, again=True)
            log("job-failed", job=job.id, reason=reason)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run(self, job: Leased, order: Order, folder: Path, stopped: Callable[[], bool]) -> dict[str, Any] | None:
        """What the job's process said last; ``None`` when the job is not ours any more."""
        reading, writing = os.pipe()
        command = [sys.executable, "-m", "hounsfield.usecases.node.job_process", str(writing), str(os.getpid())]
        process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(writing,),
            start_new_session=True,
        )
        os.close(writing)
        try:
            given = {"order": job.order_json, "input": str(folder / "input"), "output": str(folder / "output")}
            if process.stdin is not None:
                with suppress(BrokenPipeError):
                    process.stdin.write(json.dumps(given).encode() + b"\n")
                    process.stdin.close()
            return self._listen(job, reading, process, stopped)
        finally:
            os.close(reading)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _listen(
        self, job: Leased, pipe: int, process: subprocess.Popen[bytes], stopped: Callable[[], bool]
    ) -> dict[str, Any] | None:
        selector, unread, beaten, last = selectors.DefaultSelector(), b"", time.monotonic(), {}
        shown = Shown(self.node.database, job.id)
        selector.register(pipe, selectors.EVENT_READ)
        with selector:
            while True:
                if stopped():
                    jobs.fail(self.node.database, job, "the worker was stopped", again=True)
                    return None
                if time.monotonic() - beaten > BEAT_SECONDS:
                    beaten = time.monotonic()
                    if not jobs.beat(self.node.database, job):
                        log("job-lost", job=job.id)
                        return None
                if not selector.select(IDLE_SECONDS):
                    continue
                data = os.read(pipe, 1 << 16)
                if not data:
                    break
                *lines, unread = (unread + data).split(b"\n")
                for line in lines:
                    last = json.loads(line)
                    shown.say(last)
        if "result" in last or "error" in last:
            return last
        fact = {"error": "EngineError", "fact": f"its process ended without an answer ({process.wait()})"}
        return {"error": fact}


def record(node: Node, job: Leased, order: Order, folder: Path, said: dict[str, Any]) -> None:
    """Write down what became of a job: results and deliveries with it, or why there are none.

    Parameters
    ----------
    folder
        Where the job worked; its results in ``output``.
    said
        What ran it said: ``{"result": RunResult.as_dict()}`` or ``{"error": HounsfieldError.as_dict()}``.
    """
    error = said.get("error") or _worst(said["result"]["series"])
    if error is not None:
        again = error["error"] not in _HOPELESS
        jobs.fail(node.database, job, error["fact"], again=again)
        log("job-failed", job=job.id, error=error["error"], again=again)
        return
    result = said["result"]
    done = [one for one in result["series"] if one["status"] == "done"]
    refused = [one["error"]["fact"] for one in result["series"] if one["status"] == "refused"]
    if done and order.deidentify is not None:
        (folder / "input").rename(folder / "output" / IMAGES)
    stored = store_results(folder / "output", node.results / f"{job.id}-{job.fence}", done) if done else ()
    finished = Finished(
        outcome="done" if done else "refused",
        reason="; ".join(refused),
        outcome_json=json.dumps(_summary(result)),
        results=stored,
        destinations=node.takers(order.destinations, "dicom", "stow"),
    )
    ours = jobs.finish(node.database, job, finished)
    log("job-ends", job=job.id, outcome=finished.outcome, results=len(stored), recorded=ours)
    what = {"job": job.id, "study": job.study_uid, "route": job.route, "package": result["package"]}
    digest = {"package_digest": result["package_digest"], "outcome": finished.outcome}
    node.audit(AuditEvent("procedure-record", "worker", {**what, **digest}))


def lay_out(node: Node, order: Order, folder: Path) -> None:
    """Link the job's instances into a folder under plain numbers; they are the stored files themselves."""
    folder.mkdir(parents=True)
    for number, digest in enumerate(order.digests):
        os.link(node.files.path(digest), folder / f"{number:06d}.dcm")


def lay_out_copies(node: Node, order: Order, folder: Path) -> None:
    """De-identified copies of the job's instances; what cannot be cleaned is left out.

    Raises
    ------
    DomainRefused
        If nothing of it can be de-identified.
    """
    asked = dict(order.deidentify or {})
    checked = asked.pop("pixels_checked", False)
    key = node.pseudonym_key
    request = DeidentifyRequest(folder, folder, key, Options(**asked), checked)
    folder.mkdir(parents=True)
    written, refused = copies([node.files.path(digest) for digest in order.digests], folder, request)
    if not written:
        raise DomainRefused(f"nothing can be de-identified ({'; '.join(refused)})", "route only images to this")
    what = {"activity": "de-identified", "instances": len(written), "left_out": sum(refused.values())}
    node.audit(AuditEvent("application-activity", "worker", what))


def _worst(series: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The error of a series that failed; refusals are answers, not errors."""
    return next((one["error"] for one in series if one["status"] == "failed"), None)


def _summary(result: dict[str, Any]) -> dict[str, Any]:
    """What the database keeps of a run: no paths, nothing of a person."""
    kept = ("name", "status", "measured", "warnings", "figures")
    return {
        "package": result["package"],
        "package_digest": result["package_digest"],
        "series": [
            {**{key: one[key] for key in kept}, "reason": one["error"]["fact"] if one["error"] else ""}
            for one in result["series"]
        ],
    }
