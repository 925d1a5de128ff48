"""Where results go, and what each destination said of each instance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class TlsFiles:
    """Files of a TLS peer: PEM, paths only; the key must be readable to its owner alone."""

    authorities: Path
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class Destination:
    """A PACS that takes results.

    Parameters
    ----------
    kind
        ``"dicom"``: C-STORE to ``ae_title`` at ``host``:``port``. ``"stow"``: STOW-RS to ``url``.
        ``"fhir"``: a FHIR R4 transaction to the base ``url``.
    own_ae_title
        How this node introduces itself.
    timeout_s
        How long the peer may be silent.
    """

    name: str
    kind: Literal["dicom", "stow", "fhir"]
    ae_title: str = ""
    host: str = ""
    port: int = 0
    url: str = ""
    user: str = ""
    password_file: Path | None = None
    own_ae_title: str = "HOUNSFIELD"
    timeout_s: float = 30.0
    tls: TlsFiles | None = None


@dataclass(frozen=True)
class Parcel:
    """One DICOM file to send."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True)
class Receipt:
    """What a destination answered for one instance.

    Parameters
    ----------
    delivered
        Whether it said that it has the instance; a status of success, or a warning (PS3.4 table
        B.2-1: B000, B006, B007), with which it is stored as well.
    status
        The DIMSE or HTTP status, ``None`` where no answer came.
    reason
        In plain words, without anything from the data set.
    """

    sop_instance_uid: str
    delivered: bool
    status: int | None
    reason: str = ""
