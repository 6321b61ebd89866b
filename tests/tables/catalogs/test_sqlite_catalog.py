"""Metadata locations read without a thread always equal those in the catalog file."""

import errno
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from strata.tables.catalogs.refs import TableRef
from strata.tables.catalogs.sqlite_catalog import CatalogFileError, SqliteCatalog

REF = TableRef("wh", ("db",), "t")
OTHER = TableRef("wh", ("db",), "other")
ROWS = pa.table({"id": pa.array([1, 2])})


@pytest.fixture
def catalog(tmp_path: Path) -> SqlCatalog:
    made = SqlCatalog("strata", uri=f"sqlite:///{tmp_path / 'catalog.db'}", warehouse=str(tmp_path))
    made.create_namespace("db")
    made.create_table("db.t", schema=ROWS.schema).append(ROWS)
    return made


@pytest.fixture
def reader(catalog: SqlCatalog, tmp_path: Path):
    found = SqliteCatalog(str(tmp_path / "catalog.db"), "strata")
    yield found
    found.close()


def place(catalog: SqlCatalog) -> str:
    return catalog.load_table("db.t").metadata_location


def test_a_commit_is_seen_by_the_next_look(catalog: SqlCatalog, reader: SqliteCatalog) -> None:
    """A peek knows a location only after one load, and until any commit."""
    assert reader.peek(REF) is None
    for _ in range(3):
        assert place(catalog) == reader.metadata_location(REF)
        assert place(catalog) == reader.peek(REF)
        catalog.load_table("db.t").append(ROWS)
        assert reader.peek(REF) is None
    catalog.create_table("db.other", schema=ROWS.schema)
    assert reader.metadata_location(OTHER) == reader.peek(OTHER)


def test_a_dropped_table_is_gone(catalog: SqlCatalog, reader: SqliteCatalog) -> None:
    """Its cached location is not used for a later table of that name."""
    reader.metadata_location(REF)
    catalog.drop_table("db.t")
    assert reader.peek(REF) is None
    assert reader.metadata_location(REF) is None
    assert reader.peek(REF) is None


def test_a_catalog_file_that_was_replaced_is_another_catalog(
    catalog: SqlCatalog, reader: SqliteCatalog, tmp_path: Path
) -> None:
    """A restored backup may have any change counter."""
    before = reader.metadata_location(REF)
    shutil.copy(tmp_path / "catalog.db", tmp_path / "backup.db")
    catalog.load_table("db.t").append(ROWS)
    after = reader.metadata_location(REF)
    assert before != after == reader.peek(REF)
    (tmp_path / "backup.db").rename(tmp_path / "catalog.db")
    assert reader.peek(REF) is None
    assert before == reader.metadata_location(REF) == reader.peek(REF)
    (tmp_path / "catalog.db").unlink()
    assert reader.peek(REF) is None
    with pytest.raises(CatalogFileError):
        reader.metadata_location(REF)


def test_a_write_ahead_log_is_not_peeked_past(
    catalog: SqlCatalog, reader: SqliteCatalog, tmp_path: Path
) -> None:
    """With a write-ahead log, commits do not change the counter."""
    reader.metadata_location(REF)
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    assert place(catalog) == reader.metadata_location(REF)
    assert reader.peek(REF) is None
    catalog.load_table("db.t").append(ROWS)
    assert place(catalog) == reader.metadata_location(REF)


def test_what_is_not_committed_is_not_seen(
    reader: SqliteCatalog, catalog: SqlCatalog, tmp_path: Path
) -> None:
    """A transaction that spills into the file and is rolled back changes nothing."""
    writer = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)
    writer.execute("PRAGMA cache_size=1")
    known = reader.metadata_location(REF)
    for ending, expected in (("ROLLBACK", known), ("COMMIT", "s3://elsewhere")):
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE iceberg_tables SET metadata_location = 's3://elsewhere'")
        assert reader.peek(REF) in (None, known)
        writer.execute("CREATE TABLE IF NOT EXISTS filler (x)")
        writer.executemany("INSERT INTO filler VALUES (?)", [("x" * 3000,)] * 100)  # spills
        assert reader.peek(REF) in (None, known)
        writer.execute(ending)
        assert expected == reader.metadata_location(REF) == reader.peek(REF)
    writer.close()


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EOPNOTSUPP])
def test_a_read_that_would_wait_says_nothing(
    reader: SqliteCatalog, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """When a read would wait for a disk or a network file system, a peek returns ``None``."""
    reader.metadata_location(REF)

    def preadv(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "preadv", preadv)
    assert reader.peek(REF) is None
    assert reader.metadata_location(REF) is not None


@pytest.mark.parametrize("seed", range(5))
def test_a_peek_is_never_other_than_the_catalog(reader: SqliteCatalog, tmp_path: Path, seed: int) -> None:
    """A peek equals the catalog after any sequence of commits, rollbacks and reads."""
    draw = random.Random(seed)
    writer = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)
    current = reader.metadata_location(REF)
    hits = 0
    for step in range(300):
        match draw.choice(["commit", "rollback", "look", "peek", "peek", "other"]):
            case "commit":
                current = f"s3://{step}"
                writer.execute("UPDATE iceberg_tables SET metadata_location = ?", (current,))
            case "rollback":
                writer.execute("BEGIN")
                writer.execute("UPDATE iceberg_tables SET metadata_location = 'never'")
                writer.execute("ROLLBACK")
            case "other":
                writer.execute("CREATE TABLE IF NOT EXISTS unrelated (x)")
                writer.execute("INSERT INTO unrelated VALUES (1)")
            case "look":
                assert current == reader.metadata_location(REF)
            case _:
                peeked = reader.peek(REF)
                hits += peeked is not None
                assert peeked in (None, current)
    assert hits > 10
    writer.close()


def test_locks_of_open_connections_outlive_a_look(
    reader: SqliteCatalog, catalog: SqlCatalog, tmp_path: Path
) -> None:
    """POSIX drops a process's locks on a file when any of its descriptors is closed: none is closed."""
    holder = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    reader.metadata_location(REF)
    reader.peek(REF)
    probe = f"import sqlite3; sqlite3.connect({str(tmp_path / 'catalog.db')!r}, timeout=0).execute('BEGIN IMMEDIATE')"
    assert b"locked" in subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False).stderr
    holder.close()
