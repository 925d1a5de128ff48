"""The clerk: finds complete studies, makes their jobs, takes jobs back from dead workers, sweeps."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from hounsfield.audit import AuditEvent
from hounsfield.department import instances, jobs, studies
from hounsfield.department.jobs import Reclaimer
from hounsfield.department.leases import Observer
from hounsfield.department.studies import Open, QuietWatch
from hounsfield.department.tables import jobs as jobs_table
from hounsfield.department.tables import results as results_table
from hounsfield.errors import HounsfieldError, InputError
from hounsfield.reading import scan_files
from hounsfield.usecases.node.cataloguing import catalogue_missing
from hounsfield.usecases.node.describing import describe_study
from hounsfield.usecases.node.opening import Node, log
from hounsfield.usecases.node.routing import SeriesAnswer, ask_routes, jobs_for
from hounsfield.usecases.node.telling_fhir import tell_fhir
from hounsfield.usecases.node.triaging import triage

LOOK_SECONDS: Final = 0.5
SWEEP_SECONDS: Final = 60.0
STRAY_SECONDS: Final = 600.0


@dataclass
class Clerk:
    """Does one round at a time; everything that it knows can be lost and is found again."""

    node: Node
    _watch: QuietWatch = field(init=False)
    _reclaimer: Reclaimer = field(init=False)
    _swept: float = field(default=-SWEEP_SECONDS)

    def __post_init__(self) -> None:
        self._watch = QuietWatch(self.node.database, self.node.config.quiet_s)
        self._reclaimer = Reclaimer(self.node.database, Observer(self.node.config.lease_s))

    def round(self) -> None:
        """Look once at everything."""
        for study in self._watch.complete():
            self._complete(study)
        catalogue_missing(self.node, rounds=1)
        taken = self._reclaimer.reclaim()
        if taken:
            log("reclaimed", jobs=taken)
        if time.monotonic() - self._swept > SWEEP_SECONDS:
            self._swept = time.monotonic()
            removed = sweep(self.node, STRAY_SECONDS)
            if removed:
                log("swept", files=removed)
        triage(self.node)
        tell_fhir(self.node)

    def run(self, stopped: Callable[[], bool]) -> None:
        """Look again and again until told to stop; a fault of one round does not end the clerk."""
        while not stopped():
            try:
                self.round()
            except (HounsfieldError, SQLAlchemyError) as error:
                log("clerk-failed", fact=error.fact if isinstance(error, HounsfieldError) else type(error).__name__)
                time.sleep(5 * LOOK_SECONDS)
            time.sleep(LOOK_SECONDS)

    def _complete(self, study: Open) -> None:
        """Make the next version of a study and its jobs, in one transaction."""
        routes = self.node.routes()
        with self.node.database.read() as connection:
            kept = instances.of_study(connection, study.study_uid)
        sender = kept[-1].calling_ae if kept else ""
        answers, reason = self._answers([self.node.files.path(one.sha256) for one in kept], sender)
        with self.node.database.write() as connection:
            wanted = jobs_for(routes, answers, study.study_uid, 0)
            outcome = "routed" if wanted else "unreadable" if reason else "unrouted"
            version = studies.close(connection, study, outcome, reason)
            if version is None:
                return
            jobs.supersede(connection, study.study_uid, version)
            made = jobs.make(connection, jobs_for(routes, answers, study.study_uid, version))
        describe_study(self.node, study.study_uid)
        log("study-complete", instances=len(kept), version=version, outcome=outcome, jobs=made)
        what = {"study": study.study_uid, "version": version, "outcome": outcome, "jobs": made}
        self.node.audit(AuditEvent("procedure-record", "clerk", what))

    def _answers(self, files: list[Path], sender: str) -> tuple[tuple[SeriesAnswer, ...], str]:
        routes = self.node.routes()
        try:
            with scan_files(files, source=self.node.root / "instances") as contents:
                return ask_routes(routes, contents.series, sender), ""
        except InputError as error:
            return (), error.fact


def sweep(node: Node, older_than_s: float) -> int:
    """Remove what a crash left and no row names; how many files and folders went."""
    removed = 0
    for path in node.files.stray(older_than_s):
        if path.parent == node.files.incoming:
            path.unlink(missing_ok=True)
            removed += 1
            continue
        with node.database.write(alone=True) as connection, suppress(FileNotFoundError):
            fresh = time.time() - path.stat().st_mtime < older_than_s
            if not fresh and not instances.is_named(connection, path.stem):
                path.unlink()
                removed += 1
    return removed + _sweep_work(node, older_than_s)


def _sweep_work(node: Node, older_than_s: float) -> int:
    """Remove working folders of attempts that are over, and results that no row names."""
    removed, youngest = 0, time.time() - older_than_s
    with node.database.read() as connection:
        leased = select(jobs_table.c.id, jobs_table.c.fence).where(jobs_table.c.state == "leased")
        busy = {f"{number}-{fence}" for number, fence in connection.execute(leased)}
        named = {path.split("/")[0] for path in connection.execute(select(results_table.c.path)).scalars()}
    for folder, kept in ((node.work, busy), (node.results, busy | named)):
        for entry in folder.iterdir():
            with suppress(FileNotFoundError):
                if entry.name not in kept and entry.stat().st_mtime < youngest:
                    shutil.rmtree(entry, ignore_errors=True)
                    removed += 1
    return removed
