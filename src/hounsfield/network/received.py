"""What the network hands to whoever keeps instances, and what is answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Received:
    """One instance, whole, in a file of the incoming folder; nothing of it is known to be true yet.

    Parameters
    ----------
    path
        A DICOM file under a random name; whoever keeps it moves or removes it.
    sha256, size_bytes
        Of the whole file.
    sop_class_uid, sop_instance_uid, transfer_syntax_uid
        What the command and the presentation context say.
    calling_ae, host
        Who sent it; for other ways in than DIMSE a word such as ``"inbox"``.
    """

    path: Path
    sha256: str
    size_bytes: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae: str
    host: str


@dataclass(frozen=True)
class Answer:
    """A DIMSE status (PS3.7 annex C) and a comment without any value from the data set."""

    status: int
    comment: str = ""


#: Keeps an instance for good, and only then answers; never raises.
Keep = Callable[[Received], Awaitable[Answer]]


@dataclass
class AssociationRecord:
    """What happened on one association, told when it is over."""

    calling_ae: str
    called_ae: str
    host: str
    statuses: dict[int, int] = field(default_factory=dict)
    rejected: str = ""
    ended: str = ""

    def count(self, status: int) -> None:
        """Count one answer to a C-STORE."""
        self.statuses[status] = self.statuses.get(status, 0) + 1


@dataclass(frozen=True)
class Rejection:
    """Why an association is not accepted (PS3.8 table 9-21); ``fact`` is for the log."""

    result: int
    source: int
    reason: int
    fact: str


#: (calling AE, called AE, host) -> why not
Admit = Callable[[str, str, str], Rejection | None]
