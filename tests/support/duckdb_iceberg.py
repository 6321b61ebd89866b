"""Read Iceberg tables with DuckDB's Iceberg extension, in a process of its own: some tables end that process."""

from __future__ import annotations

import importlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs
import pyarrow as pa

EXTENSIONS = ("duckdb_extension_avro", "duckdb_extension_iceberg")
"""Packages of PyPI that hold an extension each, in the order in which they must be loaded."""

CRASHED = "the process ended"


@attrs.frozen
class Failure:
    """What DuckDB said instead of rows: its first line, without paths."""

    sentence: str


class DuckdbIceberg:
    """DuckDB with the extension, which reads a table by the location of its metadata file."""

    def __init__(self) -> None:
        self._pool = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def read(self, location: str) -> pa.Table | Failure:
        """Return all rows of the table's current snapshot, times in UTC."""
        try:
            return self._pool.submit(_read, location).result()
        except BrokenProcessPool:
            self._pool = self._start()
            return Failure(CRASHED)

    @staticmethod
    def _start() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def extension(package: str) -> Path:
    """Return the path of the extension that a package of PyPI holds."""
    folder = Path(importlib.import_module(package).__path__[0])
    (path,) = folder.rglob("*.duckdb_extension")
    return path


def _read(location: str) -> pa.Table | Failure:
    import duckdb  # noqa: PLC0415  # another release than Strata's own, in this process only

    # A connection a table: an internal error makes it useless.
    with duckdb.connect(config={"allow_unsigned_extensions": "true", "threads": "1"}) as connection:
        for package in EXTENSIONS:
            connection.execute(f"LOAD '{extension(package)}'")
        connection.execute("SET TimeZone = 'UTC'; SET arrow_lossless_conversion = true")
        try:
            return connection.execute("SELECT * FROM iceberg_scan(?)", [location]).to_arrow_table()
        except duckdb.Error as error:
            return Failure(str(error).splitlines()[0])
