"""`strata check --table` opens the files of tables as a scan would, and names each that it could not read."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from service_kit import Warehouse, numbers

from strata.checks import look_at_tables
from strata.config import Settings


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    path = tmp_path / "warehouse"
    path.mkdir()
    return Warehouse(path, SqlCatalog("strata", uri=f"sqlite:///{path}/catalog.db", warehouse=str(path)))


@pytest.fixture
def settings(warehouse: Warehouse) -> Settings:
    return Settings(deployment_mode="service", warehouses={"wh": str(warehouse.path)})


def test_sound_tables(settings: Settings, warehouse: Warehouse) -> None:
    """Nothing is said, of one table and of all of a warehouse; an empty table has no files."""
    warehouse.create(numbers(3))
    warehouse.catalog.create_table("db.empty", schema=numbers(1).schema)
    assert [] == list(look_at_tables(settings, ["wh:db.events", "wh"]))


def test_each_unreadable_table_is_named(settings: Settings, warehouse: Warehouse, tmp_path: Path) -> None:
    """A file that lost its end, one that is gone, one elsewhere, lost metadata; the sound table is not named."""
    warehouse.create(numbers(3))
    for name in ("cut", "gone"):
        warehouse.create(numbers(3), f"db.{name}")
    [cut] = (warehouse.path / "db" / "cut" / "data").glob("*.parquet")
    cut.write_bytes(cut.read_bytes()[:-50])
    [gone] = (warehouse.path / "db" / "gone" / "data").glob("*.parquet")
    gone.unlink()
    pq.write_table(numbers(3), tmp_path / "elsewhere.parquet")
    outside = warehouse.catalog.create_table("db.outside", schema=numbers(1).schema)
    outside.add_files([f"file://{tmp_path}/elsewhere.parquet"])
    lost = warehouse.create(numbers(3), "db.lost")
    Path(lost.metadata_location.removeprefix("file://")).unlink()

    found = list(look_at_tables(settings, ["wh"]))
    assert [
        ("wh:db.cut", "(data_unreadable)."), ("wh:db.gone", "(data_unreadable)."),
        ("wh:db.lost", "(data_unreadable)."), ("wh:db.outside", "(file_outside_warehouse)."),
    ] == [(line.partition(": ")[0], line.rpartition(" ")[2]) for line in found]  # fmt: skip
    assert cut.name in found[0]
    assert found[3:] == list(look_at_tables(settings, ["wh:db.outside"]))


def test_what_is_no_table(settings: Settings, tmp_path: Path) -> None:
    """A table that is not there, no URI at all, and a warehouse whose directory is missing."""
    away = Settings(deployment_mode="service", warehouses={"away": str(tmp_path / "away")})
    assert ["wh:db.none: Table not found (not_found)."] == list(look_at_tables(settings, ["wh:db.none"]))
    [line] = look_at_tables(settings, ["nonsense"])
    assert line.startswith("nonsense: ")
    [line] = look_at_tables(away, ["away"])
    assert "(warehouse_missing)." in line
