"""The audit trail: one JSON object per line, each with the digest of the line before it.

The events are those of PS3.15 A.5.3 by their codes (DCM 1101xx). A line, once written, is never
changed: whoever changes, removes or inserts one breaks the chain, and whoever cuts the end off is
found by the count that the database or another copy remembers. Processes take turns by a lock on
the file. It may name patients and studies, so only its owner can read it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from hounsfield.errors import NotReadable, OutputError

_FIRST: Final = "0" * 64
_TAIL_BYTES: Final = 1 << 16

#: PS3.16 CID 400 and 401, as PS3.15 A.5.3 uses them
EVENTS: Final = {
    "application-activity": ("110100", "Application Activity"),
    "begin-transferring": ("110102", "Begin Transferring DICOM Instances"),
    "instances-accessed": ("110103", "DICOM Instances Accessed"),
    "instances-transferred": ("110104", "DICOM Instances Transferred"),
    "study-deleted": ("110105", "DICOM Study Deleted"),
    "export": ("110106", "Export"),
    "import": ("110107", "Import"),
    "network-entry": ("110108", "Network Entry"),
    "procedure-record": ("110111", "Procedure Record"),
    "query": ("110112", "Query"),
    "security-alert": ("110113", "Security Alert"),
    "user-authentication": ("110114", "User Authentication"),
}
EventName = Literal[
    "application-activity",
    "begin-transferring",
    "instances-accessed",
    "instances-transferred",
    "study-deleted",
    "export",
    "import",
    "network-entry",
    "procedure-record",
    "query",
    "security-alert",
    "user-authentication",
]


@dataclass(frozen=True)
class AuditEvent:
    """One event.

    Parameters
    ----------
    outcome
        0 success, 4 minor failure, 8 serious failure, 12 major failure (PS3.15 A.5.2).
    who
        The user, AE title or part of the node that did it.
    what
        The objects it was done to: UIDs, counts, names.
    """

    event: EventName
    who: str
    what: Mapping[str, Any] = field(default_factory=dict)
    outcome: Literal[0, 4, 8, 12] = 0


@dataclass(frozen=True)
class Verdict:
    """What :func:`verify` found: lines that hold, and the first fault if there is one."""

    lines: int
    last_sha256: str
    fault: str = ""

    @property
    def holds(self) -> bool:
        """Whether nothing was changed."""
        return not self.fault


@dataclass(frozen=True)
class Ledger:
    """The file; made, readable to its owner only, with its first line."""

    path: Path

    def write(self, event: AuditEvent) -> str:
        """Append one line, and return its digest when it is on the disk.

        Raises
        ------
        OutputError
            If it cannot be written: then what was to be recorded must not happen either.
        NotReadable
            If its last line is no line of a ledger.
        """
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                return self._append(handle, event)
            finally:
                os.close(handle)
        except OSError as error:
            fact = f"the audit trail cannot be written ({error.strerror})"
            raise OutputError(fact, "free some space and check the folder", self.path) from error

    def _append(self, handle: int, event: AuditEvent) -> str:
        size = os.fstat(handle).st_size
        number, previous = self._last(handle, size)
        code, meaning = EVENTS[event.event]
        line = {
            "number": number + 1,
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "event": {"code": code, "scheme": "DCM", "meaning": meaning},
            "outcome": event.outcome,
            "who": event.who,
            "what": dict(event.what),
            "previous": previous,
        }
        line["sha256"] = _chained(line)
        raw = (json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n").encode("ascii")
        try:
            if os.write(handle, raw) != len(raw):
                raise OSError(28, "no space left on device")
        except OSError:
            os.ftruncate(handle, size)  # half a line must not stand in the way of the next
            raise
        os.fsync(handle)
        return str(line["sha256"])

    def _last(self, handle: int, size: int) -> tuple[int, str]:
        """Number and digest of the last line; half a line, left by a power cut, is cut off."""
        if size == 0:
            return 0, _FIRST
        tail = os.pread(handle, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        whole = tail[: tail.rfind(b"\n") + 1]
        if len(whole) < len(tail):
            os.ftruncate(handle, size - (len(tail) - len(whole)))
        if not whole:
            return 0, _FIRST
        try:
            line = json.loads(whole.splitlines()[-1])
            return int(line["number"]), str(line["sha256"])
        except (ValueError, KeyError, TypeError) as error:
            raise NotReadable(
                "the audit trail's last line is damaged", "run 'hounsfield audit verify'", self.path
            ) from error


def verify(path: Path) -> Verdict:
    """Check every line of a ledger and the chain between them.

    Raises
    ------
    NotReadable
        If the file cannot be read.
    """
    lines, previous = 0, _FIRST
    try:
        with path.open("rb") as stream:
            for raw in stream:
                fault = _fault(raw, lines + 1, previous)
                if fault:
                    return Verdict(lines, previous, f"line {lines + 1}: {fault}")
                lines, previous = lines + 1, str(json.loads(raw)["sha256"])
    except OSError as error:
        raise NotReadable(f"the audit trail cannot be read ({error.strerror})", "check the path", path) from error
    return Verdict(lines, previous)


def _fault(raw: bytes, number: int, previous: str) -> str:
    try:
        line = json.loads(raw)
        said = line.pop("sha256")
    except (ValueError, KeyError, AttributeError):
        return "it is damaged"
    if line.get("number") != number:
        return f"it has the number {line.get('number')}: a line was taken out or put in"
    if line.get("previous") != previous:
        return "it does not follow the line before it"
    return "" if _chained(line) == said else "it was changed"


def _chained(line: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(line, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()
