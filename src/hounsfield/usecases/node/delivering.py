"""Delivering: each destination has a thread of its own, so that a slow or dead one holds up nobody."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from hounsfield.audit import AuditEvent
from hounsfield.department import deliveries
from hounsfield.department.deliveries import Due
from hounsfield.network import fhir_client, store_scu, stow
from hounsfield.network.destinations import Destination, Parcel, Receipt
from hounsfield.usecases.node.opening import Node, log

LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True)
class Round:
    """What one look at a destination came to."""

    delivered: int = 0
    postponed: int = 0


def deliver_due(node: Node, destination: Destination) -> Round:
    """Send what is due for one destination; each receipt is in the database before the next is sent."""
    with node.database.read() as connection:
        due = deliveries.waiting_for(connection, destination.name)
    if not due:
        return Round()
    good = [one for one in due if _unchanged(node, one)]
    done, failed = 0, []
    for one, receipt in zip(good, _send(node, destination, good), strict=True):
        if not receipt.delivered:
            failed.append((one, receipt))
            continue
        done += 1
        with node.database.write() as connection:
            deliveries.delivered(connection, one.id, receipt.status or 0, receipt.reason)
    if failed:
        _postpone(node, destination, failed)
    if done:
        numbers = sorted({one.job_id for one in good})
        what = {"destination": destination.name, "instances": done, "jobs": numbers}
        node.audit(AuditEvent("instances-transferred", node.config.ae_title, what))
    return Round(done, len(due) - done)


def _postpone(node: Node, destination: Destination, failed: Sequence[tuple[Due, Receipt]]) -> None:
    """Let what failed together wait together: it goes over one association again."""
    share = deliveries.jitter()
    with node.database.write() as connection:
        waits = [
            deliveries.postponed(connection, one, receipt.status, receipt.reason, share) for one, receipt in failed
        ]
    reasons = sorted({receipt.reason for _, receipt in failed})
    log(
        "delivery-postponed", destination=destination.name, count=len(failed), wait_s=round(max(waits)), reasons=reasons
    )
    dead = sum(not wait for wait in waits)
    if dead:
        log("delivery-dead", destination=destination.name, count=dead)


def _send(node: Node, destination: Destination, due: Sequence[Due]) -> Iterator[Receipt]:
    parcels = [
        Parcel(node.results / one.path, one.sop_class_uid, one.sop_instance_uid, one.transfer_syntax_uid) for one in due
    ]
    ways = {"dicom": store_scu.send, "stow": stow.post, "fhir": fhir_client.post}
    return ways[destination.kind](destination, parcels)


def _unchanged(node: Node, due: Due) -> bool:
    """Whether the file is still what the job wrote; anything else is never sent."""
    try:
        same = hashlib.sha256((node.results / due.path).read_bytes()).hexdigest() == due.sha256
    except OSError:
        same = False
    if not same:
        log("result-damaged", job=due.job_id)
        with node.database.write() as connection:
            deliveries.postponed(connection, due, None, "the stored result is missing or changed")
    return same


def deliver_all(node: Node, stopped: Callable[[], bool]) -> list[threading.Thread]:
    """Start a thread for each destination of the configuration; they end when told to stop."""

    def work(destination: Destination) -> None:
        pause = threading.Event()
        while not stopped():
            try:
                deliver_due(node, destination)
            except Exception as error:  # a thread that ended would deliver no more, and nobody would know
                log("delivery-failed", destination=destination.name, fact=type(error).__name__)
            pause.wait(LOOK_SECONDS)

    threads = [
        threading.Thread(target=work, args=(node.destination(one),), name=f"deliver-{one.name}", daemon=True)
        for one in node.config.destinations
    ]
    for thread in threads:
        thread.start()
    return threads
