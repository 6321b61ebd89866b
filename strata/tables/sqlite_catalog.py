"""The current metadata location of a table in a pyiceberg ``SqlCatalog`` on SQLite, in one SELECT.

pyiceberg's own ``SqlCatalog`` creates the file and its tables when they are absent and goes through an ORM;
this reader opens the file read-only, so naming a directory never creates anything in it, and costs a few
microseconds, so that every request can ask for the present truth.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import deque
from urllib.parse import quote

from strata.tables.refs import TableRef

_CURRENT = (
    "SELECT metadata_location FROM iceberg_tables"
    " WHERE catalog_name = ? AND table_namespace = ? AND table_name = ?"
    " AND (iceberg_type IS NULL OR iceberg_type = 'TABLE')"
)
# Catalog files written before views existed have no iceberg_type column (JdbcCatalog schema v0).
_CURRENT_V0 = (
    "SELECT metadata_location FROM iceberg_tables"
    " WHERE catalog_name = ? AND table_namespace = ? AND table_name = ?"
)
_LOCK_TIMEOUT_SECONDS = 5.0
_MAX_IDLE = 8


class CatalogFileError(Exception):
    """The catalog file exists and cannot be read now."""


class SqliteCatalog:
    """Reads one catalog file. Thread-safe: connections are lent to one caller at a time.

    A connection is dropped when the file at the path is another one than it opened, so a catalog that was
    replaced is noticed like any other commit.
    """

    def __init__(self, path: str, catalog_name: str) -> None:
        self._path = path
        self._catalog_name = catalog_name
        self._idle: deque[tuple[sqlite3.Connection, tuple[int, int]]] = deque()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<SqliteCatalog {self._path!r} {self._catalog_name!r}>"

    def metadata_location(self, ref: TableRef) -> str | None:
        """Return where the table's current metadata is; ``None`` if there is no such table or no catalog.

        Raises:
            CatalogFileError: If the file is locked, damaged or not readable by this process.
        """
        try:
            status = os.stat(self._path)  # noqa: PTH116 - a Path object would double the cost of this call
        except FileNotFoundError:
            return None
        except OSError as cause:
            raise CatalogFileError from cause
        identity = (status.st_dev, status.st_ino)
        try:
            connection = self._borrow(identity)
            try:
                location = self._select(connection, ref)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as cause:
            raise CatalogFileError from cause
        self._give_back(connection, identity)
        return location

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, deque()
        for connection, _ in idle:
            connection.close()

    def _select(self, connection: sqlite3.Connection, ref: TableRef) -> str | None:
        key = (self._catalog_name, ".".join(ref.namespace), ref.table)
        try:
            row = connection.execute(_CURRENT, key).fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return None
            if "no such column" not in str(error):
                raise
            row = connection.execute(_CURRENT_V0, key).fetchone()
        return None if row is None else row[0]

    def _borrow(self, identity: tuple[int, int]) -> sqlite3.Connection:
        while True:
            with self._lock:
                if not self._idle:
                    break
                connection, opened = self._idle.pop()
            if opened == identity:
                return connection
            connection.close()
        return sqlite3.connect(
            f"file:{quote(self._path)}?mode=ro",
            uri=True,
            isolation_level=None,
            timeout=_LOCK_TIMEOUT_SECONDS,
            check_same_thread=False,
        )

    def _give_back(self, connection: sqlite3.Connection, identity: tuple[int, int]) -> None:
        with self._lock:
            if len(self._idle) < _MAX_IDLE:
                self._idle.append((connection, identity))
                return
        connection.close()
