"""People of the page: who they are, what their role lets them do, and how a log-in begins and ends.

Passwords are kept as argon2id (RFC 9106) only, the secret of a log-in as its SHA-256. The first
person is made on the command line, or with the set-up code that lies in the node's folder.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
import re
import secrets
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

from hounsfield.audit import AuditEvent
from hounsfield.department import people
from hounsfield.department.people import User, WebSession
from hounsfield.errors import SettingsError
from hounsfield.usecases.node.opening import Node

if TYPE_CHECKING:
    from argon2 import PasswordHasher

PersonRole = Literal["viewer", "reviewer", "operator", "admin"]
PERSON_ROLES: Final[tuple[str, ...]] = get_args(PersonRole)
IDLE_SECONDS: Final = 3600.0
LONGEST_SECONDS: Final = 12 * 3600.0
SHORTEST_PASSWORD: Final = 12
LONGEST_PASSWORD: Final = 256
_SEEN_SECONDS: Final = 30.0
_NAME: Final = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")
_HASHING: Final = threading.BoundedSemaphore(2)  # each takes 64 MiB


@dataclass(frozen=True)
class LoggedIn:
    """A log-in that has just begun; ``secret`` belongs in the cookie, and is known to nobody else."""

    name: str
    secret: str = field(repr=False)


def add_user(node: Node, name: str, role: str, password: str, who: str) -> None:
    """Add a person.

    Raises
    ------
    SettingsError
        If the name is taken or malformed, there is no such role, or the password is too weak.
    """
    if not _NAME.fullmatch(name) or len(name) > 64:
        raise SettingsError(f"{name[:64]!r} is no name", "use small letters, digits, dots and hyphens")
    if role not in PERSON_ROLES:
        raise SettingsError(f"{role[:64]!r} is no role", f"choose one of {', '.join(PERSON_ROLES)}")
    digest = _hash(password, name)
    with node.database.write(alone=True) as connection:
        if people.find_user(connection, name) is not None:
            raise SettingsError(f"there is a {name!r} already", "choose another name")
        people.add_user(connection, name, role, digest)
    node.audit(AuditEvent("user-authentication", who, {"activity": "user made", "user": name, "role": role}))


def change_password(node: Node, name: str, password: str, who: str) -> None:
    """Give a person another password; every log-in of theirs ends.

    Raises
    ------
    SettingsError
        If there is no such person, or the password is too weak.
    """
    digest = _hash(password, name)
    with node.database.write() as connection:
        if not people.change_user(connection, name, password_hash=digest):
            raise _unknown(name)
    node.audit(AuditEvent("user-authentication", who, {"activity": "password changed", "user": name}))


def change_role(node: Node, name: str, role: str, who: str) -> None:
    """Give a person another role; every log-in of theirs ends.

    Raises
    ------
    SettingsError
        If there is no such person or role, or the last admin would be gone.
    """
    if role not in PERSON_ROLES:
        raise SettingsError(f"{role[:64]!r} is no role", f"choose one of {', '.join(PERSON_ROLES)}")
    with node.database.write(alone=True) as connection:
        user = people.find_user(connection, name)
        if user is None:
            raise _unknown(name)
        if user.role == "admin" and role != "admin" and people.count_users(connection, "admin") == 1:
            raise SettingsError(f"{name} is the only admin", "make another admin first")
        people.change_user(connection, name, role=role)
    node.audit(AuditEvent("user-authentication", who, {"activity": "role changed", "user": name, "role": role}))


def remove_user(node: Node, name: str, who: str) -> None:
    """Remove a person, who is logged out at once.

    Raises
    ------
    SettingsError
        If there is no such person, or it is the last admin.
    """
    with node.database.write(alone=True) as connection:
        user = people.find_user(connection, name)
        if user is None:
            raise _unknown(name)
        if user.role == "admin" and people.count_users(connection, "admin") == 1:
            raise SettingsError(f"{name} is the only admin", "make another admin first")
        people.remove_user(connection, name)
    node.audit(AuditEvent("user-authentication", who, {"activity": "user removed", "user": name}))


def list_users(node: Node) -> list[User]:
    """Everyone, by name."""
    with node.database.read() as connection:
        return people.list_users(connection)


def log_in(node: Node, name: str, password: str, host: str) -> LoggedIn | None:
    """Begin a log-in; ``None`` when name or password is wrong, after the same work for both."""
    with node.database.read() as connection:
        user = people.find_user(connection, name)
    right = _verify(_nobody() if user is None else user.password_hash, password)
    if user is None or not right:
        known = name if user is not None else "unknown"
        node.audit(AuditEvent("user-authentication", known, {"activity": "login refused", "host": host}, 4))
        return None
    secret = secrets.token_urlsafe(32)
    with node.database.write() as connection:
        people.end_older(connection, IDLE_SECONDS, LONGEST_SECONDS)
        people.begin(connection, _digest(secret), user.name, secrets.token_urlsafe(32))
    node.audit(AuditEvent("user-authentication", user.name, {"activity": "login", "host": host}))
    return LoggedIn(user.name, secret)


def find_session(node: Node, secret: str) -> WebSession | None:
    """The log-in whose secret this is, unless it is over."""
    digest = _digest(secret)
    with node.database.read() as connection:
        found = people.find(connection, digest)
    now = time.time()
    if found is None or now - found.seen_at > IDLE_SECONDS or now - found.began_at > LONGEST_SECONDS:
        return None
    if now - found.seen_at > _SEEN_SECONDS:
        with node.database.write() as connection:
            people.seen(connection, digest)
    return found


def log_out(node: Node, secret: str, who: str) -> None:
    """End a log-in."""
    with node.database.write() as connection:
        people.end(connection, _digest(secret))
    node.audit(AuditEvent("user-authentication", who, {"activity": "logout"}))


def setup_code_path(node: Node) -> Path:
    """Where the code lies that lets the first person be made on the page."""
    return node.root / "setup-code.txt"


def prepare_first(node: Node) -> bool:
    """While there is nobody, lay out a set-up code that only the owner of the folder can read; whether there is nobody.

    The same code stays until somebody is made.
    """
    path = setup_code_path(node)
    with node.database.read() as connection:
        if people.count_users(connection):
            path.unlink(missing_ok=True)
            return False
    if not path.exists():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(8) + "\n")
    return True


def make_first(node: Node, code: str, name: str, password: str) -> None:
    """Make the first admin with the set-up code.

    Raises
    ------
    SettingsError
        If there is somebody already, the code is wrong, or name or password will not do.
    """
    path = setup_code_path(node)
    if not prepare_first(node):
        raise SettingsError("there are accounts already", "ask an admin for one")
    if not hmac.compare_digest(path.read_text(encoding="ascii").strip().encode(), code.strip().encode()):
        node.audit(AuditEvent("security-alert", "unknown", {"refused": "set-up code"}, 4))
        raise SettingsError("that is not the set-up code", "copy it from setup-code.txt in the node's folder")
    add_user(node, name, "admin", password, "set-up")
    path.unlink(missing_ok=True)


def _unknown(name: str) -> SettingsError:
    return SettingsError(f"there is no {name[:64]!r}", "list the users")


@functools.cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher()


@functools.cache
def _nobody() -> str:
    """A digest that no password has, so that an unknown name takes as long as a wrong password."""
    return _hasher().hash(secrets.token_hex(32))


def _hash(password: str, name: str) -> str:
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise SettingsError(
            f"the password must have {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters", "choose a longer one"
        )
    if name and name in password.lower():
        raise SettingsError("the password holds the name", "choose another")
    if len(set(password)) < 5:
        raise SettingsError("the password repeats a few characters", "choose another")
    with _HASHING:
        return _hasher().hash(password)


def _verify(digest: str, password: str) -> bool:
    from argon2.exceptions import VerificationError

    try:
        with _HASHING:
            return _hasher().verify(digest, password[:LONGEST_PASSWORD])
    except VerificationError:
        return False


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
