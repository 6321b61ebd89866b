"""Find a table's metadata location in a pyiceberg ``SqlCatalog`` on SQLite with one SELECT.

pyiceberg's own ``SqlCatalog`` creates the file and its tables when they are absent, and uses an ORM. This
reader opens the file read-only, so that naming a directory creates nothing in it, and takes microseconds, so
that every request can read the current location.

A hand-over to a worker thread costs ten times as much as the SELECT. So a location is cached with the file's
change counter (SQLite's file format, "File change counter": with a rollback journal, every transaction that
changes the file increments the counter before it commits). The counter is read while the SELECT's lock
excludes writers: while the counter is unchanged, the location is, too.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import deque
from urllib.parse import quote

from cachetools import LRUCache

from strata.tables.catalogs.refs import TableRef

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
"""Wait for a writer's lock on the file; afterwards the file counts as unavailable."""
_MAX_IDLE = 8
"""Idle connections kept per file; more are closed."""
_MAX_LOCATIONS = 1024
"""Tables per file whose location is cached; beyond, the least recently read goes."""

_HEADER_BYTES = 28
_WRITE_VERSION, _ROLLBACK_JOURNAL = 18, 1
_CHANGE_COUNTER = slice(24, 28)
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)

Identity = tuple[int, int]
"""Device and inode."""


class CatalogFileError(Exception):
    """The catalog file exists and cannot be read now."""


class SqliteCatalog:
    """Reads one catalog file. Thread-safe: a connection is lent to one caller at a time.

    A connection is closed when the path no longer names the file it opened, so a replaced catalog file is
    noticed like any commit.

    Args:
        path: Path of the file; it need not exist.
        catalog_name: Value of ``catalog_name`` in the rows to read.
    """

    def __init__(self, path: str, catalog_name: str) -> None:
        self._path = path
        self._catalog_name = catalog_name
        self._idle: deque[tuple[sqlite3.Connection, Identity]] = deque()
        self._lock = threading.Lock()
        self._header = _Header()
        self._known: LRUCache[TableRef, tuple[Identity, bytes, str]] = LRUCache(_MAX_LOCATIONS)

    def __repr__(self) -> str:
        return f"<SqliteCatalog {self._path!r} {self._catalog_name!r}>"

    def peek(self, ref: TableRef) -> str | None:
        """Return the location of the table's current metadata if no I/O has to be waited for, else ``None``.

        Costs one ``stat`` and one non-blocking read (``RWF_NOWAIT``), which network file systems do not
        support: for them the result is always ``None``.
        """
        with self._lock:
            known = self._known.get(ref)
        if known is None:
            return None
        identity, counter, location = known
        if self._header.counter(identity) != counter or not self._is_current_file(identity):
            return None
        return location

    def metadata_location(self, ref: TableRef) -> str | None:
        """Return the location of the table's current metadata; blocking. ``None``: no such table or file.

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
                location = self._read_location(connection, ref, identity)
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
        self._header.close()

    def _is_current_file(self, identity: Identity) -> bool:
        try:
            status = os.stat(self._path)  # noqa: PTH116 - a Path object would double the cost of this call
        except OSError:
            return False
        return identity == (status.st_dev, status.st_ino)

    def _read_location(self, connection: sqlite3.Connection, ref: TableRef, identity: Identity) -> str | None:
        """Read the location, and cache it with the change counter it belongs to."""
        connection.execute("BEGIN")
        location = self._select(connection, ref)
        # The transaction's lock keeps writers out of the file until it ends.
        counter = self._header.open(self._path, identity)
        connection.execute("COMMIT")
        with self._lock:
            if location is None or counter is None:
                self._known.pop(ref, None)
            else:
                self._known[ref] = (identity, counter, location)
        return location

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

    def _borrow(self, identity: Identity) -> sqlite3.Connection:
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

    def _give_back(self, connection: sqlite3.Connection, identity: Identity) -> None:
        with self._lock:
            if len(self._idle) < _MAX_IDLE:
                self._idle.append((connection, identity))
                return
        connection.close()


class _Header:
    """The header of a catalog file, read through a descriptor that stays open.

    The descriptor is closed only when the file was replaced or the catalog is closed: when a process closes
    *any* descriptor of a file, POSIX releases all its locks on that file, those of SQLite's connections
    included.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fd = -1
        self._identity: Identity | None = None

    def open(self, path: str, identity: Identity) -> bytes | None:
        """Return the change counter of the file at ``path``; ``None`` as for :meth:`counter`."""
        with self._lock:
            if self._identity != identity:
                self._close()
                try:
                    self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                except OSError:
                    return None
                status = os.fstat(self._fd)
                self._identity = (status.st_dev, status.st_ino)
        return self.counter(identity)

    def counter(self, identity: Identity) -> bytes | None:
        """Return the change counter; ``None`` if a read would wait or commits do not change it."""
        header = bytearray(_HEADER_BYTES)
        with self._lock:
            if self._identity != identity or not _NOWAIT:
                return None
            try:
                if os.preadv(self._fd, [header], 0, _NOWAIT) != _HEADER_BYTES:
                    return None
            except OSError:
                return None
        if header[_WRITE_VERSION] != _ROLLBACK_JOURNAL:
            return None  # with a write-ahead log, commits do not change the counter
        return bytes(header[_CHANGE_COUNTER])

    def close(self) -> None:
        """Close the descriptor."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._identity = -1, None
