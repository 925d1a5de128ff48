"""Opening a node's folder: its configuration, routes, database, files and audit trail.

::

    DATA/node.toml        configuration (optional)
    DATA/routes.toml      routes (optional: without them nothing is run)
    DATA/state.sqlite     the database, unless the configuration names PostgreSQL
    DATA/instances/       what was received, by digest;   DATA/incoming/  what is being received
    DATA/results/         what jobs wrote;                DATA/work/      what jobs are writing
    DATA/inbox/           files put here are received;    DATA/refused/   those that were not taken
    DATA/labels/          what people corrected;          DATA/cache/    copies for the viewer
    DATA/audit.jsonl      the audit trail;   DATA/route-states.json   what was decided of routes
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hounsfield.audit import AuditEvent, Ledger
from hounsfield.department.configuration import DestinationTable, NodeConfig, Tls, read_config
from hounsfield.department.database import Database, open_database
from hounsfield.department.files import InstanceFiles
from hounsfield.department.route_states import decided, read_states
from hounsfield.department.routes import Route, read_routes
from hounsfield.errors import HounsfieldError, SettingsError
from hounsfield.network.destinations import Destination, TlsFiles
from hounsfield.settings import load_settings


@dataclass(frozen=True)
class Node:
    """An open node."""

    root: Path
    config: NodeConfig
    database: Database
    files: InstanceFiles
    ledger: Ledger

    @property
    def results(self) -> Path:
        """What jobs wrote."""
        return self.root / "results"

    @property
    def work(self) -> Path:
        """What jobs are writing."""
        return self.root / "work"

    @property
    def inbox(self) -> Path:
        """Files put here are received."""
        return self.root / "inbox"

    @property
    def refused(self) -> Path:
        """Files from the inbox that were not taken."""
        return self.root / "refused"

    @property
    def route_states(self) -> Path:
        """What was decided of routes on the page."""
        return self.root / "route-states.json"

    def routes(self) -> tuple[Route, ...]:
        """The routes that make jobs now: as they stand in the file, and as was decided of them since.

        Raises
        ------
        SettingsError
            If the file is wrong, or names a destination that the configuration does not.
        """
        return decided(self.all_routes(), read_states(self.route_states))

    def all_routes(self) -> tuple[Route, ...]:
        """The routes as they stand in the file now, retired ones too.

        Raises
        ------
        SettingsError
            If the file is wrong, or names a destination that the configuration does not.
        """
        path = self.root / "routes.toml"
        routes = read_routes(path)
        known = {one.name for one in self.config.destinations}
        for route in routes:
            for name in route.destinations:
                if name not in known:
                    fact = f"route {route.name} sends to {name!r}, which is no destination"
                    raise SettingsError(fact, "add it to node.toml, or correct the name", path)
            self._check_deidentifying(route)
        return routes

    def _check_deidentifying(self, route: Route) -> None:
        """A route that takes the person out needs a key, and may not name the person elsewhere."""
        if route.deidentify is None:
            return
        if self.config.pseudonym_key is None:
            fact = f"route {route.name} de-identifies, and node.toml names no pseudonym_key"
            raise SettingsError(fact, "name a file outside the node's folder", self.root / "node.toml")
        if self.takers(route.destinations, "fhir"):
            fact = f"route {route.name} de-identifies, and a FHIR server would be told the patient"
            raise SettingsError(fact, "send to dicom and stow destinations only", self.root / "routes.toml")

    @property
    def pseudonym_key(self) -> Path:
        """Where the key of the pseudonyms is; relative names are inside the node's folder."""
        return self.root / (self.config.pseudonym_key or "pseudonyms.key")

    def destination(self, table: DestinationTable) -> Destination:
        """A destination as the network's room wants it."""
        return Destination(
            name=table.name,
            kind=table.kind,
            ae_title=table.ae_title or "",
            host=table.host,
            port=table.port,
            url=table.url,
            user=table.user,
            password_file=None if table.password_file is None else self.root / table.password_file,
            own_ae_title=self.config.ae_title,
            timeout_s=table.timeout_s,
            tls=self.tls(table.tls),
        )

    def takers(self, names: Iterable[str], *kinds: str) -> tuple[str, ...]:
        """Those of some destinations that are of these kinds."""
        known = {one.name: one.kind for one in self.config.destinations}
        return tuple(name for name in names if known.get(name) in kinds)

    def tls(self, table: Tls | None) -> TlsFiles | None:
        """Files of TLS; relative names are inside the node's folder."""
        if table is None:
            return None
        certificate = None if table.certificate is None else self.root / table.certificate
        key = None if table.key is None else self.root / table.key
        return TlsFiles(self.root / table.authorities, certificate, key)

    def audit(self, event: AuditEvent) -> None:
        """Record an event; a trail that cannot be written is said in the log, and stops no receiving."""
        try:
            self.ledger.write(event)
        except HounsfieldError as error:
            log("audit-failed", fact=error.fact)

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def default_root() -> Path:
    """The node's folder when none is named."""
    return load_settings().home / "node"


def open_node(root: Path) -> Node:
    """Open a node's folder, and make in it what is not there yet.

    Raises
    ------
    SettingsError
        If the configuration is wrong, or the folder or the database cannot be used.
    """
    os.umask(0o077)
    root = root.absolute()
    config = read_config(root / "node.toml")
    files = InstanceFiles(root)
    files.prepare()
    for name in ("results", "work", "inbox", "refused"):
        (root / name).mkdir(exist_ok=True, mode=0o700)
    database = open_database(config.database or root / "state.sqlite")
    return Node(root, config, database, files, Ledger(root / "audit.jsonl"))


def log(event: str, **facts: Any) -> None:
    """One line of JSON on standard error; callers give counts, states and our own words, never data of a person."""
    line = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": event, **facts}
    print(json.dumps(line), file=sys.stderr, flush=True)
