"""Opening the database: SQLite by default, PostgreSQL by its URL; the same tables and statements.

On SQLite a transaction is on disk when it is committed: write-ahead log with ``synchronous=FULL``
(``NORMAL`` may lose the last commits when the power goes). Writers take their lock when they
begin, so that no transaction fails halfway for want of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, insert, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from hounsfield.department import catalogue, commitments, tables, workitems
from hounsfield.errors import SettingsError

#: Tables that have modules of their own; ``create_all`` makes them with the others.
OWN_TABLES: Final = (catalogue.catalogue, commitments.commitments, workitems.workitems, workitems.verdicts)
_BUSY_MS: Final = 30_000
_LOCK: Final = 4_711  # of pg_advisory_xact_lock: one writer of instances and sweeps at a time


@dataclass(frozen=True)
class Database:
    """An open database."""

    engine: Engine

    @property
    def is_sqlite(self) -> bool:
        """Whether it is the embedded one."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def write(self, *, alone: bool = False) -> Iterator[Connection]:
        """A transaction that may write; committed at the end unless something was raised.

        Parameters
        ----------
        alone
            No other ``alone`` transaction runs meanwhile (on SQLite no other writer ever does).
        """
        with self.engine.begin() as connection:
            if alone and not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads, and holds up no writer."""
        with self.engine.connect().execution_options(only_reads=True) as connection:
            yield connection

    def integrity(self) -> str:
        """``"ok"``, or what ``PRAGMA integrity_check`` found; PostgreSQL is not asked."""
        if not self.is_sqlite:
            return "ok"
        with self.read() as connection:
            return str(connection.execute(text("PRAGMA integrity_check")).scalar())

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def open_database(where: str | Path) -> Database:
    """Open a database and make its tables if they are not there.

    Parameters
    ----------
    where
        A SQLite file, or ``postgresql://user@host/name`` (the password is PostgreSQL's matter:
        ``PGPASSFILE`` or a socket).

    Raises
    ------
    SettingsError
        If it cannot be opened, or a newer hounsfield made its tables.
    """
    engine = _engine(where)
    database = Database(engine)
    try:
        with database.write(alone=True) as connection:
            tables.metadata.create_all(connection)
            for index in tables.studies.indexes:  # a table of an older hounsfield may lack it
                index.create(connection, checkfirst=True)
            found = connection.execute(select(tables.about.c.schema)).scalar()
            if found is None:
                connection.execute(insert(tables.about).values(schema=tables.SCHEMA))
    except SQLAlchemyError as error:
        engine.dispose()
        fact = f"the database cannot be opened ({type(error).__name__})"
        raise SettingsError(fact, "check its path or URL, its permissions, and that it runs", _shown(where)) from error
    if found not in (None, tables.SCHEMA):
        engine.dispose()
        fact = f"the database has schema {found}, this hounsfield knows {tables.SCHEMA}"
        raise SettingsError(fact, "use the hounsfield that made it, or a newer one", _shown(where))
    return database


def is_full(error: BaseException) -> bool:
    """Whether a database error says that there is no space left."""
    said = str(error.orig if isinstance(error, DBAPIError) else error).lower()
    return any(words in said for words in ("disk is full", "no space left", "disk i/o error"))


def _shown(where: str | Path) -> str:
    return "postgresql" if "://" in str(where) else str(where)


def _engine(where: str | Path) -> Engine:
    """The engine; its errors never quote the values of a statement, which name patients."""
    if isinstance(where, str) and where.startswith("postgresql://"):
        driven = where.replace("postgresql://", "postgresql+psycopg://", 1)
        return create_engine(driven, pool_pre_ping=True, hide_parameters=True)
    if isinstance(where, str) and "://" in where:
        raise SettingsError(
            "the database is neither a file nor PostgreSQL", "give a path or postgresql://user@host/name"
        )
    engine = create_engine(f"sqlite:///{where}", connect_args={"timeout": _BUSY_MS / 1000}, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say so, not where the driver guesses
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get("only_reads")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
