"""``node.toml``: everything about a node that its owner may choose; every key has a working default.

Nothing here opens the node to a network by accident: an address other than loopback needs TLS with
client certificates (or an explicit ``insecure_lan``) and an allow-list of peers.
"""

from __future__ import annotations

import ipaddress
import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hounsfield.department.routes import Name, first_fault
from hounsfield.errors import SettingsError

_MOST_BYTES: Final = 1 << 20
AeTitle = Annotated[str, Field(pattern=r"^[A-Za-z0-9_. +-]{1,16}$")]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86400 * 7)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tls(_Table):
    """PEM files."""

    authorities: Path
    certificate: Path | None = None
    key: Path | None = None


class Peer(_Table):
    """Who may have an association: both the title and the address must be right.

    Parameters
    ----------
    port
        Where the peer listens itself, for reports of storage commitment; 0 if it does not.
    """

    ae_title: AeTitle
    host: str
    port: Port = 0

    @model_validator(mode="after")
    def _address(self) -> Peer:
        network = ipaddress.ip_network(self.host, strict=False)
        if self.port and network.num_addresses > 1:
            raise ValueError("a peer with a port needs a single address, not a network")
        return self


class DestinationTable(_Table):
    """A PACS that takes results."""

    name: Name
    kind: Literal["dicom", "stow", "fhir"] = "dicom"
    ae_title: AeTitle | None = None
    host: str = ""
    port: Port = 0
    url: str = ""
    user: str = ""
    password_file: Path | None = None
    timeout_s: Seconds = 30.0
    tls: Tls | None = None

    @model_validator(mode="after")
    def _complete(self) -> DestinationTable:
        if self.kind == "dicom" and not (self.ae_title and self.host and self.port):
            raise ValueError("a dicom destination needs ae_title, host and port")
        if self.kind != "dicom" and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"a {self.kind} destination needs a url that begins with http:// or https://")
        return self


class LimitsTable(_Table):
    """Bounds; see the operator's guide."""

    instance_bytes: Annotated[int, Field(ge=1024)] = 8 * 2**30
    associations: Annotated[int, Field(ge=1, le=10_000)] = 100
    associations_per_host: Annotated[int, Field(ge=1, le=10_000)] = 100
    reserve_bytes: Annotated[int, Field(ge=0)] = 256 * 2**20
    silent_s: Seconds = 5.0
    pdu_s: Seconds = 30.0
    idle_s: Seconds = 60.0


class NodeConfig(_Table):
    """The whole of ``node.toml``.

    Parameters
    ----------
    database
        Empty for the embedded SQLite, or ``postgresql://user@host/name``.
    quiet_s
        How long no new instance may come before a study counts as complete.
    lease_s
        How long a worker may show no life before its job is taken back.
    inbox
        Also take files that are put into the folder ``inbox``.
    patient_id_system
        URI of the system of patient ids, for FHIR; empty: ids are told without one.
    pseudonym_key
        Key of the pseudonyms, for routes that de-identify; keep it apart from the node's folder.
    query
        Answer C-FIND about what was received; off by default.
    web
        Also serve the web interface, on ``http_port``.
    public_url
        How the web interface is reached from outside, where a proxy stands before it; by default
        what the caller's request says.
    """

    ae_title: AeTitle = "HOUNSFIELD"
    any_called_ae: bool = False
    host: str = "127.0.0.1"
    port: Port = 11112
    http_port: Port = 8042
    database: str = ""
    quiet_s: Seconds = 60.0
    lease_s: Seconds = 30.0
    workers: Annotated[int, Field(ge=0, le=64)] = 1
    inbox: bool = True
    pseudonym_key: Path | None = None
    query: bool = False
    patient_id_system: Annotated[str, Field(max_length=256)] = ""
    web: bool = True
    public_url: Annotated[str, Field(pattern=r"^(https?://[^\s/]+(/[^\s?#]*)?)?$", max_length=512)] = ""
    insecure_lan: bool = False
    tls: Tls | None = None
    limits: LimitsTable = LimitsTable()
    peers: tuple[Peer, ...] = ()
    destinations: tuple[DestinationTable, ...] = ()

    @model_validator(mode="after")
    def _closed_by_default(self) -> NodeConfig:
        names = [one.name for one in self.destinations]
        if len(set(names)) != len(names):
            raise ValueError("two destinations have one name")
        address = ipaddress.ip_address(self.host)
        if not address.is_loopback:
            if not self.peers:
                raise ValueError(f"host {self.host} is open to a network: list the peers that may connect")
            if not self.insecure_lan and (self.tls is None or self.tls.certificate is None or self.tls.key is None):
                raise ValueError(f"host {self.host} is open to a network: give [tls], or say insecure_lan = true")
        return self

    def admits(self, calling_ae: str, host: str) -> bool:
        """Whether a peer may have an association; without a list, anyone on this machine."""
        address = ipaddress.ip_address(host)
        if not self.peers:
            return address.is_loopback
        return any(
            one.ae_title == calling_ae and address in ipaddress.ip_network(one.host, strict=False) for one in self.peers
        )


def read_config(path: Path) -> NodeConfig:
    """The configuration in a file, or all defaults if there is no file.

    Raises
    ------
    SettingsError
        If something in it is unknown, of the wrong kind, or would open the node unprotected.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return NodeConfig()
    except OSError as error:
        raise SettingsError(f"the configuration cannot be read ({error.strerror})", "check the path", path) from error
    try:
        return NodeConfig.model_validate(tomllib.loads(data[:_MOST_BYTES].decode("utf-8")))
    except ValidationError as error:
        raise SettingsError(first_fault(error), "see docs/how-to/operate.md for every key", path) from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"the configuration is not TOML ({error})", "repair the file", path) from error
