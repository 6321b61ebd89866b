"""These tests need Spark and DuckDB's Iceberg extension, which are in no other environment: ``nox -s oracles``."""

from __future__ import annotations

import importlib.util
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from duckdb_iceberg import EXTENSIONS, DuckdbIceberg
from programs import need
from pyiceberg.catalog.sql import SqlCatalog
from scanning import scan_table
from spark_iceberg import JARS, SparkLake

from strata.outcomes import Refused
from strata.tables import Catalogs

if any(importlib.util.find_spec(name) is None for name in ("pyspark", JARS, *EXTENSIONS)):
    collect_ignore_glob = ["test_*.py"]

REPLACE = (
    "REPLACE INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location) "
    "VALUES ('strata', 'db', ?, ?)"
)


class Strata:
    """Strata's own scans of tables that are known by their metadata files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        SqlCatalog("strata", uri=f"sqlite:///{folder}/catalog.db", warehouse=str(folder)).close()
        self._catalogs = Catalogs(warehouses={"wh": folder}, catalogs={}, any_file_warehouse=False)

    def close(self) -> None:
        self._catalogs.close()

    def scan(self, location: str, /, name: str = "t", **params: object) -> pa.Table | Refused:
        """Scan the table whose metadata file is at ``location``."""
        with sqlite3.connect(self._folder / "catalog.db") as catalog:
            catalog.execute(REPLACE, (name, location))
        return scan_table(self._catalogs, f"wh:db.{name}", params)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of all tables: Strata reads no file outside of a warehouse."""
    return tmp_path_factory.mktemp("warehouse")


@pytest.fixture(scope="session")
def spark(folder: Path) -> Iterator[SparkLake]:
    """Return the one Spark of this run."""
    need("java")
    lake = SparkLake(folder)
    yield lake
    lake.close()


@pytest.fixture(scope="session")
def duckdb() -> Iterator[DuckdbIceberg]:
    with DuckdbIceberg() as one:
        yield one


@pytest.fixture(scope="session")
def strata(folder: Path) -> Iterator[Strata]:
    one = Strata(folder)
    yield one
    one.close()
