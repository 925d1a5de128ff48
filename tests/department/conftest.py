"""Both databases: the embedded one, and a PostgreSQL of Debian that the tests start on a socket of its own."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from hounsfield.department.database import Database, open_database

_PLACES = (Path("/usr/lib/postgresql"), Path(__file__).resolve().parents[2] / ".tools/root/usr/lib/postgresql")
_NOBODY = 65534
_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The folder of a running server's socket; the server listens on nothing else."""
    initdb = next(found for place in _PLACES for found in sorted(place.glob("*/bin/initdb")))
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    who = {"user": _NOBODY, "group": _NOBODY} if os.geteuid() == 0 else {}
    if who:
        os.chown(folder, _NOBODY, _NOBODY)
    cluster = str(folder / "db")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": _environment(initdb)}
    command = [str(initdb), "-D", cluster, "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
    subprocess.run(command, check=True, cwd=folder, **who, **quiet)  # type: ignore[call-overload]
    options = ["-k", str(folder), "-c", "listen_addresses=", "-c", "fsync=off"]
    server = subprocess.Popen(  # type: ignore[call-overload]
        [str(initdb.with_name("postgres")), "-D", cluster, *options], cwd=folder, **who, **quiet
    )
    try:
        ready = [str(initdb.with_name("pg_isready")), "-h", str(folder), "-t", "1"]
        while subprocess.run(ready, check=False, **quiet).returncode:  # type: ignore[call-overload]
            assert server.poll() is None
        yield str(folder)
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _environment(program: Path) -> dict[str, str]:
    """Where the server was only unpacked, it finds its libraries beside it."""
    unpacked = next((up for up in program.parents if up.name == "root" and up.parent.name == ".tools"), None)
    if unpacked is None:
        return dict(os.environ)
    folders = sorted({str(path.parent) for path in unpacked.rglob("*.so*")})
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(folders)}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind."""
    where: str | Path = tmp_path / "state.sqlite"
    if request.param == "postgresql":
        socket, name = request.getfixturevalue("postgresql"), f"t{next(_numbers)}"
        with psycopg.connect(f"host={socket} user=tester dbname=postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
        where = f"postgresql://tester@/{name}?host={socket}"
    found = open_database(where)
    yield found
    found.close()
