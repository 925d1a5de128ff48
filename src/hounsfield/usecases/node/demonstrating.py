"""The demo on a node: an average brain comes in like a study from a scanner, and a shipped model reads it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hounsfield.audit import AuditEvent
from hounsfield.department import instances, jobs, studies
from hounsfield.department.jobs import NewJob
from hounsfield.errors import SettingsError
from hounsfield.network.received import Received
from hounsfield.usecases.demo import MODEL, write_scan
from hounsfield.usecases.node.inbox import copy_in
from hounsfield.usecases.node.keeping import Keeper
from hounsfield.usecases.node.listening import limits_of
from hounsfield.usecases.node.opening import Node
from hounsfield.usecases.node.routing import Order

ROUTE = "demo"


def demonstrate(node: Node, keeper: Keeper, who: str) -> int:
    """Bring in the demo's study and make the job that reads it; the job's number.

    Raises
    ------
    SettingsError
        If the demo is there already.
    NothingToRead
        If the wheel that brings the scan is not installed.
    """
    with TemporaryDirectory(prefix=".demo-", dir=node.work) as folder:
        study_uid, digests = write_scan(Path(folder)), []
        with node.database.read() as connection:
            if studies.listed(connection, study_uid=study_uid, most=1):
                raise SettingsError("the demo's study is there already", "open it in the worklist")
        for path in sorted(Path(folder).rglob("*.dcm")):
            received = copy_in(path, node.files.incoming, limits_of(node), "DEMO", "demo")
            if not isinstance(received, Received):
                raise SettingsError(f"the demo's scan was not taken ({received.comment})", "see the log")
            keeper.keep_now(received)
            digests.append(received.sha256)
    return _make_job(node, study_uid, who)


def _make_job(node: Node, study_uid: str, who: str) -> int:
    """Close the study as complete, and let the demo's model read it whatever the routes say."""
    with node.database.write(alone=True) as connection:
        row = studies.listed(connection, study_uid=study_uid, most=1)[0]
        kept = [one.sha256 for one in instances.of_study(connection, study_uid)]
        version = studies.close(connection, studies.Open(study_uid, row.revision, None), "routed", "")
        order = Order(MODEL, "fp32", "", False, False, False, (), tuple(kept))
        jobs.make(connection, [NewJob(study_uid, version or row.version, ROUTE, order.to_json(), 50.0)])
        made = next(one.id for one in jobs.listed(connection, study_uid=study_uid) if one.route == ROUTE)
    node.audit(AuditEvent("application-activity", who, {"activity": "demo", "job": made}))
    return int(made)
