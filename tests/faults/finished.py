"""Jobs that ended with results to be sent, as a worker leaves them behind, without a model."""

from __future__ import annotations

import hashlib

from hounsfield.department import jobs
from hounsfield.department.instances import NewInstance, register
from hounsfield.department.jobs import Finished, Leased, NewJob, NewResult
from hounsfield.usecases.node.opening import Node

from .instances import encoded, instance


def finish_job(node: Node, destinations: tuple[str, ...], count: int, study: int = 9) -> Leased:
    """A study came and a job on it ended with ``count`` results, instances of ``study``."""
    uid, scan = f"1.2.3.{study}", f"{study:064x}"
    with node.database.write() as connection:
        register(connection, [NewInstance(f"1.2.1.{study}", scan, 1, "1.2", uid, "1.2.4", "CT", "1.2", "A", "h")])
        jobs.make(connection, [NewJob(uid, 1, "r", "{}", 1.0)])
    job = jobs.claim(node.database, "tester")
    assert job is not None
    folder = node.results / f"{job.id}-{job.fence}"
    folder.mkdir()
    written = []
    for number in range(count):
        path, one = folder / f"{number}.dcm", instance(study, number)
        path.write_bytes(encoded(one))
        name, uids = str(path.relative_to(node.results)), (str(one.SOPClassUID), str(one.SOPInstanceUID))
        written.append(
            NewResult("seg", name, hashlib.sha256(path.read_bytes()).hexdigest(), 1, *uids, "1.2.840.10008.1.2.1")
        )
    assert jobs.finish(node.database, job, Finished("done", "", "{}", tuple(written), destinations))
    return job
