"""A named SQL catalog on a real PostgreSQL server."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa
from programs import need
from pyiceberg.catalog.sql import SqlCatalog

from strata.outcomes import Reason, Refused
from strata.tables import Catalogs, LoadedTable
from strata.tables.catalogs import sql_catalog
from strata.tables.catalogs.remote_catalogs import open_catalog

pytestmark = pytest.mark.slow
_OWNER = "postgres" if os.geteuid() == 0 else None


@pytest.fixture(scope="module")
def server() -> Iterator[Path]:
    """Start a PostgreSQL server on a socket in a temporary directory."""
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
    yield directory
    run(control, "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(directory)


@pytest.fixture
def uri(server: Path) -> str:
    return f"postgresql+psycopg://owner@/postgres?host={server}"


def test_a_catalog_on_postgresql_is_read_and_its_commits_are_noticed(uri, tmp_path):
    """A load costs one SELECT; metadata is parsed once per location; nothing is created."""
    ours = Catalogs(warehouses={}, catalogs={"prod": {"type": "sql", "uri": uri}}, any_file_warehouse=False)
    ref = ours.resolve("prod:db.t")
    before = ours.load(ref)
    assert isinstance(before, Refused)
    writer = SqlCatalog("prod", uri=uri, warehouse=f"file://{tmp_path}")
    writer.create_namespace("db")
    missing = ours.load(ref)
    assert isinstance(missing, Refused)
    assert Reason.NOT_FOUND is missing.reason
    schema = pa.schema([("id", pa.int64())])
    table = writer.create_table("db.t", schema)
    first = ours.load(ref)
    assert isinstance(first, LoadedTable)
    assert first is ours.load(ref)
    table.append(pa.table({"id": pa.array([1], pa.int64())}))
    second = ours.load(ref)
    assert isinstance(second, LoadedTable)
    assert first.metadata_location != second.metadata_location
    ours.close()
    writer.close()


def test_a_stopped_database_is_unavailable_and_names_only_the_alias(tmp_path):
    """The refusal contains neither the address nor the user."""
    properties = {"type": "sql", "uri": f"postgresql+psycopg://secret@/postgres?host={tmp_path}"}
    ours = Catalogs(warehouses={}, catalogs={"prod": properties}, any_file_warehouse=False)
    refused = ours.load(ours.resolve("prod:db.t"))
    assert isinstance(refused, Refused)
    assert Reason.UNAVAILABLE is refused.reason
    assert "secret" not in repr(refused)
    assert str(tmp_path) not in repr(refused)


def test_a_statement_on_postgresql_has_a_deadline(uri, monkeypatch):
    """The server ends a statement that nobody may be waiting for any more."""
    monkeypatch.setattr(sql_catalog, "STATEMENT_SECONDS", 0.05)
    ours = open_catalog("prod", {"type": "sql", "uri": uri, "init_catalog_tables": "false"})
    with ours.engine.connect() as connection, pytest.raises(sa.exc.OperationalError, match="timeout"):
        connection.execute(sa.text("SELECT pg_sleep(60)"))
    ours.close()
