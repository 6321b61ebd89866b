"""Resolving table URIs and loading current metadata."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io.pyarrow import PyArrowFileIO

from strata.outcomes import Reason, Refused
from strata.tables import Catalogs, LoadedTable, TableRef
from strata.tables.catalogs import loading
from strata.tables.catalogs.sql_catalog import current_location

SCHEMA = pa.schema([("id", pa.int64())])
REF = TableRef("wh", ("db",), "t")


def catalogs(warehouses=None, named=None, *, anywhere=False):
    return Catalogs(warehouses=warehouses or {}, catalogs=named or {}, any_file_warehouse=anywhere)


def listing(directory: Path) -> set[tuple[str, int]]:
    return {(str(path), path.stat().st_mtime_ns) for path in directory.rglob("*")}


def test_a_directory_that_is_not_configured_cannot_be_named_and_no_file_is_created(tmp_path):
    """Any unconfigured directory is answered like a missing table, whether it exists or not."""
    other = tmp_path / "other"
    other.mkdir()
    configured = tmp_path / "wh"
    configured.mkdir()
    ours = catalogs({"wh": configured})
    missing = ours.load(ours.resolve(f"file://{configured}#db.none"))
    for uri in (f"file://{other}#db.t", f"file://{tmp_path}/absent#db.t", "nope:db.t"):
        assert missing == ours.resolve(uri)
    assert set() == listing(other)
    assert set() == listing(configured)


def test_a_configured_warehouse_without_a_catalog_stays_untouched(tmp_path):
    """A request for a table in an empty directory creates no catalog.db there."""
    ours = catalogs({"wh": tmp_path})
    refused = ours.load(REF)
    assert isinstance(refused, Refused)
    assert Reason.NOT_FOUND is refused.reason
    assert [] == list(tmp_path.iterdir())


def test_reading_a_catalog_changes_nothing_in_its_directory(warehouse):
    """The file is opened read-only: not even a journal appears."""
    warehouse.create(SCHEMA)
    before = listing(warehouse.directory)
    assert isinstance(warehouse.catalogs.load(REF), LoadedTable)
    assert before == listing(warehouse.directory)


def test_an_empty_catalog_file_has_no_tables_and_gets_none(tmp_path):
    """A zero-byte catalog.db is a catalog without tables, and stays zero bytes long."""
    (tmp_path / "catalog.db").touch()
    refused = catalogs({"wh": tmp_path}).load(REF)
    assert isinstance(refused, Refused)
    assert Reason.NOT_FOUND is refused.reason
    assert 0 == (tmp_path / "catalog.db").stat().st_size


def test_two_spellings_and_aliases_of_one_warehouse_give_one_reference(tmp_path):
    """Denying a table denies it under every alias, path and symbolic link of its warehouse."""
    real = tmp_path / "real"
    real.mkdir()
    link = tmp_path / "link"
    link.symlink_to(real)
    ours = catalogs({"first": real, "second": link, "third": tmp_path / "x" / ".." / "real"})
    spellings = [
        f"file://{real}#db.t",
        f"file://{link}/#db.t",
        f"file://{tmp_path}/nowhere/../real#db.t",
        "first:db.t",
        "second:db.t",
        "third:db.t",
    ]
    assert {TableRef("first", ("db",), "t")} == {ours.resolve(uri) for uri in spellings}


def test_a_symbolic_link_made_later_names_nothing(tmp_path):
    """Links are followed once, for the configured directories; never for what a caller names."""
    real = tmp_path / "real"
    real.mkdir()
    ours = catalogs({"wh": real})
    (tmp_path / "later").symlink_to(real)
    refused = ours.resolve(f"file://{tmp_path}/later#db.t")
    assert isinstance(refused, Refused)


def test_a_named_catalog_on_the_same_sqlite_file_shares_the_identity_of_its_tables(warehouse):
    """Two aliases of one catalog name in one file are one catalog; another catalog name is another."""
    uri = f"sqlite:///{warehouse.directory}/catalog.db"
    ours = catalogs({"wh": warehouse.directory}, {"strata": {"type": "sql", "uri": uri}, "b": {"uri": uri}})
    assert TableRef("wh", ("db",), "t") == ours.resolve("strata:db.t")
    assert TableRef("b", ("db",), "t") == ours.resolve("b:db.t")


def test_two_aliases_of_one_rest_catalog_are_one():
    """A REST catalog is identified by its properties, not by its alias."""
    rest = {"type": "rest", "uri": "http://catalog.example/", "warehouse": "w", "token": "one"}
    same = {**rest, "uri": "http://catalog.example"}
    other = {**rest, "warehouse": "v"}
    ours = catalogs(None, {"a": rest, "b": same, "c": other})
    assert ours.resolve("a:db.t") == ours.resolve("b:db.t")
    assert ours.resolve("a:db.t") != ours.resolve("c:db.t")


def test_other_credentials_are_another_catalog(monkeypatch):
    """Tables of the second alias are read with its own credentials, in the file or in pyiceberg's variables."""
    rest = {"type": "rest", "uri": "http://catalog.example/", "warehouse": "w"}
    ours = catalogs(None, {"a": {**rest, "token": "one"}, "b": {**rest, "token": "two"}})
    assert ours.resolve("a:db.t") != ours.resolve("b:db.t")

    monkeypatch.setenv("PYICEBERG_CATALOG__B__TOKEN", "from-the-environment")
    ours = catalogs(None, {"a": rest, "b": rest, "c": rest})
    assert TableRef("b", ("db",), "t") == ours.resolve("b:db.t")
    assert TableRef("a", ("db",), "t") == ours.resolve("c:db.t")


def test_one_alias_cannot_name_a_warehouse_and_a_catalog(tmp_path):
    """A configuration with one alias for both is refused at start."""
    with pytest.raises(ValueError, match="both a warehouse and a catalog: x"):
        catalogs({"x": tmp_path}, {"x": {"type": "rest", "uri": "http://catalog.example"}})


def test_personal_mode_may_name_any_directory_that_is_a_warehouse(warehouse):
    """With ``any_file_warehouse`` a directory needs no configuration, and nothing is created in it."""
    warehouse.create(SCHEMA)
    ours = catalogs(anywhere=True)
    table = ours.load(ours.resolve(warehouse.uri()))
    assert isinstance(table, LoadedTable)
    empty = warehouse.directory.parent / "empty"
    empty.mkdir()
    refused = ours.load(ours.resolve(f"file://{empty}#db.t"))
    assert Reason.NOT_FOUND is refused.reason
    assert set() == listing(empty)
    ours.close()


def test_an_unchanged_table_is_the_same_object_and_a_commit_is_noticed_at_once(warehouse):
    """Metadata is parsed once per location; the location is read every time."""
    warehouse.create(SCHEMA)
    first = warehouse.catalogs.load(REF)
    assert first is warehouse.catalogs.load(REF)
    warehouse.append([{"id": 1}])
    second = warehouse.catalogs.load(REF)
    assert first.metadata_location != second.metadata_location
    assert first.uuid == second.uuid


def test_a_commit_by_another_process_is_noticed_at_once(warehouse):
    """A connection that is kept open does not hide the commit."""
    warehouse.create(SCHEMA)
    before = warehouse.catalogs.load(REF)
    script = (
        "import sys, pyarrow as pa\n"
        "from pyiceberg.catalog.sql import SqlCatalog\n"
        "d = sys.argv[1]\n"
        "c = SqlCatalog('strata', uri=f'sqlite:///{d}/catalog.db', warehouse=f'file://{d}')\n"
        "c.load_table('db.t').append(pa.table({'id': pa.array([1], pa.int64())}))\n"
    )
    subprocess.run([sys.executable, "-c", script, str(warehouse.directory)], check=True)
    after = warehouse.catalogs.load(REF)
    assert before.metadata_location != after.metadata_location
    assert [{"id": 1}] == warehouse.rows()


def test_a_replaced_catalog_file_is_noticed(warehouse, tmp_path):
    """A restored backup under the same name is read, not the file opened before."""
    warehouse.create(SCHEMA)
    copy = tmp_path / "backup.db"
    shutil.copy(warehouse.directory / "catalog.db", copy)
    old = warehouse.catalogs.load(REF)
    warehouse.append([{"id": 1}])
    assert old.metadata_location != warehouse.catalogs.load(REF).metadata_location
    copy.replace(warehouse.directory / "catalog.db")
    assert old.metadata_location == warehouse.catalogs.load(REF).metadata_location


def test_a_renamed_table_is_missing_under_its_old_name(warehouse):
    """Names are those in the catalog now."""
    warehouse.create(SCHEMA)
    warehouse.catalog.rename_table("db.t", "db.u")
    assert Reason.NOT_FOUND is warehouse.catalogs.load(REF).reason
    assert isinstance(warehouse.catalogs.load(TableRef("wh", ("db",), "u")), LoadedTable)


def test_a_damaged_catalog_file_is_unavailable_and_names_no_path(tmp_path):
    """The refusal is UNAVAILABLE (503) with the alias, not an internal error."""
    (tmp_path / "catalog.db").write_bytes(b"this is no database" * 100)
    refused = catalogs({"wh": tmp_path}).load(REF)
    assert isinstance(refused, Refused)
    assert Reason.UNAVAILABLE is refused.reason
    assert refused.retry_after is not None
    assert refused.retry_after >= 1
    assert "wh" in refused.detail
    assert str(tmp_path) not in refused.detail


@pytest.mark.parametrize("lost", ["removed", "emptied", "its directory", "a pipe"])
@pytest.mark.parametrize("again", [False, True])
def test_a_catalog_that_is_gone_is_unavailable(warehouse, lost, *, again):
    """A lost file or mount is a 503: a 404 would say that its tables were dropped."""
    warehouse.create(SCHEMA)
    ours = catalogs({"wh": warehouse.directory})
    if again:
        assert isinstance(ours.load(REF), LoadedTable)
    file = warehouse.directory / "catalog.db"
    file.unlink()
    match lost:
        case "emptied":
            file.touch()
        case "its directory":
            warehouse.directory.rename(warehouse.directory.with_name("elsewhere"))
        case "a pipe":
            os.mkfifo(file)

    assert ours.peek(REF) is None
    refused = ours.load(REF)
    assert isinstance(refused, Refused)
    code = "warehouse_missing" if lost == "its directory" else "catalog_unavailable"
    assert (Reason.UNAVAILABLE, code) == (refused.reason, refused.code)


def test_a_configured_directory_that_is_missing_is_unavailable(tmp_path):
    """A mount that is absent at the start, too; where any directory may be named, a missing one is a 404."""
    refused = catalogs({"wh": tmp_path / "absent"}).load(REF)
    assert Reason.UNAVAILABLE is refused.reason
    named = catalogs(anywhere=True)
    assert Reason.NOT_FOUND is named.load(named.resolve(f"file://{tmp_path}/absent#db.t")).reason


def test_a_catalog_file_from_before_views_is_read(warehouse):
    """Catalogs of the first schema version have no iceberg_type column."""
    warehouse.create(SCHEMA)
    with sqlite3.connect(warehouse.directory / "catalog.db") as connection:
        connection.execute("ALTER TABLE iceberg_tables DROP COLUMN iceberg_type")
    connection.close()
    assert isinstance(warehouse.catalogs.load(REF), LoadedTable)


def test_an_unreachable_catalog_is_unavailable_and_leaks_no_property():
    """The refusal contains neither the address, nor the token, nor the client's message."""
    properties = {"type": "rest", "uri": "http://127.0.0.1:9/secret-path", "token": "secret-token"}
    ours = catalogs(None, {"prod": properties})
    refused = ours.load(ours.resolve("prod:db.t"))
    assert isinstance(refused, Refused)
    assert Reason.UNAVAILABLE is refused.reason
    assert "The catalog prod is unavailable" == refused.detail
    assert "secret" not in repr(refused)


def test_a_catalog_that_knows_no_such_table_says_not_found(monkeypatch):
    """A missing table of a named catalog is refused exactly like a warehouse's."""

    class Empty:
        def load_table(self, identifier):
            raise NoSuchTableError(f"secret {identifier}")

    given = {}

    def open_catalog(alias, properties, _caller):
        given[alias] = properties
        return Empty()

    monkeypatch.setattr("strata.tables.catalogs.loading.open_catalog", open_catalog)
    ours = catalogs(None, {"prod": {"type": "sql", "uri": "postgresql://db.example/x"}})
    assert catalogs().resolve("nope:db.t") == ours.load(ours.resolve("prod:db.t"))
    assert "false" == given["prod"]["init_catalog_tables"]


def test_a_named_sql_catalog_on_sqlite_is_read_like_a_warehouse(warehouse):
    """``[tool.strata.catalogs.<alias>]`` with a sqlite URI is read under its own catalog name."""
    warehouse.create(SCHEMA)
    with sqlite3.connect(warehouse.directory / "catalog.db") as connection:
        connection.execute("UPDATE iceberg_tables SET catalog_name = 'prod'")
    connection.close()
    ours = catalogs(None, {"prod": {"type": "sql", "uri": f"sqlite:///{warehouse.directory}/catalog.db"}})
    assert isinstance(ours.load(ours.resolve("prod:db.t")), LoadedTable)
    ours.close()


def test_properties_of_a_table_cannot_choose_the_file_system_class(warehouse):
    """``py-io-impl`` among a table's properties has no effect: its writers are not the operator."""
    with pytest.raises(AttributeError):  # pyiceberg's own catalog does obey it
        warehouse.create(SCHEMA, properties={"py-io-impl": "this.Nothing"})
    table = warehouse.catalogs.load(REF)
    assert isinstance(table, LoadedTable)
    assert isinstance(table.io, PyArrowFileIO)


def test_a_catalog_that_folds_case_answers_to_the_tables_own_name_only(monkeypatch):
    """Otherwise `prod:DB.Events` would read what the rules deny as `db/events`."""

    class Folding:
        def load_table(self, identifier):
            folded = tuple(part.lower() for part in identifier)
            return SimpleNamespace(
                name=lambda: folded, metadata=SimpleNamespace(table_uuid="u"), metadata_location="m", io=None
            )

    monkeypatch.setattr(
        "strata.tables.catalogs.loading.open_catalog", lambda _alias, _properties, _caller: Folding()
    )
    ours = catalogs(None, {"prod": {"type": "glue"}})
    assert "u" == ours.load(ours.resolve("prod:db.events")).uuid
    for uri in ("prod:DB.events", "prod:db.Events"):
        assert catalogs().resolve("nope:db.t") == ours.load(ours.resolve(uri))


def test_a_database_that_folds_case_answers_to_the_tables_own_name_only(tmp_path):
    """MySQL folds case by default; here SQLite does, below pyiceberg's own catalog."""
    catalog = SqlCatalog("prod", uri=f"sqlite:///{tmp_path}/c.db", warehouse=str(tmp_path))
    with catalog.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE iceberg_tables")
        connection.exec_driver_sql(
            "CREATE TABLE iceberg_tables (catalog_name TEXT, table_namespace TEXT COLLATE NOCASE,"
            " table_name TEXT COLLATE NOCASE, metadata_location TEXT, previous_metadata_location TEXT, iceberg_type TEXT)"
        )
        connection.exec_driver_sql(
            "INSERT INTO iceberg_tables VALUES ('prod', 'db', 'events', 'm', NULL, 'TABLE')"
        )
    assert "m" == current_location(catalog, TableRef("prod", ("db",), "events"))
    for namespace, table in (("DB", "events"), ("db", "EVENTS")):
        assert None is current_location(catalog, TableRef("prod", (namespace,), table))


def test_directories_unused_for_longest_are_closed_and_found_again(warehouse, monkeypatch):
    """Any number of directories can be named one after the other; a table in use is not closed in between."""
    monkeypatch.setattr(loading, "DIRECTORIES", 2)
    warehouse.create(SCHEMA)
    ours = catalogs(anywhere=True)
    ref = ours.resolve(warehouse.uri())
    table = ours.load(ref)
    reader = ours._directories[ref.catalog]
    reader.reading += 1
    for number in range(5):
        assert Reason.NOT_FOUND is ours.load(ours.resolve(f"file:///nowhere/{number}#db.t")).reason
    assert reader is ours._directories[ref.catalog]
    assert 2 == len(ours._directories)
    reader.reading -= 1
    for number in range(5):
        ours.load(ours.resolve(f"file:///nowhere/{number}#db.t"))
    assert ref.catalog not in ours._directories
    assert -1 == reader._header._fd
    assert table is ours.load(ref)
    ours.close()
