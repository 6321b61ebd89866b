"""A PostgreSQL server for tests, on a socket in a temporary directory."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from programs import need

from strata.artifacts import SqlMetadataStore
from strata.artifacts.database.postgres import PostgresDatabase
from strata.postgres_address import parse_dsn

_OWNER = "postgres" if os.geteuid() == 0 else None


@contextmanager
def postgres() -> Iterator[str]:
    """Start a server; returns the URL of its database."""
    initdb, control = need("initdb"), need("pg_ctl")
    directory = Path(tempfile.mkdtemp(prefix="pg-"))
    if _OWNER is not None:
        shutil.chown(directory, _OWNER)
    data = directory / "data"

    def run(*command: object) -> None:
        subprocess.run([str(part) for part in command], check=True, user=_OWNER, stdout=subprocess.DEVNULL)

    run(initdb, "-D", data, "-U", "owner", "-A", "trust", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories='{directory}' -c fsync=off"
    run(control, "-D", data, "-w", "-l", directory / "log", "-o", options, "start")
    try:
        yield f"postgresql+psycopg://owner@/postgres?host={directory}"
    finally:
        run(control, "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Return the URL of a PostgreSQL server that the tests of this process share."""
    with postgres() as url:
        yield url


_numbers = itertools.count()


def new_database(server: str) -> str:
    """Create an empty database on a server; returns its URL."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[arg-type]  # a literal of ours
    return server.replace("/postgres?", f"/{name}?")


def new_store(server: str, now: Callable[[], float], connections: int = 16) -> SqlMetadataStore:
    """Return a metadata store in a new database of a server."""
    return SqlMetadataStore(PostgresDatabase(parse_dsn(new_database(server)), connections), now)


def dsn(url: str, password: str = "a-secret-of-the-database") -> str:
    """Return an address as the setting has it, with a password, which the tests' server does not ask for."""
    return url.replace("+psycopg", "").replace("owner@", f"owner:{password}@")


def restart(server: str) -> None:
    """Restart a server as a crash would: its connections break."""
    _control(server, "restart")


def stop(server: str) -> None:
    """Stop a server as a crash would, until :func:`start`."""
    _control(server, "stop")


def start(server: str) -> None:
    """Start a server that was stopped."""
    _control(server, "start")


def _control(server: str, what: str) -> None:
    directory = Path(server.partition("host=")[2])
    command = [need("pg_ctl"), "-D", str(directory / "data"), "-w", "-l", str(directory / "log")]
    if what != "start":
        command += ["-m", "immediate"]
    options = f"-c listen_addresses='' -c unix_socket_directories='{directory}' -c fsync=off"
    subprocess.run([*command, "-o", options, what], check=True, user=_OWNER, stdout=subprocess.DEVNULL)


def at_revision(url: str, revision: str) -> None:
    """Give an empty database the tables of an older version."""
    config = Config()
    config.set_main_option("script_location", "strata.artifacts:migrations")
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
