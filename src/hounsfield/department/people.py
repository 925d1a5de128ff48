"""People who may log in, and the log-ins that last: rows only; passwords and secrets come as digests."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from hounsfield.department.tables import users, web_sessions


@dataclass(frozen=True)
class User:
    """One person.

    Parameters
    ----------
    password_hash
        argon2id, with its parameters and salt.
    """

    name: str
    role: str
    password_hash: str
    created_at: float


@dataclass(frozen=True)
class WebSession:
    """A log-in: whose, and the word that a changing request must repeat."""

    name: str
    role: str
    csrf: str
    began_at: float
    seen_at: float


def find_user(connection: Connection, name: str) -> User | None:
    """The person of this name."""
    row = connection.execute(select(users).where(users.c.name == name)).first()
    return None if row is None else User(row.name, row.role, row.password_hash, row.created_at)


def list_users(connection: Connection) -> list[User]:
    """Everyone, by name."""
    rows = connection.execute(select(users).order_by(users.c.name))
    return [User(row.name, row.role, row.password_hash, row.created_at) for row in rows]


def count_users(connection: Connection, role: str = "") -> int:
    """How many people there are, of one role or of any."""
    query = select(func.count()).select_from(users)
    return int(connection.execute(query.where(users.c.role == role) if role else query).scalar_one())


def add_user(connection: Connection, name: str, role: str, password_hash: str) -> None:
    """Add a person who is not there yet."""
    connection.execute(insert(users).values(name=name, role=role, password_hash=password_hash, created_at=time.time()))


def change_user(connection: Connection, name: str, *, role: str = "", password_hash: str = "") -> bool:
    """Give a person another role or password; every log-in of theirs ends. Whether there is such a person."""
    values = {key: value for key, value in (("role", role), ("password_hash", password_hash)) if value}
    end_all_of(connection, name)
    return connection.execute(update(users).where(users.c.name == name).values(**values)).rowcount == 1


def remove_user(connection: Connection, name: str) -> bool:
    """Remove a person with every log-in of theirs; whether there was one."""
    end_all_of(connection, name)
    return connection.execute(delete(users).where(users.c.name == name)).rowcount == 1


def begin(connection: Connection, sha256: str, name: str, csrf: str) -> None:
    """Begin a log-in."""
    now = time.time()
    connection.execute(insert(web_sessions).values(sha256=sha256, name=name, csrf=csrf, began_at=now, seen_at=now))


def find(connection: Connection, sha256: str) -> WebSession | None:
    """The log-in with this digest, with the role that its person has now."""
    query = select(web_sessions, users.c.role).join(users, users.c.name == web_sessions.c.name)
    row = connection.execute(query.where(web_sessions.c.sha256 == sha256)).first()
    return None if row is None else WebSession(row.name, row.role, row.csrf, row.began_at, row.seen_at)


def seen(connection: Connection, sha256: str) -> None:
    """Note that a log-in was used just now."""
    connection.execute(update(web_sessions).where(web_sessions.c.sha256 == sha256).values(seen_at=time.time()))


def end(connection: Connection, sha256: str) -> None:
    """End one log-in."""
    connection.execute(delete(web_sessions).where(web_sessions.c.sha256 == sha256))


def end_all_of(connection: Connection, name: str) -> None:
    """End every log-in of a person."""
    connection.execute(delete(web_sessions).where(web_sessions.c.name == name))


def end_older(connection: Connection, idle_s: float, longest_s: float) -> None:
    """End every log-in that was not used for so long, or began so long ago."""
    now = time.time()
    old = (web_sessions.c.seen_at < now - idle_s) | (web_sessions.c.began_at < now - longest_s)
    connection.execute(delete(web_sessions).where(old))
