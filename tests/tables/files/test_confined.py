"""A table's metadata may name any file; only files in its own warehouse are read."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from strata.outcomes import Reason, Refused
from strata.tables import Catalogs, expand_file, parse_scan_params, plan_files, read_row_group, resolve_scan

SECRET = pa.table({"id": pa.array([1, 2], pa.int64())})


def warehouse(path: Path) -> SqlCatalog:
    path.mkdir()
    made = SqlCatalog("strata", uri=f"sqlite:///{path / 'catalog.db'}", warehouse=str(path))
    made.create_namespace("db")
    return made


def scanned(catalogs: Catalogs, name: str = "mine:db.t") -> list | Refused:
    table = catalogs.load(catalogs.resolve(name))
    if isinstance(table, Refused):
        return table
    plan = plan_files(resolve_scan(table, parse_scan_params({})))
    if isinstance(plan, Refused):
        return plan
    rows: list = []
    for file in plan.files:
        tasks = expand_file(plan, file)
        if isinstance(tasks, Refused):
            return tasks
        for task in tasks:
            batches = read_row_group(plan, task, batch_rows=10)
            if isinstance(batches, Refused):
                return batches
            rows += [row for batch in batches for row in batch.to_pylist()]
    return rows


@pytest.fixture
def mine(tmp_path: Path) -> SqlCatalog:
    return warehouse(tmp_path / "mine")


@pytest.fixture
def catalogs(tmp_path: Path, mine) -> Catalogs:
    return Catalogs(warehouses={"mine": tmp_path / "mine"}, catalogs={}, any_file_warehouse=False)


@pytest.mark.parametrize(
    "spelled", ["{path}", "file://{path}", "{mine}/../theirs/secret.parquet", "{mine}/link.parquet"]
)
def test_a_data_file_of_another_warehouse_is_not_read(
    tmp_path: Path, mine, catalogs: Catalogs, spelled: str
) -> None:
    """Plain paths, paths with dots and links are refused; the refusal contains no path."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    pq.write_table(SECRET, theirs / "secret.parquet")
    (tmp_path / "mine" / "link.parquet").symlink_to(theirs / "secret.parquet")
    location = spelled.format(path=theirs / "secret.parquet", mine=tmp_path / "mine")
    table = mine.create_table("db.t", schema=SECRET.schema)
    table.add_files([location])

    found = scanned(catalogs)
    assert isinstance(found, Refused)
    assert (Reason.DATA_UNREADABLE, "file_outside_warehouse") == (found.reason, found.code)
    assert str(tmp_path) not in found.detail


def test_metadata_outside_of_the_warehouse_is_not_read(tmp_path: Path, mine, catalogs: Catalogs) -> None:
    """A table in another place is refused by the location of its metadata file."""
    mine.create_table("db.t", schema=SECRET.schema, location=str(tmp_path / "elsewhere")).append(SECRET)
    found = scanned(catalogs)
    assert isinstance(found, Refused)
    assert "file_outside_warehouse" == found.code


def test_a_directory_with_the_same_beginning_is_another_one(tmp_path: Path, mine, catalogs: Catalogs) -> None:
    """``mine-too`` is not below ``mine``."""
    (tmp_path / "mine-too").mkdir()
    pq.write_table(SECRET, tmp_path / "mine-too" / "secret.parquet")
    mine.create_table("db.t", schema=SECRET.schema).add_files([str(tmp_path / "mine-too" / "secret.parquet")])
    assert isinstance(scanned(catalogs), Refused)


def test_files_brought_in_from_the_same_warehouse_are_read(tmp_path: Path, mine, catalogs: Catalogs) -> None:
    """Files added by ``add_files`` are read; the warehouse may be reached through a link."""
    pq.write_table(SECRET, tmp_path / "mine" / "own.parquet")
    mine.create_table("db.t", schema=SECRET.schema).add_files([str(tmp_path / "mine" / "own.parquet")])
    (tmp_path / "linked").symlink_to(tmp_path / "mine")
    linked = Catalogs(warehouses={"mine": tmp_path / "linked"}, catalogs={}, any_file_warehouse=False)
    assert SECRET.to_pylist() == scanned(catalogs) == scanned(linked)
