"""Pseudonyms from a secret key: the same person, the same UID, always the same, and no table to lose.

Whoever has the key can find the pseudonym of a known patient again; nobody can go back from a
pseudonym without trying patients one by one with the key. So the key is kept apart from the data.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hounsfield.errors import OutputError, SettingsError

_BYTES: Final = 32
_WELL_KNOWN: Final = "1.2.840.10008."


@dataclass(frozen=True)
class Pseudonyms:
    """What a key makes of identifiers.

    Parameters
    ----------
    secret
        32 random bytes.
    """

    secret: bytes = field(repr=False)

    def person(self, patient_id: str, issuer: str = "") -> str:
        """The pseudonym of a patient: ``P-`` and 16 letters and digits."""
        raw = self._digest("person", issuer, patient_id)[:10]
        return "P-" + base64.b32encode(raw).decode("ascii")

    def uid(self, uid: str) -> str:
        """The UID that stands for another (PS3.5 B.2); those of the standard itself stay."""
        if uid.startswith(_WELL_KNOWN):
            return uid
        return f"2.25.{int.from_bytes(self._digest('uid', uid)[:16], 'big')}"

    def days(self, person: str) -> int:
        """By how many days the dates of a person move back: 1 to 3650."""
        return 1 + int.from_bytes(self._digest("days", person)[:8], "big") % 3650

    def moved(self, date: str, person: str) -> str:
        """A DICOM date (DA, or the beginning of DT) moved back; empty if it is no date."""
        try:
            day = dt.datetime.strptime(date[:8], "%Y%m%d").date()
            return (day - dt.timedelta(days=self.days(person))).strftime("%Y%m%d") + date[8:]
        except (ValueError, OverflowError):
            return ""

    def _digest(self, *words: str) -> bytes:
        return hmac.new(self.secret, "\0".join(words).encode("utf-8", "replace"), hashlib.sha256).digest()


def read_key(path: Path) -> Pseudonyms:
    """The key in a file, which is made if it is not there; readable to its owner only.

    Raises
    ------
    SettingsError
        If others can read it, or it is no key.
    OutputError
        If it cannot be made.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise SettingsError("others can read the key of the pseudonyms", "chmod 600 it", path)
        secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except FileNotFoundError:
        return _new_key(path)
    except ValueError as error:
        raise SettingsError("this is no key of pseudonyms", "name the file that was made as one", path) from error
    if len(secret) != _BYTES:
        raise SettingsError("this is no key of pseudonyms", "name the file that was made as one", path)
    return Pseudonyms(secret)


def _new_key(path: Path) -> Pseudonyms:
    secret = secrets.token_bytes(_BYTES)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(secret.hex() + "\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise OutputError(f"the key cannot be made ({error.strerror})", "choose another place", path) from error
    return Pseudonyms(secret)
